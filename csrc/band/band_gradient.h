// The gradient of a row's scores from the sums of its chunks; docs/math/relaxed_sort.md, Section 4.
#pragma once

#include "band/band_math.h"

namespace drpm {
namespace DRPM_ISA {

// Where all scores of a row are equal, P = 1/n and the gradient is 2/(tau n) sum_q t_q (G_qj - mean_j G_q) with
// t_q = sum_i (mid - i) a_qi (Eq. 18): what the sums of C and M would leave of terms that cancel, in float64.
inline bool all_equal(const RowPlan& p) { return p.s[0] == p.s[p.n - 1]; }

template <class T>
inline void add_equal_scores(bool first, double moment, const T* right, int64_t stride, int64_t n, double* total) {
  double mean = 0;
  for (int64_t j = 0; j < n; ++j) mean += static_cast<double>(right[j * stride]);
  mean /= static_cast<double>(n);
  for (int64_t j = 0; j < n; ++j) {
    const double term = moment * (static_cast<double>(right[j * stride]) - mean);
    total[j] = first ? term : total[j] + term;
  }
}

template <class T>
inline void finish_equal_scores(const RowPlan& p, const double* total, T* grad) {
  const double scale = 2 / (p.tau * static_cast<double>(p.n));
  for (int64_t j = 0; j < p.n; ++j) grad[j] = static_cast<T>(scale * total[j]);
}

// Sums of the slabs of C and M, chunks in order. `total`: C and M, 2 n doubles.
template <class T>
inline void sum_moments(const RowPlan& p, const T* slab, double* total) {
  const int64_t n = p.n;
  double *c = total, *moment = total + n;
  for (int64_t j = 0; j < 2 * n; ++j) total[j] = 0;
  for (int32_t k = 0; k < p.counts->chunks; ++k) {
    const BandChunk& chunk = p.chunks[k];
    const int64_t columns = chunk.high - chunk.low + 1;
    const T* from = slab + 2 * chunk.offset;
    for (int64_t t = 0; t < columns; ++t) c[chunk.low + t] += static_cast<double>(from[t]);
    from += columns + kBandPad;
    for (int64_t t = 0; t < columns; ++t) moment[chunk.low + t] += static_cast<double>(from[t]);
  }
}

// Gradient of the scores from C and M (Eq. 9): prefix sums; ties with sign(0) = 0.
template <class R, class T>
inline void finish_scores_gradient(const RowPlan& p, const int64_t* order, const R* total, T* grad) {
  const int64_t n = p.n;
  const R *c = total, *moment = total + n;
  // every row of Q sums to zero; what rounding leaves of that is split between the two sides
  R before = 0;
  for (int64_t j = 0; j < n; ++j) before -= c[j] / 2;
  const R scale = 1 / static_cast<R>(p.tau);
  for (int64_t a = 0; a < n;) {
    int64_t b = a;
    R after = before + c[a];
    while (b + 1 < n && p.s[b + 1] == p.s[a]) after += c[++b];
    for (int64_t j = a; j <= b; ++j) grad[order[j]] = static_cast<T>(scale * (2 * moment[j] + before + after));
    before = after;
    a = b + 1;
  }
}

}  // namespace DRPM_ISA
}  // namespace drpm
