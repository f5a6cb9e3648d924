// Rows of few elements, in float64 and without blocks (docs/math/relaxed_sort.md, Section 9): the whole matrix of
// weights costs less than planning bands. Elements stand in their own order, so values and gradients need no moving.
#pragma once

#include "band/band_visit.h"

namespace drpm {
namespace DRPM_ISA {

constexpr int64_t kShortRow = 32;
constexpr int64_t kShortLane = Lane<VecD>::kWidth;
// Drops come from one frame in the middle of the row, so they are exact to 2^-53 of its largest drop; that must stay
// far below the precision of the result.
constexpr double kShortRange = 1e6;

// One row: D_i(j) = E_j + (i - i0) y_j + kappa_i of every element j, scaled to exponents of 2.                (Eq. 3-5)
struct ShortRow {
  int64_t n, ld, frame;
  double exponent[kShortRow], slope[kShortRow];  // by element; -1e9 and 0 in the padding
  double peak[kShortRow];                        // by position
};

// Sorts the row and takes it so, with `factors` left (or right) factors of its weights; false where it must not be (it
// is not finite, or ranges too far), or where there are more of them than buffers hold.
template <class T>
inline bool short_row(const RowPlan& p, const T* scores, const int64_t* order, int64_t factors, ShortRow* r) {
  if (sizeof(T) >= sizeof(double) || p.n > kShortRow || factors > kBandClasses) return false;
  for (int64_t j = 0; j < p.n; ++j) p.s[j] = static_cast<double>(scores[order[j]]);
  rank_positions(p, 0, p.n);
  if (!(2 * static_cast<double>(p.n) * (p.s[0] - p.s[p.n - 1]) <= kShortRange * p.tau)) return false;
  const int64_t n = p.n, i0 = n / 2;
  const double* s = p.s;
  const double scale = -kLog2E / p.tau;
  r->n = n;
  r->ld = (n + kShortLane - 1) / kShortLane * kShortLane;
  r->frame = i0;
  for (int64_t t = n; t < r->ld; ++t) {
    r->exponent[t] = -1e9;
    r->slope[t] = 0;
  }
  const auto put = [&](int64_t j, double drop) {
    const double y = 2 * (s[j] - s[i0]);
    r->exponent[order[j]] = scale * drop;
    r->slope[order[j]] = scale * y;
    r->peak[j] = -scale * (drop + static_cast<double>(j - i0) * y);
    return true;
  };
  put(i0, 0);
  for_drops<double>(s, i0, 0, n - 1, put);
  return true;
}

// Weights of the row at position i, by element; returns their sum.
inline double short_weights(const ShortRow& r, int64_t i, double* weight) {
  const VecD d = splat<VecD>(static_cast<double>(i - r.frame)), top = splat<VecD>(r.peak[i]);
  const double lowest = lowest_exponent<float>();
  VecD sum = VecD{};
  for (int64_t t = 0; t < r.ld; t += kShortLane) {
    const VecD x = fmadd<VecD>(d, load<VecD>(r.slope + t), load<VecD>(r.exponent + t) + top);
    const VecD u = exp2_above<VecD>(x, lowest);
    store<VecD>(weight + t, u);
    sum += u;
  }
  return sum_lanes<VecD>(sum);
}

// C and M, by element.
struct ShortMoments {
  double c[kShortRow], moment[kShortRow], rank[kShortRow];
};

inline void short_moments(const RowPlan& p, const int64_t* order, const ShortRow& r, ShortMoments* m) {
  for (int64_t t = 0; t < r.ld; ++t) m->c[t] = m->moment[t] = m->rank[t] = 0;
  for (int64_t j = 0; j < p.n; ++j) m->rank[order[j]] = p.rank[j];
}

// Adds the row at position i: `right` (by element, padding finite) is its row of A G, `own` the value at its peak.
//                                                                                                            (Eq. 8-10)
inline void add_short_row(const ShortRow& r, int64_t i, const double* weight, double sum, const double* right,
                          double own, ShortMoments* m) {
  const VecD peak = splat<VecD>(own);
  VecD dot = VecD{};
  for (int64_t t = 0; t < r.ld; t += kShortLane)
    dot = fmadd<VecD>(load<VecD>(weight + t), load<VecD>(right + t) - peak, dot);
  const double inverse = 1 / sum;
  const VecD center = splat<VecD>(sum_lanes<VecD>(dot) * inverse), scale = splat<VecD>(inverse);
  const VecD offset = splat<VecD>(static_cast<double>(i));
  for (int64_t t = 0; t < r.ld; t += kShortLane) {
    const VecD q = load<VecD>(weight + t) * scale * ((load<VecD>(right + t) - peak) - center);
    store<VecD>(m->c + t, load<VecD>(m->c + t) + q);
    store<VecD>(m->moment + t, fmadd<VecD>(q, load<VecD>(m->rank + t) - offset, load<VecD>(m->moment + t)));
  }
}

// C and M in sorted order, as finish_scores_gradient() takes them.
inline void sorted_moments(const RowPlan& p, const int64_t* order, const ShortMoments& m, double* total) {
  for (int64_t j = 0; j < p.n; ++j) {
    total[j] = m.c[order[j]];
    total[p.n + j] = m.moment[order[j]];
  }
}

}  // namespace DRPM_ISA
}  // namespace drpm
