#include <tuple>

#include "common/log_factorial_cuda.h"
#include "common/tensors_cuda.h"
#include "mvhg/hypergeometric_cuda.h"

namespace drpm {
namespace {

constexpr const char* kOp = "hypergeometric_log_weights";

template <class T>
void run_forward(const Tensor& left, const Tensor& right, const Tensor& m_left, const Tensor& m_right, const Tensor& n,
                 int64_t width, const Tensor& out) {
  const int64_t rows = left.numel();
  const int64_t table_size = device_table_size(width);
  const Tensor table = scratch_doubles(left, table_size);
  const HypergeometricLogWeightsArgs<T> args{checked_data<T>(kOp, "log_omega_left", left, rows),
                                             checked_data<T>(kOp, "log_omega_right", right, rows),
                                             checked_data<int64_t>(kOp, "m_left", m_left, rows),
                                             checked_data<int64_t>(kOp, "m_right", m_right, rows),
                                             checked_data<int64_t>(kOp, "n", n, rows),
                                             out.mutable_data_ptr<T>(),
                                             width,
                                             {table.const_data_ptr<double>(), table_size}};
  launch_on(kOp, left, [&](void* stream) {
    const int error = fill_log_factorials_cuda(table.mutable_data_ptr<double>(), table_size, stream);
    return error != 0 ? error : hypergeometric_log_weights_cuda(args, rows, stream);
  });
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
  launch_on(kOp, grad, [&](void* stream) { return hypergeometric_log_weights_backward_cuda(args, rows, stream); });
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

DRPM_CUDA_LIBRARY_IMPL(m) {
  m.impl("hypergeometric_log_weights", TORCH_BOX(&drpm::hypergeometric_log_weights));
  m.impl("hypergeometric_log_weights_backward", TORCH_BOX(&drpm::hypergeometric_log_weights_backward));
}
