#include <tuple>

#include "common/tensors.h"
#include "mvhg/hypergeometric.h"

namespace drpm {
namespace {

constexpr const char* kOp = "hypergeometric_log_weights";

template <class T>
void run_forward(const Tensor& left, const Tensor& right, const Tensor& m_left, const Tensor& m_right, const Tensor& n,
                 int64_t width, const Tensor& out) {
  const int64_t rows = left.numel();
  const HypergeometricLogWeightsArgs<T> args{checked_data<T>(kOp, "log_omega_left", left, rows),
                                             checked_data<T>(kOp, "log_omega_right", right, rows),
                                             checked_data<int64_t>(kOp, "m_left", m_left, rows),
                                             checked_data<int64_t>(kOp, "m_right", m_right, rows),
                                             checked_data<int64_t>(kOp, "n", n, rows),
                                             out.mutable_data_ptr<T>(),
                                             width,
                                             log_factorial_table(width)};
  for_rows(rows, 8 * width, [&](int64_t begin, int64_t end) { hypergeometric_log_weights_rows(args, begin, end); });
}

Tensor hypergeometric_log_weights(const Tensor& left, const Tensor& right, const Tensor& m_left, const Tensor& m_right,
                                  const Tensor& n, int64_t width) {
  check_float(kOp, "log_omega_left", left);
  Tensor out = torch::stable::new_empty(left, {left.numel(), width});
  if (is_float64(left))
    run_forward<double>(left, right, m_left, m_right, n, width, out);
  else
    run_forward<float>(left, right, m_left, m_right, n, width, out);
  return out;
}

template <class T>
void run_backward(const Tensor& grad, const Tensor& m_left, const Tensor& m_right, const Tensor& n,
                  const Tensor& grad_left, const Tensor& grad_right) {
  const int64_t rows = m_left.numel(), width = grad.size(1);
  const HypergeometricLogWeightsBackwardArgs<T> args{checked_data<T>(kOp, "grad", grad, rows * width),
                                                     checked_data<int64_t>(kOp, "m_left", m_left, rows),
                                                     checked_data<int64_t>(kOp, "m_right", m_right, rows),
                                                     checked_data<int64_t>(kOp, "n", n, rows),
                                                     grad_left.mutable_data_ptr<T>(),
                                                     grad_right.mutable_data_ptr<T>(),
                                                     width};
  for_rows(rows, 2 * width,
           [&](int64_t begin, int64_t end) { hypergeometric_log_weights_backward_rows(args, begin, end); });
}

std::tuple<Tensor, Tensor> hypergeometric_log_weights_backward(const Tensor& grad, const Tensor& m_left,
                                                               const Tensor& m_right, const Tensor& n) {
  check_float(kOp, "grad", grad);
  Tensor grad_left = torch::stable::new_empty(grad, {m_left.numel()});
  Tensor grad_right = torch::stable::new_empty(grad, {m_left.numel()});
  if (is_float64(grad))
    run_backward<double>(grad, m_left, m_right, n, grad_left, grad_right);
  else
    run_backward<float>(grad, m_left, m_right, n, grad_left, grad_right);
  return {grad_left, grad_right};
}

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) {
  m.impl("hypergeometric_log_weights", TORCH_BOX(&drpm::hypergeometric_log_weights));
  m.impl("hypergeometric_log_weights_backward", TORCH_BOX(&drpm::hypergeometric_log_weights_backward));
}
