// Sums of numbers that are held as logarithms.
#pragma once

#include "lanes/lane_math.h"

namespace drpm {
namespace DRPM_ISA {

// log(e^a + e^b); -inf stands for zero.
DRPM_HD inline double log_add(double a, double b) {
  const double high = a > b ? a : b, low = a > b ? b : a;
  return low == -__builtin_huge_val() ? high : high + log1p_lane<double>(exp_lane<double>(low - high));
}

}  // namespace DRPM_ISA
}  // namespace drpm
