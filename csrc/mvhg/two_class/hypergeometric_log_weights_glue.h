// Dispatcher glue of the two-class conditional, for either backend: `Backend::forward(args, rows, like)` and
// `backward`.
#pragma once

#include <tuple>

#include "glue/tensors.h"
#include "mvhg/two_class/hypergeometric_log_weights.h"

namespace drpm {
namespace {

constexpr const char* kOp = "hypergeometric_log_weights";

template <class Backend>
Tensor hypergeometric_log_weights(const Tensor& left, const Tensor& right, const Tensor& m_left, const Tensor& m_right,
                                  const Tensor& n, int64_t width) {
  check_float(kOp, "log_omega_left", left);
  const int64_t rows = left.numel();
  Tensor out = torch::stable::new_empty(left, {rows, width});
  by_dtype(left, [&](auto zero) {
    using T = decltype(zero);
    const HypergeometricLogWeightsArgs<T> args{checked_data<T>(kOp, "log_omega_left", left, rows),
                                               checked_data<T>(kOp, "log_omega_right", right, rows),
                                               checked_data<int64_t>(kOp, "m_left", m_left, rows),
                                               checked_data<int64_t>(kOp, "m_right", m_right, rows),
                                               checked_data<int64_t>(kOp, "n", n, rows),
                                               out.mutable_data_ptr<T>(),
                                               width,
                                               {}};
    Backend::forward(args, rows, left);
  });
  return out;
}

template <class Backend>
std::tuple<Tensor, Tensor> hypergeometric_log_weights_backward(const Tensor& grad, const Tensor& m_left,
                                                               const Tensor& m_right, const Tensor& n) {
  check_float(kOp, "grad", grad);
  const int64_t rows = m_left.numel(), width = grad.size(1);
  Tensor grad_left = torch::stable::new_empty(grad, {rows});
  Tensor grad_right = torch::stable::new_empty(grad, {rows});
  by_dtype(grad, [&](auto zero) {
    using T = decltype(zero);
    const HypergeometricLogWeightsBackwardArgs<T> args{checked_data<T>(kOp, "grad", grad, rows * width),
                                                       checked_data<int64_t>(kOp, "m_left", m_left, rows),
                                                       checked_data<int64_t>(kOp, "m_right", m_right, rows),
                                                       checked_data<int64_t>(kOp, "n", n, rows),
                                                       grad_left.mutable_data_ptr<T>(),
                                                       grad_right.mutable_data_ptr<T>(),
                                                       width};
    Backend::backward(args, rows, grad);
  });
  return {grad_left, grad_right};
}

template <class Backend, class Library>
void implement_hypergeometric_ops(Library& m) {
  m.impl("hypergeometric_log_weights", TORCH_BOX(&hypergeometric_log_weights<Backend>));
  m.impl("hypergeometric_log_weights_backward", TORCH_BOX(&hypergeometric_log_weights_backward<Backend>));
}

}  // namespace
}  // namespace drpm
