// What both devices compute of a draw by rows of scores (docs/math/assignment.md).
#pragma once

#include "lanes/lane_math.h"
#include "random_assignment/random_assignment.h"
#include "special/score_rows.h"

namespace drpm {
namespace DRPM_ISA {

template <class T>
DRPM_HD inline const T* scores_of(const NoisyScores<T>& scores, int64_t row, int64_t k) {
  return scores.log_scores + (row * scores.classes + k) * scores.n;
}

// What is taken off a row of scores before noise is added, so that noise counts whatever their magnitude: the largest
// of the row (finite_largest).
template <class T>
DRPM_HD inline T noise_origin(double largest) {
  return is_finite(largest) ? static_cast<T>(largest) : T(0);
}

// A drawn size as a count of what remains.
template <class T>
DRPM_HD inline int64_t whole_size(T size, int64_t left) {
  if (!(size > 0)) return 0;
  return size >= static_cast<T>(left) ? left : static_cast<int64_t>(static_cast<double>(size) + 0.5);
}

// Spacing of elements that are gone, below the lowest that remains: no band of tau spans it, and it survives rounding
// at the magnitude of the scores.
template <class T>
DRPM_HD inline double gone_spacing(double lowest, double tau, int64_t n) {
  const double spacing = 64 * tau, epsilon = sizeof(T) == 8 ? 2.3e-16 : 1.2e-7;
  return spacing + 16 * epsilon * (abs_lane<double>(lowest) + spacing * static_cast<double>(n));
}

}  // namespace DRPM_ISA
}  // namespace drpm
