// Whether sizes lie in the support of the MVHG.
#pragma once

#include <cstdint>

#include "lanes/host_device.h"

namespace drpm {
namespace DRPM_ISA {

// 0 <= n_k <= m_k and sum n_k = n, up to the rounding of relaxed sizes.
template <class T>
DRPM_HD inline bool sizes_are_possible(const int64_t* m, int64_t n, int64_t classes, const T* sizes) {
  const double eps = sizeof(T) == 4 ? 1.1920929e-7 : 2.220446049250313e-16;
  double slack = 8 * static_cast<double>(classes) * eps * static_cast<double>(n < 1 ? 1 : n);
  slack = slack < 0.25 ? slack : 0.25;
  double sum = 0;
  for (int64_t k = 0; k < classes; ++k) {
    const double x = sizes[k];
    if (!(x >= -slack && x <= static_cast<double>(m[k]) + slack)) return false;
    sum += x;
  }
  const double excess = sum - static_cast<double>(n);
  return excess <= slack && -excess <= slack;
}

}  // namespace DRPM_ISA
}  // namespace drpm
