#include <tuple>

#include "glue/register.h"
#include "mvhg/two_class/hypergeometric_log_weights.h"

namespace drpm {
namespace {

constexpr const char* kOp = "hypergeometric_log_weights";

struct Cpu {
  template <class T>
  static void forward(HypergeometricLogWeightsArgs<T> args, int64_t rows, const Tensor&) {
    args.log_factorials = log_factorial_table(args.width);
    for_rows(rows, 8 * args.width,
             [&](int64_t begin, int64_t end) { hypergeometric_log_weights_rows(args, begin, end); });
  }

  template <class T>
  static void backward(const HypergeometricLogWeightsBackwardArgs<T>& args, int64_t rows, const Tensor&) {
    for_rows(rows, 2 * args.width,
             [&](int64_t begin, int64_t end) { hypergeometric_log_weights_backward_rows(args, begin, end); });
  }
};

struct Cuda {
  template <class T>
  static void forward(HypergeometricLogWeightsArgs<T> args, int64_t rows, const Tensor& like) {
    launch_with_log_factorials(kOp, like, device_table_size(args.width), &args.log_factorials,
                               [&](void* stream) { return hypergeometric_log_weights_cuda(args, rows, stream); });
  }

  template <class T>
  static void backward(const HypergeometricLogWeightsBackwardArgs<T>& args, int64_t rows, const Tensor& like) {
    launch_on(kOp, like, [&](void* stream) { return hypergeometric_log_weights_backward_cuda(args, rows, stream); });
  }
};

template <class Backend>
Tensor hypergeometric_log_weights(const Tensor& left, const Tensor& right, const Tensor& m_left, const Tensor& m_right,
                                  const Tensor& n, int64_t width) {
  check_float(kOp, "log_omega_left", left);
  const int64_t rows = left.numel();
  Tensor out = new_tensor(left, {rows, width});
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
  Tensor grad_left = new_tensor(grad, {rows});
  Tensor grad_right = new_tensor(grad, {rows});
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

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("hypergeometric_log_weights", TORCH_BOX(&drpm::hypergeometric_log_weights<Backend>));
  m.impl("hypergeometric_log_weights_backward", TORCH_BOX(&drpm::hypergeometric_log_weights_backward<Backend>));
}
