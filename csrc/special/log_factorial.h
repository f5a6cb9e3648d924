// log x! for whole x, in double whatever the output type: float differences of lgamma lose 0.1 nat at n = 65536.
#pragma once

#include "lanes/lane_math.h"

namespace drpm {

// log 0!, log 1!, ... log (size - 1)!; grown on demand, never freed or moved while a kernel may read it.
struct LogFactorialTable {
  const double* value;
  int64_t size;
};

// A table with at least `count` entries, but at most kLogFactorialTableMax. Thread-safe. (log_factorial.cpp)
LogFactorialTable log_factorial_table(int64_t count);
constexpr int64_t kLogFactorialTableMax = int64_t{1} << 20;

// The same up to some count: differences of larger log-factorials would show their rounding, 1e-16 of their size, and
// are taken another way (log_binomial.h).
inline LogFactorialTable log_factorials_below(LogFactorialTable table, int64_t count) {
  return {table.value, table.size < count ? table.size : count};
}

namespace DRPM_ISA {

// What Stirling's formula lacks, with five terms: below 1e-16 of log x! for x >= 16.
template <class V>
DRPM_HD inline V stirling_series(V x) {
  const V r = 1.0 / x, r2 = r * r;
  return r * (1.0 / 12 - r2 * (1.0 / 360 - r2 * (1.0 / 1260 - r2 * (1.0 / 1680 - r2 * (1.0 / 1188)))));
}

DRPM_OUTLINED DRPM_HD inline double log_factorial_stirling(double x) {
  return (x + 0.5) * log_lane<double>(x) - x + 0.91893853320467274178 + stirling_series(x);  // log sqrt(2 pi)
}

DRPM_HD inline double log_factorial(double x, const LogFactorialTable& table) {
  return x < static_cast<double>(table.size) ? table.value[static_cast<int64_t>(x)] : log_factorial_stirling(x);
}

}  // namespace DRPM_ISA
}  // namespace drpm
