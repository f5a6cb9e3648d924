#include <tuple>

#include "mvhg/tables/exact.h"
#include "mvhg/tables/tables_ops.h"

namespace drpm {
namespace {

constexpr const char* kOp = "mvhg_sample";

struct Cpu {
  template <class T>
  static void sample(MvhgSampleExactArgs<T> args, const Tensor&, int64_t) {
    MvhgExactArgs<T>& common = args.common;
    const TableBounds bounds = checked_bounds(kOp, common);
    common.log_factorials = log_factorial_table(bounds.counts.max_m + 1);
    const int64_t cost = table_cost(bounds, common.counts.classes);
    for_rows(common.counts.batch * common.samples, cost, [&](int64_t begin, int64_t end) {
      MvhgSampleExactArgs<T> task = args;
      const TaskScratch memory([&](Carver& c) { place_tables(&c, bounds, false, &task.common); });
      mvhg_sample_exact_rows(task, begin, end);
    });
  }

  template <class T>
  static void sample_backward(MvhgSampleExactBackwardArgs<T> args, const Tensor&, int64_t) {
    MvhgExactArgs<T>& common = args.common;
    const TableBounds bounds = checked_bounds(kOp, common);
    common.log_factorials = log_factorial_table(bounds.counts.max_m + 1);
    const int64_t cost = 4 * table_cost(bounds, common.counts.classes);
    for_rows(common.counts.batch * args.chunks, cost, [&](int64_t begin, int64_t end) {
      MvhgSampleExactBackwardArgs<T> task = args;
      const TaskScratch memory([&](Carver& c) { place_tables(&c, bounds, true, &task.common); });
      mvhg_sample_exact_backward_groups(task, begin, end);
    });
  }
};

struct Cuda {
  template <class T>
  static void sample(const MvhgSampleExactArgs<T>& args, const Tensor& like, int64_t largest_n) {
    MvhgSampleExactCuda<T> call{args, {}, nullptr, 0, 0, largest_n < 0 ? kLargestUnknownN : largest_n};
    const MvhgExactArgs<T>& common = args.common;
    const int64_t batch = common.counts.batch;
    if (batch * common.samples == 0) return;
    call.chunks = exact_chunks(batch, common.samples, common.counts.order_stride != 0);
    call.group = (common.samples + call.chunks - 1) / call.chunks;
    call.layout = exact_layout_cuda(common, batch * call.chunks, largest_n, false, 0);
    check_layout(call);
    launch_blocks(kOp, like, &call, [](const auto& c, void* stream) { return mvhg_sample_exact_cuda(c, stream); });
  }

  template <class T>
  static void sample_backward(const MvhgSampleExactBackwardArgs<T>& args, const Tensor& like, int64_t largest_n) {
    MvhgSampleExactBackwardCuda<T> call{args, {}, nullptr, largest_n < 0 ? kLargestUnknownN : largest_n};
    const MvhgCounts& counts = args.common.counts;
    call.layout =
        exact_layout_cuda(args.common, counts.batch * args.chunks, largest_n, true, 2 * args.group * counts.classes);
    check_layout(call);
    launch_blocks(kOp, like, &call,
                  [](const auto& c, void* stream) { return mvhg_sample_exact_backward_cuda(c, stream); });
  }

 private:
  // What the CPU refuses is refused here, too, as far as the host knows n.
  template <class Call>
  static void check_layout(const Call& call) {
    check_task_memory(kOp, static_cast<double>(block_bytes(call.layout)), call.largest_n, call.layout.classes, "block");
  }
};

template <class T>
MvhgExactArgs<T> exact_args(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& seed,
                            const Tensor& order, double tau, int64_t samples, bool hard, bool noise, TableUse use) {
  MvhgExactArgs<T> args{};
  args.counts = checked_counts(kOp, log_omega, m, n, order, samples * log_omega.size(0));
  args.samples = samples;
  args.log_omega = checked_data<T>(kOp, "log_omega", log_omega, log_omega.numel());
  args.seeds = checked_seeds(kOp, seed, args.counts.batch);
  args.tau = tau;
  args.hard = hard;
  args.noise = noise;
  args.use = use;
  return args;
}

// `largest_n` bounds n where the host knows a bound, else it is negative.
template <class Backend>
std::tuple<Tensor, Tensor> mvhg_sample_exact(const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                             const Tensor& seed, const Tensor& class_order, double tau, int64_t samples,
                                             bool hard, bool noise, bool with_statistics, int64_t largest_n) {
  check_float(kOp, "log_omega", log_omega);
  const int64_t rows = samples * log_omega.size(0), classes = log_omega.size(1);
  const TableUse use = hard && !with_statistics ? TableUse::kSample : TableUse::kRelaxedSample;
  Tensor sizes = torch::stable::new_empty(log_omega, {rows, classes});
  Tensor statistics = torch::stable::new_empty(log_omega, {with_statistics ? rows : 0, classes, 3}, ScalarType::Double);
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgSampleExactArgs<T> args{exact_args<T>(log_omega, m, n, seed, class_order, tau, samples, hard, noise, use),
                                      sizes.mutable_data_ptr<T>(),
                                      with_statistics ? statistics.mutable_data_ptr<double>() : nullptr};
    Backend::sample(args, log_omega, largest_n);
  });
  return {sizes, statistics};
}

// (B, C, K) float64: to be summed over the C groups of samples.
template <class Backend>
Tensor mvhg_sample_exact_backward(const Tensor& grad_sizes, const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                  const Tensor& seed, const Tensor& class_order, double tau, int64_t samples,
                                  bool noise, const Tensor& statistics, int64_t largest_n) {
  check_float(kOp, "log_omega", log_omega);
  const int64_t chunks = (samples + kSamplesPerGroup - 1) / kSamplesPerGroup, elements = samples * log_omega.numel();
  Tensor grad = torch::stable::new_empty(log_omega, {log_omega.size(0), chunks, log_omega.size(1)}, ScalarType::Double);
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgSampleExactBackwardArgs<T> args{
        exact_args<T>(log_omega, m, n, seed, class_order, tau, samples, true, noise, TableUse::kRelaxedSample),
        checked_data<T>(kOp, "grad", grad_sizes, elements),
        checked_data<double>(kOp, "statistics", statistics, 3 * elements),
        grad.mutable_data_ptr<double>(),
        chunks,
        kSamplesPerGroup};
    Backend::sample_backward(args, log_omega, largest_n);
  });
  return grad;
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("mvhg_sample_exact", TORCH_BOX(&drpm::mvhg_sample_exact<Backend>));
  m.impl("mvhg_sample_exact_backward", TORCH_BOX(&drpm::mvhg_sample_exact_backward<Backend>));
}
