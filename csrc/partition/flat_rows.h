// Rows so flat that what the band sums in working precision cancels: their gradient in float64, or wider.
#pragma once

#include "band/band_gradient.h"
#include "band/short_rows.h"
#include "partition/partition.h"
#include "partition/partition_math.h"

namespace drpm {
namespace DRPM_ISA {

// Whether the gradient of a row may be a small difference of large terms. So it is in a short row whose weights are all
// of about one size, and, in float64, in one with ties: rows of equal scores differ by their alpha alone.
template <class T>
inline bool is_flat(const RowPlan& p) {
  if (p.n > kFlatRow) return false;
  if (2 * static_cast<double>(p.n) * (p.s[0] - p.s[p.n - 1]) <= 8 * p.tau) return true;
  if (sizeof(T) < sizeof(double) || p.n > kShortRow) return false;
  for (int64_t j = 1; j < p.n; ++j)
    if (p.s[j] == p.s[j - 1]) return true;
  return false;
}

// The gradient of the scores of such a row in precision R, without a band: C and M are summed as Eq. 8 and 9 of
// docs/math/relaxed_sort.md define them. Returns whether the result is large enough against the largest term of C for
// its digits to have survived in a double.
template <class R, class T>
inline bool flat_gradient(const PartitionArgs<T>& args, const RowPlan& p, const SubsetWeights& w, int64_t row) {
  const int64_t n = p.n, classes = args.classes;
  const int64_t* order = args.band.order + row * n;
  const double* s = p.s;
  R weight[kFlatRow], right[kFlatRow], total[2 * kFlatRow], *c = total, *moment = total + n, largest = 0;
  for (int64_t j = 0; j < 2 * n; ++j) total[j] = 0;
  for (int64_t i = 0; i < n; ++i) {
    weight[i] = 0;
    for_drops<R>(s, i, 0, n - 1, [&](int64_t j, R drop) {
      weight[j] = drop;
      return true;
    });
    R sum = 0;
    for (int64_t j = 0; j < n; ++j) {
      weight[j] = exp_lane<R>(-weight[j] / static_cast<R>(p.tau));
      sum += weight[j];
      right[j] = 0;
    }
    for (int64_t k = 0; k < classes; ++k) {
      R alpha;
      if (w.hard)
        alpha = hard_label(w, i) == k ? 1 : 0;
      else
        alpha = boundary_value<R>(w, k, static_cast<R>(i)).value - boundary_value<R>(w, k - 1, static_cast<R>(i)).value;
      const T* grad = args.grad + (row * classes + k) * n;
      const R peak = static_cast<R>(grad[order[i]]);
      if (alpha != 0)
        for (int64_t j = 0; j < n; ++j) right[j] += alpha * (static_cast<R>(grad[order[j]]) - peak);
    }
    R center = 0;
    for (int64_t j = 0; j < n; ++j) center += weight[j] * right[j];
    center /= sum;
    for (int64_t j = 0; j < n; ++j) {
      const R q = weight[j] * (right[j] - center) / sum;
      c[j] += q;
      moment[j] += (static_cast<R>(p.rank[j]) - static_cast<R>(i)) * q;
      largest = q > largest ? q : -q > largest ? -q : largest;
    }
  }
  T* grad_scores = args.band.grad_scores + row * n;
  finish_scores_gradient(p, order, total, grad_scores);
  double result = 0;
  for (int64_t j = 0; j < n; ++j) {
    const double size = __builtin_fabs(static_cast<double>(grad_scores[j]));
    result = size > result ? size : result;
  }
  return result * p.tau >= 1e-4 * static_cast<double>(n) * static_cast<double>(largest);
}

}  // namespace DRPM_ISA
}  // namespace drpm
