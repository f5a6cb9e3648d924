// Numerics of the Plackett-Luce log-probability (docs/math/plackett_luce.md). Computed in double for every dtype.
#pragma once

#include "lanes/lane_math.h"

namespace drpm {
namespace DRPM_ISA {

// A row is cut into blocks. Within a block every exponential is relative to one reference, so that elements do not
// depend on each other but through plain sums. A block ends early where an exponent would exceed kPlackettLuceSpan:
// the sums stay finite, and what underflows is below 1e-40 of what it is added to, for any finite scores.
constexpr int kPlackettLuceBlock = 256;
constexpr double kPlackettLuceSpan = 600;

// First rank of the block that ends before `end`; R is the log-sum over the ranks from `end` on (Eq. 3).
DRPM_HD inline int64_t plackett_luce_block_begin(const double* ranked, int64_t end, double reference) {
  const int64_t least = end > kPlackettLuceBlock ? end - kPlackettLuceBlock : 0;
  int64_t begin = end;
  while (begin > least && ranked[begin - 1] <= reference + kPlackettLuceSpan) --begin;
  return begin;
}

// d_i = R + log(1 + sum of exp(x_j - R) over i <= j < count) for a block (Eq. 3); returns sum_i (x_i - d_i).
// `d` may be written up to `count` only; R in, d_0 out.
template <class V>
DRPM_HD inline double plackett_luce_block_forward(const double* x, double* d, int count, double* reference) {
  constexpr int kWidth = Lane<V>::kWidth;
  const double r = *reference;
  double sums[kPlackettLuceBlock];
  int i = 0;
  for (; i + kWidth <= count; i += kWidth) store<V>(sums + i, exp_lane<V>(load<V>(x + i) - r));
  for (; i < count; ++i) sums[i] = exp_lane<double>(x[i] - r);
  double running = 1, total = 0;
  for (i = count - 1; i >= 0; --i) sums[i] = running += sums[i];
  V totals = splat<V>(0);
  for (i = 0; i + kWidth <= count; i += kWidth) {
    const V relative = log_lane<V>(load<V>(sums + i));
    store<V>(d + i, r + relative);
    totals = totals + ((load<V>(x + i) - r) - relative);
  }
  for (; i < count; ++i) {
    const double relative = log_lane<double>(sums[i]);
    d[i] = r + relative;
    total += (x[i] - r) - relative;
  }
  *reference = d[0];
  return total + sum_lanes<V>(totals);
}

// One past the last rank of the gradient's block that starts at `begin`; d decreases with the rank.
DRPM_HD inline int64_t plackett_luce_block_end(const double* d, int64_t begin, int64_t n) {
  const int64_t most = n - begin > kPlackettLuceBlock ? begin + kPlackettLuceBlock : n;
  int64_t end = begin + 1;
  while (end < most && d[end] >= d[begin] - kPlackettLuceSpan) ++end;
  return end;
}

// grad_j = 1 - exp(x_j - d_0) (carry + sum_{i<=j} exp(d_0 - d_i)) for a block that starts at d_0 (Eq. 5), written over
// `d`. `carry` = sum of exp(d_0 - d_i) over the earlier ranks; returns the sum that includes this block.
template <class V>
DRPM_HD inline double plackett_luce_block_gradient(const double* x, double* d, int count, double carry) {
  constexpr int kWidth = Lane<V>::kWidth;
  const double r = d[0];
  double sums[kPlackettLuceBlock];
  int i = 0;
  for (; i + kWidth <= count; i += kWidth) store<V>(sums + i, exp_lane<V>(r - load<V>(d + i)));
  for (; i < count; ++i) sums[i] = exp_lane<double>(r - d[i]);
  for (i = 0; i < count; ++i) sums[i] = carry += sums[i];
  for (i = 0; i + kWidth <= count; i += kWidth)
    store<V>(d + i, 1.0 - exp_lane<V>(load<V>(x + i) - r) * load<V>(sums + i));
  for (; i < count; ++i) d[i] = 1 - exp_lane<double>(x[i] - r) * sums[i];
  return carry;
}

}  // namespace DRPM_ISA
}  // namespace drpm
