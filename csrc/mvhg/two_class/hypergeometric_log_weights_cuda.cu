#include "device/cuda_launch.h"
#include "mvhg/two_class/hypergeometric_log_weights.h"
#include "mvhg/two_class/hypergeometric_log_weights_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class T>
__device__ void log_weights_row(const HypergeometricLogWeightsArgs<T>& args, int64_t row) {
  const int64_t m_left = args.m_left[row], m_right = args.m_right[row], n = args.n[row];
  const double left = args.log_omega_left[row], right = args.log_omega_right[row];
  const int64_t left_items = possible_items(args.m_left, args.log_omega_left, row);
  const int64_t right_items = possible_items(args.m_right, args.log_omega_right, row);
  T* out = args.log_weights + row * args.width;
  if (!hypergeometric_counts_are_valid(left_items, right_items, n) || !hypergeometric_weights_are_valid(left, right))
    return team_fill(Block(), out, args.width, __builtin_nan(""));
  const SupportRange support = hypergeometric_support(left_items, right_items, n);
  for (int64_t x = threadIdx.x; x < args.width; x += blockDim.x) {
    T weight = static_cast<T>(-__builtin_huge_val());
    if (x >= support.low && x <= support.high)
      weight = static_cast<T>(hypergeometric_log_weight(static_cast<double>(x), left, right,
                                                        static_cast<double>(m_left), static_cast<double>(m_right),
                                                        static_cast<double>(n), args.log_factorials));
    out[x] = weight;
  }
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) log_weights_kernel(HypergeometricLogWeightsArgs<T> args, int64_t rows) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) log_weights_row(args, row);
}

// grad log omega_L = sum_x grad_x x;  grad log omega_R = sum_x grad_x (n - x), over the support
template <class T>
__device__ void log_weights_backward_row(const HypergeometricLogWeightsBackwardArgs<T>& args, int64_t row) {
  const int64_t m_left = args.m_left[row], m_right = args.m_right[row], n = args.n[row];
  const bool valid = hypergeometric_counts_are_valid(m_left, m_right, n);
  const SupportRange support = hypergeometric_support(m_left, m_right, n);
  const T* grad = args.grad_log_weights + row * args.width;
  double left = 0, right = 0;
  if (valid) {
    for (int64_t x = support.low + threadIdx.x; x <= support.high; x += blockDim.x) {
      left += static_cast<double>(grad[x]) * static_cast<double>(x);
      right += static_cast<double>(grad[x]) * static_cast<double>(n - x);
    }
  } else {
    left = right = __builtin_nan("");
  }
  left = block_sum(left);
  right = block_sum(right);
  if (threadIdx.x == 0) {
    args.grad_log_omega_left[row] = static_cast<T>(left);
    args.grad_log_omega_right[row] = static_cast<T>(right);
  }
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads)
    log_weights_backward_kernel(HypergeometricLogWeightsBackwardArgs<T> args, int64_t rows) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) log_weights_backward_row(args, row);
}

}  // namespace
}  // namespace DRPM_ISA

int hypergeometric_log_weights_cuda(const HypergeometricLogWeightsArgs<float>& args, int64_t rows, void* stream) {
  using namespace DRPM_ISA;
  return launch(&log_weights_kernel<float>, rows, threads_for(args.width), 0, stream, args, rows);
}

int hypergeometric_log_weights_cuda(const HypergeometricLogWeightsArgs<double>& args, int64_t rows, void* stream) {
  using namespace DRPM_ISA;
  return launch(&log_weights_kernel<double>, rows, threads_for(args.width), 0, stream, args, rows);
}

int hypergeometric_log_weights_backward_cuda(const HypergeometricLogWeightsBackwardArgs<float>& args, int64_t rows,
                                             void* stream) {
  using namespace DRPM_ISA;
  return launch(&log_weights_backward_kernel<float>, rows, threads_for(args.width), 0, stream, args, rows);
}

int hypergeometric_log_weights_backward_cuda(const HypergeometricLogWeightsBackwardArgs<double>& args, int64_t rows,
                                             void* stream) {
  using namespace DRPM_ISA;
  return launch(&log_weights_backward_kernel<double>, rows, threads_for(args.width), 0, stream, args, rows);
}

}  // namespace drpm
