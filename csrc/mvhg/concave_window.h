// The stretch of outcomes around the mode of a log-concave weight that lies within a given drop.
#pragma once

#include <cstdint>

#include "lanes/lane_math.h"

namespace drpm {
namespace DRPM_ISA {

struct OutcomeWindow {
  int64_t low, high;  // inclusive
};

// The first x of low .. high with holds(x), which holds from some x on; `high` where none before it does.
template <class Holds>
DRPM_HD inline int64_t first_where(int64_t low, int64_t high, const Holds& holds) {
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (holds(middle))
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// The smallest mode of a concave `at`.
template <class At>
DRPM_HD inline int64_t concave_mode(int64_t low, int64_t high, const At& at) {
  return first_where(low, high, [&](int64_t x) { return at(x + 1) <= at(x); });
}

// drop(x) = log w(mode) - log w(x), growing away from the mode. Galloping, then bisection, on either side.
template <class Drop>
DRPM_HD inline OutcomeWindow concave_window(int64_t mode, int64_t low, int64_t high, double cut, const Drop& drop) {
  OutcomeWindow window{mode, mode};
  for (int side = -1; side <= 1; side += 2) {
    const int64_t reach = side < 0 ? mode - low : high - mode;
    int64_t inside = 0, step = 8;  // distances from the mode
    while (inside + step <= reach && drop(mode + side * (inside + step)) <= cut) inside += step, step *= 2;
    int64_t outside = inside + step > reach ? reach + 1 : inside + step;
    while (outside - inside > 1) {
      const int64_t middle = inside + (outside - inside) / 2;
      (drop(mode + side * middle) <= cut ? inside : outside) = middle;
    }
    (side < 0 ? window.low : window.high) = mode + side * inside;
  }
  return window;
}

// How far a sum of independent Bernoulli variables strays from its mean, at most, where it is at most c nats below
// probability 1: Bernstein's inequality d^2 / (2 (variance + d / 3)) <= c.                            (Eq. 19a)
DRPM_HD inline double farthest(double variance, double c) {
  return c / 3 + __builtin_sqrt(c * c / 9 + 2 * c * variance);
}

// Of the likeliest value's probability, at most this is missing to 1, in nats.
DRPM_HD inline double peak_loss(double variance) { return 0.5 * log_lane<double>(1 + 12 * variance); }

// Values of such a sum of `most` variables that lie within `cut` of the likeliest one, at most.
DRPM_HD inline int64_t widest_window(int64_t most, double cut) {
  const double variance = 0.25 * static_cast<double>(most);
  const double bound = 2 * farthest(variance, cut + peak_loss(variance)) + 16;
  return bound < static_cast<double>(most) ? static_cast<int64_t>(bound) : most + 1;
}

// A sum over a window of many outcomes takes every stride-th of them, 96 to 192: where a bell of independent Bernoulli
// variables is this wide, the window's ends are in its tails, at 38 or 45 nats, and the trapezoidal rule errs by less
// than e^-250, with the phases of a contour's nodes, too.
DRPM_HD inline int64_t outcome_stride(int64_t count) { return count < 192 ? 1 : count / 96; }

}  // namespace DRPM_ISA
}  // namespace drpm
