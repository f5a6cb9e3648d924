// The two-class conditional of the MVHG as an object: where its weight lies, and its log weights over that window
// (docs/math/mvhg.md, section 1). Everything in double.
#pragma once

#include "mvhg/concave_window.h"
#include "mvhg/two_class/hypergeometric_log_weights_math.h"
#include "special/log_binomial.h"

namespace drpm {
namespace DRPM_ISA {

struct TwoClass {
  double log_odds;  // log omega_L - log omega_R; the common factor omega_R^r drops out
  double m_left, m_right;
  double r;           // items drawn from the two classes; whole, or real where sizes are relaxed
  int64_t low, high;  // support of x at the nearest whole r
  bool whole;
  int64_t items;  // together
};

DRPM_HD inline TwoClass make_two_class(double log_left, double log_right, int64_t m_left, int64_t m_right, double r) {
  const int64_t nearest = static_cast<int64_t>(r + 0.5);
  const SupportRange support = hypergeometric_support(m_left, m_right, nearest);
  return {(log_left > -__builtin_huge_val() ? log_left : 0) - log_right,
          static_cast<double>(m_left),
          static_cast<double>(m_right),
          r,
          support.low,
          support.high,
          r == static_cast<double>(nearest),
          m_left + m_right};
}

// Log-factorials are subtracted from one another up to the end of the table only, as their rounding would show.
DRPM_HD inline bool subtracts_directly(const TwoClass& c, const LogFactorialTable& table) {
  return c.items < table.size;
}

// log Gamma(a + 1), from the table at whole a.
DRPM_HD inline double log_count_factorial(const TwoClass& c, double a, const LogFactorialTable& table) {
  return c.whole ? log_factorial(a, table) : log_gamma1p(a);
}

// log [x! (m_L - x)! (r - x)! (m_R - r + x)!]                                              (Eq. 2)
DRPM_HD inline double two_class_log_factorials(const TwoClass& c, double x, const LogFactorialTable& table) {
  return (log_factorial(x, table) + log_factorial(c.m_left - x, table)) +
         (log_count_factorial(c, c.r - x, table) + log_count_factorial(c, c.m_right - c.r + x, table));
}

// The smallest mode: w(x + 1) <= w(x) iff (m_L - x)(r - x) omega <= (x + 1)(m_R - r + x + 1).        (Eq. 3)
// Products of whole numbers are exact, so equal weights are found equal and the first index wins.
DRPM_HD inline int64_t two_class_mode(const TwoClass& c) {
  const double bounded = c.log_odds < -700 ? -700 : (c.log_odds > 700 ? 700 : c.log_odds);
  const double omega = c.log_odds == 0 ? 1 : exp_lane<double>(bounded);
  return first_where(c.low, c.high, [&](int64_t outcome) {
    const double x = static_cast<double>(outcome);
    return (c.m_left - x) * (c.r - x) * omega <= (x + 1) * (c.m_right - c.r + x + 1);
  });
}

struct TwoClassWindow {
  int64_t low, high, mode;
  double log_factorials_at_mode;
  double slope;  // of log w at the mode, where log-factorials are not subtracted from one another
};

DRPM_HD inline double at_least_one(double x) { return x > 1 ? x : 1; }

// log [x! (m_L - x)! (r - x)! (m_R - r + x)!] at a size that a relaxation may have made real.
DRPM_HD inline double log_factorials_at_size(const TwoClass& c, double x, const LogFactorialTable& table) {
  if (x == static_cast<double>(static_cast<int64_t>(x))) return two_class_log_factorials(c, x, table);
  return (log_gamma1p(x) + log_gamma1p(c.m_left - x)) + (log_gamma1p(c.r - x) + log_gamma1p(c.m_right - c.r + x));
}

// log w(mode) - log w(x), x whole or real.
DRPM_OUTLINED DRPM_HD inline double two_class_bend(const TwoClass& c, const TwoClassWindow& window, double x) {
  const double mode = static_cast<double>(window.mode), rest = c.m_right - c.r;
  return (log_factorial_bend(x, mode) + log_factorial_bend(c.m_left - x, c.m_left - mode)) +
         (log_factorial_bend(c.r - x, c.r - mode) + log_factorial_bend(rest + x, rest + mode)) -
         (x - mode) * window.slope;
}

DRPM_HD inline double two_class_drop(const TwoClass& c, const TwoClassWindow& window, int64_t x,
                                     const LogFactorialTable& table) {
  if (!subtracts_directly(c, table)) return two_class_bend(c, window, static_cast<double>(x));
  return two_class_log_factorials(c, static_cast<double>(x), table) - window.log_factorials_at_mode -
         static_cast<double>(x - window.mode) * c.log_odds;
}

DRPM_HD inline double two_class_drop_at_size(const TwoClass& c, const TwoClassWindow& window, double x,
                                             const LogFactorialTable& table) {
  if (!subtracts_directly(c, table)) return two_class_bend(c, window, x);
  return log_factorials_at_size(c, x, table) - window.log_factorials_at_mode -
         (x - static_cast<double>(window.mode)) * c.log_odds;
}

// The window at the mode alone.
DRPM_HD inline TwoClassWindow two_class_peak(const TwoClass& c, const LogFactorialTable& table) {
  const int64_t mode = two_class_mode(c);
  TwoClassWindow window{mode, mode, mode, 0, 0};
  const double x = static_cast<double>(mode);
  if (subtracts_directly(c, table)) {
    window.log_factorials_at_mode = two_class_log_factorials(c, x, table);
  } else {
    const double left = at_least_one(c.m_left - x) / at_least_one(x);
    window.slope = c.log_odds + log_lane<double>(left * (at_least_one(c.r - x) / at_least_one(c.m_right - c.r + x)));
  }
  return window;
}

// Outcomes whose log weight is at most `cut` below the mode's: contiguous, as log w is concave.
DRPM_HD inline TwoClassWindow two_class_window(const TwoClass& c, double cut, const LogFactorialTable& table) {
  TwoClassWindow window = two_class_peak(c, table);
  if (cut <= 0) return window;
  const OutcomeWindow range =
      concave_window(window.mode, c.low, c.high, cut, [&](int64_t x) { return two_class_drop(c, window, x, table); });
  window.low = range.low;
  window.high = range.high;
  return window;
}

// The part of d log w(x) / d r that depends on x: d(x) = psi(m_R - r + x + 1) - psi(r - x + 1). Here its step
// d(x + 1) - d(x) = (m_R + 1) / ((m_R - r + x + 1)(r - x)).                                         (Eq. 6)
DRPM_HD inline double remainder_slope_step(const TwoClass& c, int64_t x) {
  const double at = static_cast<double>(x);
  return (c.m_right + 1) / ((c.m_right - c.r + at + 1) * (c.r - at));
}

// d(x) - d(low) for x = low .. low + count - 1
template <class T>
inline void two_class_remainder_slopes(const TwoClass& c, int64_t low, int64_t count, T* out) {
  double slope = 0;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<T>(slope);
    slope += remainder_slope_step(c, low + i);  // read only while r > x
  }
}

// psi(m_R - r + x + 1) - psi(r - x + 1)
DRPM_HD inline double remainder_slope(const TwoClass& c, double x) {
  return digamma1p(c.m_right - c.r + x) - digamma1p(c.r - x);
}

// log sum_x exp(log w(x) - log w(mode)), and the means of x - mode and d(x) - d(low), over a window.
struct TwoClassSums {
  double log_sum, mean, slope;
  TwoClassWindow window;
};

}  // namespace DRPM_ISA
}  // namespace drpm
