#include "mvhg/draw/draw.h"
#include "mvhg/tables/tables_ops.h"

namespace drpm {
namespace {

constexpr const char* kOp = "mvhg_draw";

struct Cpu {
  template <class T>
  static void run(MvhgDrawArgs<T> args, const Tensor&) {
    MvhgExactArgs<T>& common = args.common;
    const MvhgCounts& counts = common.counts;
    const TableBounds bounds = checked_bounds(kOp, common, args.largest_table);
    bool tables = true;  // for all rows
    for (int64_t row = 0; row < counts.batch; ++row)
      tables = tables && counts.n[row * counts.n_stride] <= args.largest_table;
    common.log_factorials = log_factorial_table(bounds.counts.max_m + 1);
    const int64_t cost = tables ? table_cost(bounds, counts.classes) : 30000 * counts.classes * counts.classes;
    for_rows(counts.batch * common.samples, cost, [&](int64_t begin, int64_t end) {
      MvhgDrawArgs<T> task = args;
      const TaskScratch memory([&](Carver& c) {
        place_tables(&c, bounds, false, &task.common);
        task.contours = c.take<double>(contour_scratch(counts.classes));
      });
      mvhg_draw_rows(task, begin, end);
    });
  }
};

struct Cuda {
  template <class T>
  static void run(const MvhgDrawArgs<T>& args, const Tensor& like) {
    MvhgDrawCuda<T> call{args, {}, nullptr, 0, 0};
    const MvhgExactArgs<T>& common = args.common;
    const int64_t batch = common.counts.batch;
    if (batch * common.samples == 0) return;
    call.chunks = exact_chunks(batch, common.samples, false);
    call.group = (common.samples + call.chunks - 1) / call.chunks;
    call.layout = exact_layout_cuda(common, batch * call.chunks, args.largest_table, false,
                                    kExactWarps * contour_scratch(common.counts.classes));
    launch_blocks(kOp, like, &call, [](const auto& c, void* stream) { return mvhg_draw_cuda(c, stream); });
  }
};

template <class Backend>
Tensor mvhg_draw(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& seed, int64_t samples,
                 int64_t largest_table) {
  check_float(kOp, "log_omega", log_omega);
  const MvhgCounts counts = checked_counts(kOp, log_omega, m, n);
  Tensor sizes = new_tensor(log_omega, {samples * counts.batch, counts.classes});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    MvhgDrawArgs<T> args{{}, sizes.mutable_data_ptr<T>(), nullptr, largest_table};
    args.common.counts = counts;
    args.common.samples = samples;
    args.common.log_omega = checked_data<T>(kOp, "log_omega", log_omega, log_omega.numel());
    args.common.seeds = checked_seeds(kOp, seed, counts.batch);
    args.common.use = TableUse::kPlain;
    Backend::run(args, log_omega);
  });
  return sizes;
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) { m.impl("mvhg_draw", TORCH_BOX(&drpm::mvhg_draw<Backend>)); }
