#include "mvhg/two_class/hypergeometric_log_weights.h"
#include "mvhg/two_class/hypergeometric_log_weights_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class T>
void log_weights_row(const HypergeometricLogWeightsArgs<T>& args, int64_t row) {
  const int64_t m_left = args.m_left[row], m_right = args.m_right[row], n = args.n[row];
  const int64_t left_items = possible_items(args.m_left, args.log_omega_left, row);
  const int64_t right_items = possible_items(args.m_right, args.log_omega_right, row);
  const double left = args.log_omega_left[row], right = args.log_omega_right[row];
  T* out = args.log_weights + row * args.width;
  if (!hypergeometric_counts_are_valid(left_items, right_items, n) || !hypergeometric_weights_are_valid(left, right)) {
    for (int64_t x = 0; x < args.width; ++x) out[x] = static_cast<T>(__builtin_nan(""));
    return;
  }
  const SupportRange support = hypergeometric_support(left_items, right_items, n);
  const T outside = static_cast<T>(-__builtin_huge_val());
  for (int64_t x = 0; x < support.low; ++x) out[x] = outside;
  for (int64_t x = support.high + 1; x < args.width; ++x) out[x] = outside;
  for (int64_t x = support.low; x <= support.high; ++x)
    out[x] = static_cast<T>(hypergeometric_log_weight(static_cast<double>(x), left, right, static_cast<double>(m_left),
                                                      static_cast<double>(m_right), static_cast<double>(n),
                                                      args.log_factorials));
}

// grad log omega_L = sum_x grad_x x;  grad log omega_R = sum_x grad_x (n - x), over the support
template <class T>
void log_weights_backward_row(const HypergeometricLogWeightsBackwardArgs<T>& args, int64_t row) {
  const int64_t n = args.n[row];
  const T* grad = args.grad_log_weights + row * args.width;
  double left = 0, right = 0;
  if (hypergeometric_counts_are_valid(args.m_left[row], args.m_right[row], n)) {
    const SupportRange support = hypergeometric_support(args.m_left[row], args.m_right[row], n);
    for (int64_t x = support.low; x <= support.high; ++x) {
      left += static_cast<double>(grad[x]) * static_cast<double>(x);
      right += static_cast<double>(grad[x]) * static_cast<double>(n - x);
    }
  } else {
    left = right = __builtin_nan("");
  }
  args.grad_log_omega_left[row] = static_cast<T>(left);
  args.grad_log_omega_right[row] = static_cast<T>(right);
}

}  // namespace

void hypergeometric_log_weights_rows(const HypergeometricLogWeightsArgs<float>& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) log_weights_row(args, row);
}

void hypergeometric_log_weights_rows(const HypergeometricLogWeightsArgs<double>& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) log_weights_row(args, row);
}

void hypergeometric_log_weights_backward_rows(const HypergeometricLogWeightsBackwardArgs<float>& args, int64_t begin,
                                              int64_t end) {
  for (int64_t row = begin; row < end; ++row) log_weights_backward_row(args, row);
}

void hypergeometric_log_weights_backward_rows(const HypergeometricLogWeightsBackwardArgs<double>& args, int64_t begin,
                                              int64_t end) {
  for (int64_t row = begin; row < end; ++row) log_weights_backward_row(args, row);
}

}  // namespace DRPM_ISA
}  // namespace drpm
