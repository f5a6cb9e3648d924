#include <algorithm>

#include "glue/register.h"
#include "glue/scratch.h"
#include "partition_mode/partition_mode.h"
#include "partition_mode/partition_mode_math.h"
#include "sort/sorted_order.h"

namespace drpm {
namespace {

constexpr const char* kOp = "partition_mode";

// The scratch of args.rows rows at a time, except for what is shared by all.
template <class T>
void take_rows(Carver& c, PartitionModeArgs<T>& args) {
  const int64_t n = args.n, width = n + 1, subsets = args.num_subsets;
  args.node_scale = c.take<double>(args.nodes);
  args.node_base = c.take<double>(args.nodes);
  args.top = c.take<double>(args.rows);
  args.score = c.take<double>(args.rows * n);
  args.log_rest = c.take<double>(args.rows * width);
  args.interval = c.take<double>(args.rows * n * width / 2);
  args.weight = c.take<double>(args.rows * subsets * width);
  args.best = c.take<double>(args.rows * 2 * width);
  args.start = c.take<int32_t>(args.rows * subsets * width);
  args.cut = c.take<int64_t>(args.rows * (subsets + 1));
}

// The same for the rows from `row` on.
template <class T>
PartitionModeArgs<T> from_row(PartitionModeArgs<T> args, int64_t row) {
  args.log_scores += row * args.n;
  args.order += row * args.n;
  args.log_omega += row * args.num_subsets;
  args.m += row * args.num_subsets;
  args.labels += row * args.n;
  return args;
}

struct Cpu {
  static Tensor order(const Tensor& log_scores) { return sorted_order_cpu(kOp, log_scores); }

  template <class T>
  static void run(PartitionModeArgs<T> args, int64_t rows, const Tensor& like) {
    args.rows = 1;
    const Tensor memory = carve(like, [&](Carver& c) { take_rows(c, args); });
    args.log_factorials = log_factorial_table(args.n + 1);
    partition_mode_nodes(args, 0, args.nodes);
    for (int64_t row = 0; row < rows; ++row) {
      const PartitionModeArgs<T> here = from_row(args, row);
      partition_mode_remainders(here, 0, 1);
      for_rows(args.n, 20 * args.nodes * (args.n / 2 + 1), [&](int64_t begin, int64_t end) {
        PartitionModeArgs<T> task = here;
        const TaskScratch scratch(
            [&](Carver& c) { task.node_scratch = c.take<double>(mode_node_scratch(args.nodes)); });
        partition_mode_intervals(task, begin, end);
      });
      partition_mode_labels(here, 0, 1);
    }
  }
};

struct Cuda {
  static Tensor order(const Tensor& log_scores) { return sorted_order_cuda(log_scores); }

  template <class T>
  static void run(PartitionModeArgs<T> args, int64_t rows, const Tensor& like) {
    constexpr int64_t kWaveDoubles = int64_t{1} << 24;  // interval factors held at a time: 128 MB
    const int64_t width = args.n + 1, of_a_row = args.n * width / 2 + args.num_subsets * width;
    args.rows = std::min(rows, std::max<int64_t>(1, kWaveDoubles / of_a_row));
    const int64_t factorials = device_table_size(width), wave = args.rows;
    double* table = nullptr;
    const Tensor memory = carve(like, [&](Carver& c) {
      take_rows(c, args);
      table = c.take<double>(factorials);
    });
    args.log_factorials = {table, factorials};
    launch_on(kOp, like, [&](void* stream) {
      int error = fill_log_factorials_cuda(table, factorials, stream);
      for (int64_t row = 0; row < rows && error == 0; row += wave) {
        PartitionModeArgs<T> here = from_row(args, row);
        here.rows = std::min(wave, rows - row);
        error = partition_mode_cuda(here, stream);
      }
      return error;
    });
  }
};

template <class Backend>
Tensor partition_mode(const Tensor& log_omega, const Tensor& m, const Tensor& log_scores) {
  check_score_rows(kOp, "log_scores", log_scores);
  const int64_t rows = log_scores.size(0), n = log_scores.size(1), subsets = log_omega.size(1);
  DRPM_CHECK(n <= kPartitionModeLimit, kOp, "log_scores", "have at most 4096 elements (memory grows as n^2)", n);
  Tensor labels = new_tensor(log_scores, {rows, n}, ScalarType::Long);
  if (rows == 0 || n == 0) return labels;
  const Tensor order = Backend::order(log_scores);
  by_dtype(log_scores, [&](auto zero) {
    using T = decltype(zero);
    PartitionModeArgs<T> args{};
    args.log_scores = checked_data<T>(kOp, "log_scores", log_scores, rows * n);
    args.order = order.const_data_ptr<int64_t>();
    args.log_omega = checked_data<T>(kOp, "log_omega", log_omega, rows * subsets);
    args.m = checked_data<int64_t>(kOp, "m", m, rows * subsets);
    args.labels = labels.mutable_data_ptr<int64_t>();
    args.n = n;
    args.num_subsets = subsets;
    args.nodes = DRPM_ISA::mode_node_count(n);
    Backend::run(args, rows, log_scores);
  });
  return labels;
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) { m.impl("partition_mode", TORCH_BOX(&drpm::partition_mode<Backend>)); }
