// Where the support of the MVHG ends.
#pragma once

#include <cstdint>

#include "lanes/lane.h"
#include "mvhg/law.h"

namespace drpm {
namespace DRPM_ISA {

// 0 where 0 <= n_k <= m_k (0 where the weight is zero) and sum n_k = n, up to the rounding of relaxed sizes; else -inf.
// NaN: sizes are not finite.
template <class T>
DRPM_HD inline double log_support(const MvhgRow& row, const T* log_omega, const T* sizes) {
  const int64_t n = row.n, classes = row.classes;
  const double eps = sizeof(T) == 4 ? 1.1920929e-7 : 2.220446049250313e-16;
  double slack = 8 * static_cast<double>(classes) * eps * static_cast<double>(n < 1 ? 1 : n);
  slack = slack < 0.25 ? slack : 0.25;
  double sum = 0;
  bool inside = true;
  for (int64_t k = 0; k < classes; ++k) {
    const double x = sizes[k];
    inside = inside && x >= -slack && x <= static_cast<double>(possible_items(row.m, log_omega, k)) + slack;
    sum += x;
  }
  if (!is_finite(sum)) return __builtin_nan("");
  const double excess = sum - static_cast<double>(n);
  return inside && excess <= slack && -excess <= slack ? 0 : -__builtin_huge_val();
}

}  // namespace DRPM_ISA
}  // namespace drpm
