// Many elements as few weighted points: sums over elements of a function of a_i that is analytic for |Im a| < pi/2 are
// sums over Chebyshev points of unit panels (docs/math/partition_log_prob.md, section 4). No torch headers.
#pragma once

#include "lanes/lane_math.h"
#include "partition_log_prob/partition_log_prob.h"

namespace drpm {
namespace DRPM_ISA {

constexpr int kLinearBucket = kPanels;       // e^{a + y} < e^{-42}: log(1 - exp(-z)) = log z
constexpr int kNothingBucket = kPanels + 1;  // z > e^4 wherever the integrand counts: contributes nothing
constexpr double kPanelsEnd = 34;

// Panel p covers low + p <= a < low + p + 1.
DRPM_HD inline double panels_low(double elements) { return -(46 + log1p_lane<double>(elements)); }

DRPM_HD inline int panel_of(double a, double low) {
  if (!(a >= low)) return kLinearBucket;
  return a >= kPanelsEnd ? kNothingBucket : static_cast<int>(a - low);
}

// Position of a within its panel, in [-1, 1].
DRPM_HD inline double panel_position(double a, double low, int panel) { return 2 * (a - low - panel) - 1; }

// mu_r += sum_i T_r(t_i), r < degree.                                                                       (Eq. 12)
template <class V>
inline void add_moments(const double* t, int64_t count, int degree, double* moments) {
  constexpr int kWidth = Lane<V>::kWidth;
  V sum[kPanelDegreeMax];
  for (int r = 0; r < degree; ++r) sum[r] = splat<V>(0);
  for (int64_t i = 0; i < count; i += kWidth) {
    V position, present;
    if (i + kWidth <= count) {
      position = load<V>(t + i);
      present = splat<V>(1);
    } else {  // the recurrence is linear: absent lanes stay 0
      double values[kWidth], ones[kWidth];
      for (int lane = 0; lane < kWidth; ++lane) {
        values[lane] = i + lane < count ? t[i + lane] : 0;
        ones[lane] = i + lane < count ? 1 : 0;
      }
      position = load<V>(values);
      present = load<V>(ones);
    }
    V before = present, now = position;
    const V twice = position + position;
    sum[0] = sum[0] + before;
    for (int r = 1; r < degree; ++r) {
      sum[r] = sum[r] + now;
      const V next = fmadd<V>(twice, now, -before);
      before = now;
      now = next;
    }
  }
  for (int r = 0; r < degree; ++r) moments[r] += sum_lanes<V>(sum[r]);
}

// Weight of Chebyshev point c: (2 / R) sum'_r T_r(t_c) mu_r, the first term halved.                          (Eq. 13)
DRPM_HD inline double point_weight(const double* moments, const double* chebyshev_row, int degree) {
  double sum = 0.5 * moments[0];
  for (int r = 1; r < degree; ++r) sum += chebyshev_row[r] * moments[r];
  return 2 * sum / degree;
}

// sum_r c_r T_r(t), Clenshaw.                                                                               (Eq. 14)
template <class V>
DRPM_HD inline V chebyshev_sum(const double* coefficient, int degree, V t) {
  V one = splat<V>(0), two = splat<V>(0);
  const V twice = t + t;
  for (int r = degree - 1; r >= 1; --r) {
    const V next = fmadd<V>(twice, one, coefficient[r] - two);
    two = one;
    one = next;
  }
  return fmadd<V>(t, one, coefficient[0] - two);
}

}  // namespace DRPM_ISA
}  // namespace drpm
