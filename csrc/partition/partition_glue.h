// Dispatcher glue of the partition, for either backend: `Backend::order(scores)` sorts each row, the others fill the
// outputs that are allocated here.
#pragma once

#include <tuple>

#include "glue/tensors.h"

namespace drpm {
namespace {

constexpr const char* kOp = "partition";

inline void check_arguments(const Tensor& scores, const Tensor& sizes) {
  check_score_rows(kOp, "scores", scores);
  DRPM_CHECK(sizes.dim() == 2 && sizes.size(0) == scores.size(0) && sizes.size(1) > 0, kOp, "sizes",
             "have the rows of scores and a class", sizes.dim());
}

template <class Backend>
std::tuple<Tensor, Tensor, Tensor> partition(const Tensor& scores, const Tensor& sizes, double tau, bool hard,
                                             double eps) {
  check_arguments(scores, sizes);
  const int64_t rows = scores.size(0), n = scores.size(1);
  Tensor order = Backend::order(scores);
  Tensor assignment = torch::stable::new_empty(scores, {rows, sizes.size(1), n});
  Tensor labels = torch::stable::new_empty(order, {rows, n});
  by_dtype(scores, [&](auto zero) {
    Backend::template forward<decltype(zero)>(scores, sizes, order, tau, hard, eps, assignment, labels);
  });
  return {assignment, order, labels};
}

template <class Backend>
std::tuple<Tensor, Tensor> partition_backward(const Tensor& grad, const Tensor& scores, const Tensor& sizes,
                                              const Tensor& order, double tau, bool hard, double eps) {
  check_arguments(scores, sizes);
  const int64_t rows = scores.size(0), n = scores.size(1);
  Tensor grad_scores = torch::stable::new_empty(scores, {rows, n});
  Tensor grad_sizes = torch::stable::new_empty(sizes, {rows, sizes.size(1)});
  if (n == 0) {  // no row is visited
    torch::stable::zero_(grad_sizes);
    return {grad_scores, grad_sizes};
  }
  by_dtype(scores, [&](auto zero) {
    Backend::template backward<decltype(zero)>(grad, scores, sizes, order, tau, hard, eps, grad_scores, grad_sizes);
  });
  return {grad_scores, grad_sizes};
}

template <class Backend, class Library>
void implement_partition_ops(Library& m) {
  m.impl("partition", TORCH_BOX(&partition<Backend>));
  m.impl("partition_backward", TORCH_BOX(&partition_backward<Backend>));
}

}  // namespace
}  // namespace drpm
