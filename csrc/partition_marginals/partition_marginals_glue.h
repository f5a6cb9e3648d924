// Dispatcher glue of the exact marginals, for either backend: `Backend::forward` and `Backend::backward` fill the
// outputs that are allocated here; neither is called without elements.
#pragma once

#include <tuple>

#include "glue/tensors.h"
#include "partition_marginals/partition_marginals.h"

namespace drpm {
namespace {

constexpr const char* kOp = "partition_marginals";

template <class T>
MarginalRule marginal_rule() {
  return sizeof(T) == 8 ? kMarginalRule64 : kMarginalRule32;
}

template <class Backend>
Tensor partition_marginals(const Tensor& log_omega, const Tensor& m, const Tensor& log_scores) {
  check_score_rows(kOp, "log_scores", log_scores);
  Tensor out = torch::stable::new_empty(log_scores, {log_scores.size(0), log_omega.size(1), log_scores.size(1)});
  if (out.numel() > 0)
    by_dtype(log_scores, [&](auto zero) { Backend::template forward<decltype(zero)>(log_omega, m, log_scores, out); });
  return out;
}

template <class Backend>
std::tuple<Tensor, Tensor> partition_marginals_backward(const Tensor& grad, const Tensor& log_omega, const Tensor& m,
                                                        const Tensor& log_scores) {
  check_score_rows(kOp, "log_scores", log_scores);
  Tensor grad_omega = torch::stable::new_empty(log_omega, {log_omega.size(0), log_omega.size(1)});
  Tensor grad_scores = torch::stable::new_empty(log_scores, {log_scores.size(0), log_scores.size(1)});
  if (grad.numel() == 0) {
    torch::stable::zero_(grad_omega);
    torch::stable::zero_(grad_scores);
    return {grad_omega, grad_scores};
  }
  by_dtype(log_scores, [&](auto zero) {
    Backend::template backward<decltype(zero)>(grad, log_omega, m, log_scores, grad_omega, grad_scores);
  });
  return {grad_omega, grad_scores};
}

template <class Backend, class Library>
void implement_marginals_ops(Library& m) {
  m.impl("partition_marginals", TORCH_BOX(&partition_marginals<Backend>));
  m.impl("partition_marginals_backward", TORCH_BOX(&partition_marginals_backward<Backend>));
}

}  // namespace
}  // namespace drpm
