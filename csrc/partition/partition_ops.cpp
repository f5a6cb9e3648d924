#include "partition/partition_ops.h"

#include <tuple>

namespace drpm {
namespace {

using Cpu = PartitionCpu;
using Cuda = PartitionCuda;

template <class Backend>
std::tuple<Tensor, Tensor, Tensor> partition(const Tensor& scores, const Tensor& sizes, double tau, bool hard,
                                             double eps) {
  check_partition(scores, sizes);
  const int64_t rows = scores.size(0), n = scores.size(1);
  Tensor order = Backend::order(scores);
  Tensor assignment = new_tensor(scores, {rows, sizes.size(1), n});
  Tensor labels = new_tensor(order, {rows, n});
  by_dtype(scores, [&](auto zero) {
    Backend::template forward<decltype(zero)>(scores, sizes, order, tau, hard, eps, assignment, labels);
  });
  return {assignment, order, labels};
}

template <class Backend>
std::tuple<Tensor, Tensor> partition_backward(const Tensor& grad, const Tensor& scores, const Tensor& sizes,
                                              const Tensor& order, double tau, bool hard, double eps) {
  check_partition(scores, sizes);
  const int64_t rows = scores.size(0), n = scores.size(1);
  Tensor grad_scores = new_tensor(scores, {rows, n});
  Tensor grad_sizes = new_tensor(sizes, {rows, sizes.size(1)});
  if (n == 0) {  // no row is visited
    torch::stable::zero_(grad_sizes);
    return {grad_scores, grad_sizes};
  }
  by_dtype(scores, [&](auto zero) {
    Backend::template backward<decltype(zero)>(grad, scores, sizes, order, tau, hard, eps, grad_scores, grad_sizes);
  });
  return {grad_scores, grad_sizes};
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("partition", TORCH_BOX(&drpm::partition<Backend>));
  m.impl("partition_backward", TORCH_BOX(&drpm::partition_backward<Backend>));
}
