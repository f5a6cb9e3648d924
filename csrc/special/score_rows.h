// Rows of scores as numbers that nobody has checked: NaN and infinities are found, magnitudes reduced.
#pragma once

#include "lanes/lane_math.h"
#include "lanes/team.h"

namespace drpm {
namespace DRPM_ISA {

// x less the row's largest, at most 0; a difference beyond the range of double stays a number.
template <class T>
DRPM_HD inline double reduced(T x, double largest) {
  const double difference = static_cast<double>(x) - largest;
  return difference > -1e300 ? difference : -1e300;
}

// The largest of a row by a team, NaN where one of its values is not finite; -inf for an empty row.
template <class Team, class T>
DRPM_DEVICE inline double finite_largest(const Team& team, const T* x, int64_t n) {
  double largest = -__builtin_huge_val(), check = 0;
  for (int64_t i = team.rank(); i < n; i += team.size()) {
    largest = static_cast<double>(x[i]) > largest ? static_cast<double>(x[i]) : largest;
    check += static_cast<double>(x[i] - x[i]);
  }
  return team.sum(check) + team.largest(largest);  // 0 or NaN
}

// The same by one thread, in lanes.
template <class V>
inline double finite_largest(const ScalarOf<V>* x, int64_t n) {
  constexpr int kWidth = Lane<V>::kWidth;
  const int64_t whole = n / kWidth * kWidth;
  const double rest = finite_largest(Alone(), x + whole, n - whole);
  if (whole == 0) return rest;
  V lanes = load<V>(x), check = splat<V>(0);
  for (int64_t i = 0; i < whole; i += kWidth) {
    const V value = load<V>(x + i);
    lanes = max_lane<V>(lanes, value);
    check = check + (value - value);
  }
  const double largest = static_cast<double>(max_over_lanes<V>(lanes));
  return (largest > rest ? largest : rest) + static_cast<double>(sum_lanes<V>(check));
}

}  // namespace DRPM_ISA
}  // namespace drpm
