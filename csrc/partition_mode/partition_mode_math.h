// Numerics of the most probable partition (docs/math/partition_likelihood.md, section on the mode). No torch headers.
#pragma once

#include "partition_mode/partition_mode.h"
#include "special/decay.h"
#include "special/log_add.h"
#include "special/log_factorial.h"

namespace drpm {
namespace DRPM_ISA {

constexpr int kModeFlush = 16;  // elements between two renormalisations; their product stays within range, see below

// ---- trapezoid nodes of x(y) = int sqrt(25 + e^y / 0.64) dy: steps of 0.2, or 0.8 peak widths where that is less ----
constexpr double kModeLeft = -34;

DRPM_HD inline double mode_right(int64_t n) {
  const double size = static_cast<double>(n);
  return log_lane<double>(size + 40 + 9 * __builtin_sqrt(size));
}

DRPM_HD inline double mode_density(double y) { return __builtin_sqrt(25 + exp_lane<double>(y) / 0.64); }

DRPM_HD inline double mode_position(double y) {  // Eq. 16
  const double u = mode_density(y);
  // log((u - c) / (u + c)) without cancellation
  return 2 * u + 5 * (log_lane<double>(1 / 0.64) + y - 2 * log_lane<double>(u + 5));
}

inline int64_t mode_node_count(int64_t n) {
  return static_cast<int64_t>(mode_position(mode_right(n)) - mode_position(kModeLeft)) + 1;
}

// y of node j. The position is convex, so Newton's steps from the right end only ever go left.
DRPM_HD inline double mode_node(int64_t j, int64_t n) {
  const double wanted = mode_position(kModeLeft) + static_cast<double>(j);
  double y = mode_right(n);
  for (int step = 0; step < 50; ++step) {
    const double change = (wanted - mode_position(y)) / mode_density(y);
    y += change;
    if (abs_lane<double>(change) < 1e-14 * (1 + abs_lane<double>(y))) break;
  }
  return y;
}

DRPM_HD inline double mode_node_base(double y) { return y - exp_lane<double>(y) - log_lane<double>(mode_density(y)); }

// e^{a}, the element's score over the sum of the rest; z is that times the node's scale. The scores are sorted, so
// every z is at least e^y / n.                                                                              (Eq. 17)
DRPM_HD inline double mode_point(double ratio) { return exp_lane<double>(min_lane<double>(ratio, 100)); }

template <class V>
DRPM_HD inline V mode_factor(V scale, double point) {
  return decay<V>(cut_z<V>(scale * point)).complement;
}

// log C(m, x) + x log omega: what x elements in a subset weigh                                              (Eq. 18)
DRPM_HD inline double mode_weight(int64_t m, int64_t x, double log_omega, const LogFactorialTable& table) {
  return static_cast<double>(x) * log_omega + log_factorial(static_cast<double>(m), table) -
         log_factorial(static_cast<double>(x), table) - log_factorial(static_cast<double>(m - x), table);
}

}  // namespace DRPM_ISA
}  // namespace drpm
