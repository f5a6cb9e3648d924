// log Gamma and digamma at x + 1 for real x > -1, in double: counts that a relaxation made real.
// Errors relative to max(1, value): log Gamma 2e-14, digamma 4e-15, measured by csrc/tests/special/test_gamma.cpp for
// -0.75 <= x <= 1e7.
#pragma once

#include "special/log_factorial.h"

namespace drpm {
namespace DRPM_ISA {

// log Gamma(x + 1)
DRPM_OUTLINED DRPM_HD inline double log_gamma1p(double x) {
  double product = 1;
  while (x < 16) {  // Gamma(x + 2) = (x + 1) Gamma(x + 1)
    x += 1;
    product *= x;
  }
  return log_factorial_stirling(x) - log_lane<double>(product);
}

// psi(x + 1)
DRPM_OUTLINED DRPM_HD inline double digamma1p(double x) {
  double shift = 0;
  while (x < 12) {  // psi(x + 2) = psi(x + 1) + 1 / (x + 1)
    x += 1;
    shift += 1 / x;
  }
  const double r = 1 / x, r2 = r * r;
  const double series = r2 * (1.0 / 12 - r2 * (1.0 / 120 - r2 * (1.0 / 252 - r2 * (1.0 / 240 - r2 * (1.0 / 132)))));
  return log_lane<double>(x) + 0.5 * r - series - shift;
}

}  // namespace DRPM_ISA
}  // namespace drpm
