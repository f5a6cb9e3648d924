#include <algorithm>

#include "glue/tensors_cuda.h"
#include "partition_log_prob/partition_log_prob_cuda.h"
#include "partition_log_prob/partition_log_prob_glue.h"
#include "partition_log_prob/rule.h"

namespace drpm {
namespace {

struct Cuda {
  template <class T>
  static void run(const Tensor& log_scores, const Tensor& labels, int64_t num_subsets, const Tensor& log_prob,
                  const Tensor& grad) {
    const int64_t rows = log_scores.size(0), n = log_scores.size(1);
    const auto [sorted, grouped] = stable_sort(labels, false);
    const Tensor by_subset = scratch_doubles(log_scores, 3 * rows * num_subsets);
    const Tensor point = scratch_doubles(log_scores, rows * n);
    PartitionLogProbCudaArgs<T> args{};
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
    launch_on(kOp, log_scores, [&](void* stream) { return partition_log_prob_cuda(args, stream); });
  }
};

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { m.impl("partition_log_prob", TORCH_BOX(&drpm::partition_log_prob<drpm::Cuda>)); }
