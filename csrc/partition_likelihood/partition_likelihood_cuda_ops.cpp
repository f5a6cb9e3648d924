#include <algorithm>
#include <array>
#include <optional>
#include <tuple>

#include "common/tensors_cuda.h"
#include "partition_likelihood/partition_likelihood_cuda.h"
#include "partition_likelihood/partition_rule.h"

namespace drpm {
namespace {

constexpr const char* kOp = "partition_log_prob";

// Labels in increasing order, ties by index, and where they come from: torch's own stable sort.
std::tuple<Tensor, Tensor> sorted_labels(const Tensor& labels) {
  using torch::stable::detail::from;
  std::array<StableIValue, 4> stack{from(labels), from(std::optional<bool>(true)), from(int64_t{-1}), from(false)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  return {torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

template <class T>
void run(const Tensor& log_scores, const Tensor& labels, int64_t num_subsets, const Tensor& log_prob,
         const Tensor& grad) {
  const int64_t rows = log_scores.size(0), n = log_scores.size(1);
  const auto [sorted, grouped] = sorted_labels(labels);
  const Tensor by_subset = scratch_doubles(log_scores, 3 * rows * num_subsets);
  const Tensor point = scratch_doubles(log_scores, rows * n);
  PartitionLikelihoodCudaArgs<T> args{};
  args.log_scores = checked_data<T>(kOp, "log_scores", log_scores, rows * n);
  args.sorted_labels = checked_data<int64_t>(kOp, "labels", sorted, rows * n);
  args.grouped = grouped.const_data_ptr<int64_t>();
  args.log_prob = log_prob.mutable_data_ptr<T>();
  if (grad.numel() > 0) args.grad_log_scores = grad.mutable_data_ptr<T>();
  args.rows = rows;
  args.n = n;
  args.num_subsets = num_subsets;
  const PartitionRule& rule = partition_rule<T>();
  args.nodes = rule.nodes;
  args.drop = rule.drop;
  std::copy_n(rule.node, rule.nodes, args.node);
  std::copy_n(rule.node_weight, rule.nodes, args.node_weight);
  args.log_sum = by_subset.mutable_data_ptr<double>();
  args.value = args.log_sum + rows * num_subsets;
  args.gamma = args.value + rows * num_subsets;
  args.point = point.mutable_data_ptr<double>();
  launch_on(kOp, log_scores, [&](void* stream) { return partition_likelihood_cuda(args, stream); });
}

std::tuple<Tensor, Tensor> partition_log_prob(const Tensor& log_scores, const Tensor& labels, int64_t num_subsets,
                                              bool with_gradient) {
  check_float(kOp, "log_scores", log_scores);
  const int64_t rows = log_scores.size(0), n = log_scores.size(1);
  Tensor log_prob = torch::stable::new_empty(log_scores, {rows});
  Tensor grad = torch::stable::new_empty(log_scores, {rows, with_gradient ? n : 0});
  if (is_float64(log_scores))
    run<double>(log_scores, labels, num_subsets, log_prob, grad);
  else
    run<float>(log_scores, labels, num_subsets, log_prob, grad);
  return {log_prob, grad};
}

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { m.impl("partition_log_prob", TORCH_BOX(&drpm::partition_log_prob)); }
