// Rows of scores as numbers that nobody has checked: NaN and infinities are found, magnitudes reduced.
#pragma once

#include "lanes/lane_math.h"

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

}  // namespace DRPM_ISA
}  // namespace drpm
