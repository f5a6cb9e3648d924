// Numerics of rows of which only some elements count (docs/math/partition.md).
#pragma once

#include "lanes/lane.h"
#include "random_partition/random_partition.h"

namespace drpm {
namespace DRPM_ISA {

DRPM_HD inline int64_t row_length(const RowLengths& lengths, int64_t row, int64_t batch, int64_t n) {
  if (lengths.values == nullptr) return n;
  const int64_t length = lengths.values[row % batch * lengths.stride];
  return length < 0 ? 0 : length < n ? length : n;
}

// Elements that do not count are put below the lowest that does, and below one another.
template <class T>
struct Padding {
  T lowest, step;
};

// Steps survive rounding at the magnitude of the scores. `lowest` is infinite where no element counts.
template <class T>
DRPM_HD inline Padding<T> padding_below(T lowest, double spacing, int64_t n) {
  constexpr T kEpsilon = sizeof(T) == 4 ? static_cast<T>(0x1p-23) : static_cast<T>(0x1p-52);
  const T infinity = static_cast<T>(__builtin_huge_val());
  if (lowest == infinity || lowest == -infinity) lowest = 0;
  const T magnitude = (lowest < 0 ? -lowest : lowest) + static_cast<T>(spacing * static_cast<double>(n));
  return {lowest, static_cast<T>(spacing) + 16 * kEpsilon * magnitude};
}

}  // namespace DRPM_ISA
}  // namespace drpm
