#include <algorithm>
#include <tuple>

#include "glue/register.h"
#include "glue/scratch.h"
#include "partition_log_prob/factor_points.h"
#include "partition_log_prob/partition_log_prob.h"
#include "partition_log_prob/rule.h"

namespace drpm {
namespace {

// The scratch of one row.
template <class T>
TaskScratch row_scratch(PartitionLogProbArgs<T>& args) {
  const int64_t n = args.n, subsets = args.num_subsets;
  const int64_t chunks = n / kSubsetChunk + std::min(subsets, n) + 1;
  const int64_t slots = n / kSubsetChunk + n / kMomentsFrom;
  return TaskScratch([&](Carver& c) {
    args.offset = c.take<int64_t>(subsets + 1);
    args.grouped = c.take<int32_t>(n);
    args.largest = c.take<double>(args.score_rows());
    args.label = c.take<T>(args.by_subset ? n : 0);
    args.score = c.take<double>(n);
    args.log_remainder = c.take<double>(subsets);
    args.value = c.take<double>(subsets);
    args.log_factor = c.take<double>(subsets);
    args.chunks = c.take<SubsetChunk>(chunks);
    args.chunk_sum = c.take<double>(chunks);
    args.moments = c.take<double>(slots * kMomentsSize);
    args.first_slot = c.take<int32_t>(subsets);
    args.by_moments = c.take<int32_t>(subsets);
    args.counts = c.take<int64_t>(2);
    args.factor_scratch = c.take<double>(DRPM_ISA::factor_scratch_doubles(n, args.rule.nodes));
  });
}

// One long row, each phase spread over the threads.
template <class T>
void run_long_row(PartitionLogProbArgs<T> row) {
  const TaskScratch scratch = row_scratch(row);
  const bool with_gradient = row.grad_log_scores != nullptr;
  const auto spread = [&](int64_t items, int64_t grain,
                          void (*phase)(const PartitionLogProbArgs<T>&, int64_t, int64_t)) {
    torch::stable::parallel_for(0, items, grain, [&](int64_t begin, int64_t end) { phase(row, begin, end); });
  };
  partition_log_prob_group(row, 0, 1);
  if (!row.counts[1]) return partition_log_prob_rows(row, 0, 1);  // writes the NaN
  const int64_t chunks = row.counts[0];
  const int64_t grain = std::max<int64_t>(1, chunks * 4096 / std::max<int64_t>(row.n, 1));
  const int64_t score_grain = row.by_subset ? 1 : grain;
  spread(row.score_items(), score_grain, partition_log_prob_log_sums);
  partition_log_prob_remainders(row, 0, 1);
  spread(chunks, grain, partition_log_prob_moments);
  torch::stable::parallel_for(0, row.num_subsets, 1, [&](int64_t begin, int64_t end) {
    PartitionLogProbArgs<T> task = row;
    const TaskScratch own([&](Carver& c) {
      task.factor_scratch = c.take<double>(DRPM_ISA::factor_scratch_doubles(row.n, row.rule.nodes));
    });
    partition_log_prob_factors(task, begin, end);
  });
  if (with_gradient) spread(chunks, grain, partition_log_prob_interpolate);
  partition_log_prob_totals(row, 0, 1);
  if (with_gradient) spread(row.score_items(), score_grain, partition_log_prob_gradient);
}

// What an op computes on: log_scores (B, n), or (B, K, n) where `by_subset`.
struct Problem {
  const char* op;
  const Tensor &log_scores, &labels;
  int64_t num_subsets;
  bool by_subset;

  int64_t rows() const { return log_scores.size(0); }
  int64_t n() const { return log_scores.size(by_subset ? 2 : 1); }
  int64_t scores() const { return n() * (by_subset ? num_subsets : 1); }  // of a row
};

// The fields that the arguments for both devices have.
template <class T, template <class> class Args>
Args<T> problem_args(const Problem& problem, T* log_prob, T* grad) {
  Args<T> args{};
  args.log_scores = checked_data<T>(problem.op, "log_scores", problem.log_scores, problem.rows() * problem.scores());
  args.log_prob = log_prob;
  args.grad_log_scores = grad;
  args.n = problem.n();
  args.num_subsets = problem.num_subsets;
  args.by_subset = problem.by_subset;
  return args;
}

struct Cpu {
  template <class T>
  static void run(const Problem& problem, T* log_prob, T* grad) {
    const int64_t rows = problem.rows(), n = problem.n(), scores = problem.scores();
    auto args = problem_args<T, PartitionLogProbArgs>(problem, log_prob, grad);
    args.labels = checked_data<int64_t>(problem.op, "labels", problem.labels, rows * n);
    args.rule = quadrature_rule<T>();
    const int64_t threads = torch::stable::get_num_threads();
    if (n >= 2 * kSubsetChunk && threads > 1 && rows < 4 * threads) {
      for (int64_t row = 0; row < rows; ++row) {
        PartitionLogProbArgs<T> one = args;
        one.log_scores += row * scores;
        one.labels += row * n;
        one.log_prob += row;
        if (grad != nullptr) one.grad_log_scores += row * scores;
        run_long_row(one);
      }
      return;
    }
    for_rows(rows, 400 * n + 20 * problem.num_subsets + 8 * (scores - n), [&](int64_t begin, int64_t end) {
      PartitionLogProbArgs<T> task = args;
      const TaskScratch scratch = row_scratch(task);
      partition_log_prob_rows(task, begin, end);
    });
  }
};

struct Cuda {
  template <class T>
  static void run(const Problem& problem, T* log_prob, T* grad) {
    const int64_t rows = problem.rows(), n = problem.n(), num_subsets = problem.num_subsets;
    const auto [sorted, grouped] = stable_sort(problem.labels, false);
    auto args = problem_args<T, PartitionLogProbCudaArgs>(problem, log_prob, grad);
    args.sorted_labels = checked_data<int64_t>(problem.op, "labels", sorted, rows * n);
    args.grouped = grouped.const_data_ptr<int64_t>();
    args.rows = rows;
    const QuadratureRule& rule = quadrature_rule<T>();
    args.nodes = rule.nodes;
    args.drop = rule.drop;
    std::copy_n(rule.node, rule.nodes, args.node);
    std::copy_n(rule.node_weight, rule.nodes, args.node_weight);
    const Tensor scratch = carve(problem.log_scores, [&](Carver& c) {
      args.largest = c.take<double>(rows * (problem.by_subset ? num_subsets : 1));
      args.log_sum = c.take<double>(rows * num_subsets);
      args.value = c.take<double>(rows * num_subsets);
      args.gamma = c.take<double>(rows * num_subsets);
      args.point = c.take<double>(rows * n);
    });
    launch_on(problem.op, problem.log_scores, [&](void* stream) { return partition_log_prob_cuda(args, stream); });
  }
};

template <class Backend>
std::tuple<Tensor, Tensor> log_prob_of(const Problem& problem, bool with_gradient) {
  const Tensor& log_scores = problem.log_scores;
  const int64_t rows = problem.rows(), n = problem.n();
  DRPM_CHECK(problem.num_subsets >= 0 && problem.num_subsets < (int64_t{1} << 31), problem.op, "num_subsets",
             "be in [0, 2^31)", problem.num_subsets);
  Tensor log_prob = new_tensor(log_scores, {rows});
  Tensor grad = problem.by_subset ? new_tensor(log_scores, {rows, problem.num_subsets, with_gradient ? n : 0})
                                  : new_tensor(log_scores, {rows, with_gradient ? n : 0});
  by_dtype(log_scores, [&](auto zero) {
    using T = decltype(zero);
    T* grad_data = grad.numel() > 0 ? grad.mutable_data_ptr<T>() : nullptr;
    Backend::run(problem, log_prob.mutable_data_ptr<T>(), grad_data);
  });
  return {log_prob, grad};
}

template <class Backend>
std::tuple<Tensor, Tensor> partition_log_prob(const Tensor& log_scores, const Tensor& labels, int64_t num_subsets,
                                              bool with_gradient) {
  constexpr const char* kOp = "partition_log_prob";
  check_score_rows(kOp, "log_scores", log_scores);
  return log_prob_of<Backend>({kOp, log_scores, labels, num_subsets, false}, with_gradient);
}

template <class Backend>
std::tuple<Tensor, Tensor> assignment_log_prob(const Tensor& log_scores, const Tensor& labels, bool with_gradient) {
  constexpr const char* kOp = "assignment_log_prob";
  check_score_matrices(kOp, "log_scores", log_scores);
  DRPM_CHECK(log_scores.size(1) < int64_t{1} << 24, kOp, "log_scores", "have fewer than 2^24 rows", log_scores.size(1));
  return log_prob_of<Backend>({kOp, log_scores, labels, log_scores.size(1), true}, with_gradient);
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("partition_log_prob", TORCH_BOX(&drpm::partition_log_prob<Backend>));
  m.impl("assignment_log_prob", TORCH_BOX(&drpm::assignment_log_prob<Backend>));
}
