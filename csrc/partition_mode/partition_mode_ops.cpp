#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "partition_mode/partition_mode_glue.h"
#include "partition_mode/partition_mode_math.h"

namespace drpm {
namespace {

struct Nodes {
  std::vector<double> scale, base;

  explicit Nodes(int64_t n) {
    const int64_t count = DRPM_ISA::mode_node_count(n);
    for (int64_t j = 0; j < count; ++j) {
      const double y = DRPM_ISA::mode_node(j, n);
      scale.push_back(std::exp(y));
      base.push_back(DRPM_ISA::mode_node_base(y));
    }
  }
};

struct Cpu {
  template <class T>
  static void run(const Tensor& log_omega, const Tensor& m, const Tensor& log_scores, const Tensor& out) {
    const int64_t rows = log_scores.size(0), n = log_scores.size(1), subsets = log_omega.size(1);
    const T* omega = checked_data<T>(kOp, "log_omega", log_omega, rows * subsets);
    const int64_t* counts = checked_data<int64_t>(kOp, "m", m, rows * subsets);
    const T* scores = checked_data<T>(kOp, "log_scores", log_scores, rows * n);
    const Nodes nodes(n);
    std::vector<double> score(n), log_rest(n + 1), weight(omega, omega + rows * subsets);
    std::vector<int32_t> order(n);
    const std::unique_ptr<double[]> interval(new double[n * (n + 1) / 2]);
    PartitionModeArgs args{};
    args.score = score.data();
    args.order = order.data();
    args.log_rest = log_rest.data();
    args.n = n;
    args.num_subsets = subsets;
    args.node_scale = nodes.scale.data();
    args.node_base = nodes.base.data();
    args.nodes = static_cast<int64_t>(nodes.scale.size());
    args.log_factorials = log_factorial_table(n + 1);
    args.interval = interval.get();
    const int64_t scratch_size = partition_mode_scratch(n, subsets, args.nodes);
    for (int64_t row = 0; row < rows; ++row) {
      const T* x = scores + row * n;
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [x](int32_t a, int32_t b) { return x[a] > x[b]; });
      log_rest[n] = -std::numeric_limits<double>::infinity();
      for (int64_t i = n - 1; i >= 0; --i) {  // the later sum never exceeds n times this score
        score[i] = x[order[i]];
        log_rest[i] = score[i] + std::log1p(std::exp(log_rest[i + 1] - score[i]));
      }
      args.log_omega = weight.data() + row * subsets;
      args.m = counts + row * subsets;
      args.labels = out.mutable_data_ptr<int64_t>() + row * n;
      for_rows(n, 20 * args.nodes * (n / 2 + 1), [&](int64_t begin, int64_t end) {
        const std::unique_ptr<double[]> scratch(new double[scratch_size]);
        PartitionModeArgs task = args;
        task.scratch = scratch.get();
        partition_mode_intervals(task, begin, end);
      });
      const std::unique_ptr<double[]> scratch(new double[scratch_size]);
      args.scratch = scratch.get();
      partition_mode_labels(args, 0, 1);
    }
  }
};

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) { m.impl("partition_mode", TORCH_BOX(&drpm::partition_mode<drpm::Cpu>)); }
