// The stretch of outcomes around the mode of a log-concave weight that lies within a given drop.
#pragma once

#include <cstdint>

#include "lanes/host_device.h"

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

}  // namespace DRPM_ISA
}  // namespace drpm
