// What a block's weights are multiplied with: sums over its rows, over its columns, and the moments of the gradient.
#pragma once

#include "band/band_block.h"

namespace drpm {
namespace DRPM_ISA {

// y_q[t] += sum_m factor[m][q] U[m][t]
template <class T, int kClasses>
inline void add_left(const BlockWeights<T>& w, const T* factor, int64_t stride, T* const* y) {
  using V = Pack<T>;
  constexpr int kWidth = Lane<V>::kWidth;
  for (int64_t t = 0; t < w.ld; t += 2 * kWidth) {
    V a[kClasses], b[kClasses];
    for (int q = 0; q < kClasses; ++q) {
      a[q] = load<V>(y[q] + t);
      b[q] = load<V>(y[q] + t + kWidth);
    }
    const T* u = w.u + t;
    for (int64_t m = 0; m < w.lines; ++m, u += w.ld) {
      const V u0 = load<V>(u), u1 = load<V>(u + kWidth);
      for (int q = 0; q < kClasses; ++q) {
        const V c = splat<V>(factor[m * stride + q]);
        a[q] = fmadd<V>(c, u0, a[q]);
        b[q] = fmadd<V>(c, u1, b[q]);
      }
    }
    for (int q = 0; q < kClasses; ++q) {
      store<V>(y[q] + t, a[q]);
      store<V>(y[q] + t + kWidth, b[q]);
    }
  }
}

// y: plane q starts at y + q * plane, at the block's first column
template <class T>
inline void add_left(const BlockWeights<T>& w, const T* factor, int64_t stride, int64_t classes, T* y, int64_t plane) {
  T* at[4];
  int64_t q = 0;
  while (q < classes) {
    const int64_t count = classes - q < 4 ? classes - q : 4;
    for (int64_t c = 0; c < count; ++c) at[c] = y + (q + c) * plane;
    switch (count) {
      case 1:
        add_left<T, 1>(w, factor + q, stride, at);
        break;
      case 2:
        add_left<T, 2>(w, factor + q, stride, at);
        break;
      case 3:
        add_left<T, 3>(w, factor + q, stride, at);
        break;
      default:
        add_left<T, 4>(w, factor + q, stride, at);
    }
    q += count;
  }
}

// product[m][q] = sum_t U[m][t] g_q[t]; kNarrow: of g_q[t] - g_q[peak of row m]
template <class T, int kLines, int kClasses, bool kNarrow>
inline void contract_lines(const BlockWeights<T>& w, int64_t m, const T* g, int64_t plane, double* product,
                           int64_t stride) {
  using V = Pack<T>;
  constexpr int kWidth = Lane<V>::kWidth;
  V sum[kLines][kClasses];
  for (int l = 0; l < kLines; ++l)
    for (int q = 0; q < kClasses; ++q) sum[l][q] = V{};
  const T* u = w.u + m * w.ld;
  const T* peak = g + (w.block.first + m - w.block.low);
  for (int64_t t = 0; t < w.ld; t += kWidth) {
    V right[kClasses];
    for (int q = 0; q < kClasses; ++q) right[q] = load<V>(g + q * plane + t);
    for (int l = 0; l < kLines; ++l) {
      const V left = load<V>(u + l * w.ld + t);
      for (int q = 0; q < kClasses; ++q)
        sum[l][q] = fmadd<V>(left, kNarrow ? right[q] - peak[q * plane + l] : right[q], sum[l][q]);
    }
  }
  for (int l = 0; l < kLines; ++l)
    for (int q = 0; q < kClasses; ++q) product[(m + l) * stride + q] = static_cast<double>(sum_lanes<V>(sum[l][q]));
}

template <class T, bool kNarrow>
inline void contract_block(const BlockWeights<T>& w, const T* g, int64_t plane, int64_t classes, double* product,
                           int64_t stride) {
  for (int64_t q = 0; q < classes;) {
    const bool pair = q + 2 <= classes;
    int64_t m = 0;
    for (; m + 4 <= w.lines; m += 4) {
      if (pair)
        contract_lines<T, 4, 2, kNarrow>(w, m, g + q * plane, plane, product + q, stride);
      else
        contract_lines<T, 4, 1, kNarrow>(w, m, g + q * plane, plane, product + q, stride);
    }
    for (; m < w.lines; ++m) {
      if (pair)
        contract_lines<T, 1, 2, kNarrow>(w, m, g + q * plane, plane, product + q, stride);
      else
        contract_lines<T, 1, 1, kNarrow>(w, m, g + q * plane, plane, product + q, stride);
    }
    q += pair ? 2 : 1;
  }
}

// `relative`: take g relative to the peaks where the block is narrow
template <class T>
inline void contract(const BlockWeights<T>& w, bool relative, const T* g, int64_t plane, int64_t classes,
                     double* product, int64_t stride) {
  if (relative && is_narrow(w))
    contract_block<T, true>(w, g, plane, classes, product, stride);
  else
    contract_block<T, false>(w, g, plane, classes, product, stride);
}

// C_j += sum_m U[m][j] A_m(j), M_j += sum_m U[m][j] ((r_j - i0) A_m(j) - B_m(j)) with A_m = sum_q left[m][q] g_q -
// center[m] and B_m the same of left_moved and center_moved (offset times as much for a direct line) (Eq. 9, 10)
template <class T, int kClasses, bool kNarrow>
inline void add_moments(const BlockWeights<T>& w, const T* left, const T* left_moved, const T* center,
                        const T* center_moved, int64_t stride, const T* g, int64_t plane, T* c, T* moment) {
  using V = Pack<T>;
  constexpr int kWidth = Lane<V>::kWidth;
  const bool moved = w.block.nodes > 0;
  for (int64_t t = 0; t < w.ld; t += kWidth) {
    const V j = load<V>(w.rank + t);
    V right[kClasses];
    for (int q = 0; q < kClasses; ++q) right[q] = load<V>(g + q * plane + t);
    V sum = load<V>(c + t), first = load<V>(moment + t);
    const T* u = w.u + t;
    if (moved) {
      for (int64_t m = 0; m < w.lines; ++m, u += w.ld) {
        V a = splat<V>(-center[m]), b = splat<V>(-center_moved[m]);
        for (int q = 0; q < kClasses; ++q) {
          a = fmadd<V>(splat<V>(left[m * stride + q]), right[q], a);
          b = fmadd<V>(splat<V>(left_moved[m * stride + q]), right[q], b);
        }
        const V weight = load<V>(u);
        sum = fmadd<V>(a, weight, sum);
        first = fmadd<V>(weight, fmadd<V>(a, j, -b), first);
      }
    } else {
      for (int64_t m = 0; m < w.lines; ++m, u += w.ld) {
        V a = splat<V>(-center[m]);
        const T* peak = g + (w.block.first + m - w.block.low);
        for (int q = 0; q < kClasses; ++q)
          a = fmadd<V>(splat<V>(left[m * stride + q]), kNarrow ? right[q] - peak[q * plane] : right[q], a);
        a *= load<V>(u);
        sum += a;
        first = fmadd<V>(a, j - static_cast<T>(w.offset[m]), first);
      }
    }
    store<V>(c + t, sum);
    store<V>(moment + t, first);
  }
}

// The left factors of a block: what its rows weigh, divided by the row sums, carried to the lines of U.
template <class T>
struct LineFactors {
  T left[kMaxBandNodes * kBandClasses];        // (lines, kBandClasses)
  T left_moved[kMaxBandNodes * kBandClasses];  // times the row's offset; interpolated blocks only
  T center[kMaxBandNodes];
  T center_moved[kMaxBandNodes];
};

template <class T, bool kNarrow>
inline void add_moments_block(const BlockWeights<T>& w, const LineFactors<T>& f, int64_t classes, const T* g,
                              int64_t plane, T* c, T* moment) {
  const T none[kMaxBandNodes] = {};  // centers belong to the first call only
  for (int64_t q = 0; q < classes;) {
    const int64_t count = classes - q < 4 ? classes - q : 4;
    const T* center = q == 0 ? f.center : none;
    const T* moved_center = q == 0 ? f.center_moved : none;
    const T *left = f.left + q, *moved = f.left_moved + q, *right = g + q * plane;
    constexpr int64_t kStride = kBandClasses;
    switch (count) {
      case 1:
        add_moments<T, 1, kNarrow>(w, left, moved, center, moved_center, kStride, right, plane, c, moment);
        break;
      case 2:
        add_moments<T, 2, kNarrow>(w, left, moved, center, moved_center, kStride, right, plane, c, moment);
        break;
      case 3:
        add_moments<T, 3, kNarrow>(w, left, moved, center, moved_center, kStride, right, plane, c, moment);
        break;
      default:
        add_moments<T, 4, kNarrow>(w, left, moved, center, moved_center, kStride, right, plane, c, moment);
    }
    q += count;
  }
}

template <class T>
inline void add_moments(const BlockWeights<T>& w, const LineFactors<T>& f, int64_t classes, const T* g, int64_t plane,
                        T* c, T* moment) {
  if (is_narrow(w))
    add_moments_block<T, true>(w, f, classes, g, plane, c, moment);
  else
    add_moments_block<T, false>(w, f, classes, g, plane, c, moment);
}

}  // namespace DRPM_ISA
}  // namespace drpm
