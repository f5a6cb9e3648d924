// Two-class conditional of the MVHG: unnormalised log weights over the number of left-class elements.
// All arrays are row-major and contiguous; B rows.
#pragma once

#include "lanes/simd.h"
#include "special/log_factorial.h"

namespace drpm {

template <class T>
struct HypergeometricLogWeightsArgs {
  const T* log_omega_left;   // (B)
  const T* log_omega_right;  // (B)
  const int64_t* m_left;     // (B)
  const int64_t* m_right;    // (B)
  const int64_t* n;          // (B)
  T* log_weights;            // (B, width); -inf outside the support; NaN: invalid counts, weights not finite
  int64_t width;             // max m_left + 1
  LogFactorialTable log_factorials;
};

template <class T>
struct HypergeometricLogWeightsBackwardArgs {
  const T* grad_log_weights;  // (B, width)
  const int64_t* m_left;      // (B)
  const int64_t* m_right;     // (B)
  const int64_t* n;           // (B)
  T* grad_log_omega_left;     // (B)
  T* grad_log_omega_right;    // (B)
  int64_t width;
};

DRPM_DECLARE_KERNEL(hypergeometric_log_weights_rows, HypergeometricLogWeightsArgs<float>)
DRPM_DECLARE_KERNEL(hypergeometric_log_weights_rows, HypergeometricLogWeightsArgs<double>)
DRPM_DECLARE_KERNEL(hypergeometric_log_weights_backward_rows, HypergeometricLogWeightsBackwardArgs<float>)
DRPM_DECLARE_KERNEL(hypergeometric_log_weights_backward_rows, HypergeometricLogWeightsBackwardArgs<double>)

// Launchers over `rows` work items; every pointer, the log-factorial table's included, is device memory.
int hypergeometric_log_weights_cuda(const HypergeometricLogWeightsArgs<float>& args, int64_t rows, void* stream);
int hypergeometric_log_weights_cuda(const HypergeometricLogWeightsArgs<double>& args, int64_t rows, void* stream);
int hypergeometric_log_weights_backward_cuda(const HypergeometricLogWeightsBackwardArgs<float>& args, int64_t rows,
                                             void* stream);
int hypergeometric_log_weights_backward_cuda(const HypergeometricLogWeightsBackwardArgs<double>& args, int64_t rows,
                                             void* stream);

}  // namespace drpm
