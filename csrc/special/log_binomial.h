// Binomial probabilities and coefficients in Loader's form: no differences of large log-factorials, so that counts up
// to 2^53 cost no digits (docs/math/mvhg.md, Eq. 14 and 18). In double, of whole or real counts.
#pragma once

#include "special/gamma.h"

namespace drpm {
namespace DRPM_ISA {

// x log(x / y) + y - x without cancellation, x > 0, y > 0 (Loader 2000)
DRPM_HD inline double deviance(double x, double y) {
  const double difference = x - y, v = difference / (x + y);
  if (v < 0.1 && v > -0.1) {
    const double v2 = v * v;
    double power = 2 * x * v * v2, sum = difference * v + power / 3;
    for (int j = 5; j < 32; j += 2) {
      power *= v2;
      const double next = sum + power / j;
      if (next == sum) break;
      sum = next;
    }
    return sum;
  }
  return x * log_lane<double>(x / y) - difference;
}

// log Gamma(x + 1) - [(x + 1/2) log x - x + log sqrt(2 pi)], x > 0: what Stirling's formula lacks
DRPM_HD inline double stirling_error(double x) {
  if (x >= 16) return stirling_series(x);
  return log_gamma1p(x) - (x + 0.5) * log_lane<double>(x) + x - 0.91893853320467274178;
}

// log sqrt(m / (2 pi x y)) and the errors of Stirling's formula, of C(m, x) with y = m - x
DRPM_HD inline double binomial_scale(double x, double y, double m) {
  return stirling_error(m) - stirling_error(x) - stirling_error(y) +
         0.5 * log_lane<double>(m / (6.2831853071795864769 * x * y));
}

// log of the Binomial(m, p) probability at x, from log p and log q where p or q may underflow; relaxed x allowed.
// Loader's saddle-point form.                                                                        (Eq. 14)
DRPM_OUTLINED DRPM_HD inline double log_binomial_probability(double x, double m, double p, double q, double log_p,
                                                             double log_q) {
  const double y = m - x;
  // Ends, and what rounding left of them: the tangent there, with the derivative of log C(m, x) at the end.
  if (x < 1e-7 || y < 1e-7) {
    if (m < 0.5) return 0;
    const double harmonic = digamma1p(m) + 0.57721566490153286061;
    return x < y ? m * log_q + x * (log_p - log_q + harmonic) : m * log_p + y * (log_q - log_p + harmonic);
  }
  // m p and m q as they stand lose nothing: p and q are accurate to the last place. Where one underflows, logs do.
  const double to_x = p > 1e-290 ? deviance(x, m * p) : x * (log_lane<double>(x / m) - log_p) - x;
  const double to_y = q > 1e-290 ? deviance(y, m * q) : y * (log_lane<double>(y / m) - log_q) - y;
  return binomial_scale(x, y, m) - to_x - to_y;
}

// log C(m, x), 0 <= x <= m
DRPM_OUTLINED DRPM_HD inline double log_binomial_coefficient(double m, double x) {
  const double y = m - x, small = x < y ? x : y;
  if (small < 1) return 0;
  return binomial_scale(x, y, m) + small * log_lane<double>(m / small) - (m - small) * log1p_lane<double>(-small / m);
}

// log x! - log c! - (x - c) log c for x >= 16, c >= kBendFrom, which is 0 at c and grows away from it:
// D(x, c) + 1/2 log(x / c) and the errors of Stirling's formula. With v = (x - c) / (x + c), log(x / c) = 2 atanh v.
constexpr double kBendFrom = 256;
template <class V>
DRPM_HD inline V large_factorial_bend(V x, double c) {
  constexpr int kTerms = 8;
  const V difference = x - c, v = difference / (x + c), v2 = v * v;
  V sum{};  // v^2 / 3 + v^4 / 5 + ...
#pragma GCC unroll 8
  for (int j = kTerms; j >= 1; --j) sum = (sum + splat<V>(1.0 / (2 * j + 1))) * v2;
  const V near = difference * v + (x * sum * 2.0 + sum + 1.0) * v;
  const V log_ratio = log_lane<V>(x * (1 / c));
  const V far = (x + 0.5) * log_ratio - difference;
  return (v2 < splat<V>(0.01) ? near : far) + (stirling_series<V>(x) - stirling_series(c));
}

// The same at any x and c >= 0, with log max(c, 1).
DRPM_OUTLINED DRPM_HD inline double log_factorial_bend(double x, double c) {
  if (c >= kBendFrom && x >= 16) return large_factorial_bend<double>(x, c);
  return log_gamma1p(x) - log_gamma1p(c) - (c > 1 ? (x - c) * log_lane<double>(c) : 0);
}

}  // namespace DRPM_ISA
}  // namespace drpm
