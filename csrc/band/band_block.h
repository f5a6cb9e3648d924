// The weights of one block of rows of the banded relaxed sort, vectorised over its columns; docs/math/relaxed_sort.md.
// A block is a matrix U of weights (rows, or Chebyshev nodes, times columns). For left factors a_q (rows) and right
// factors G_q (columns), q < kBandClasses at a time, it yields Y_q += a_q P, N_q = P G_q and the moments of Q
// (band_products.h).
#pragma once

#include "band/band_plan.h"

namespace drpm {
namespace DRPM_ISA {

constexpr int64_t kBandClasses = 16;

template <class T>
struct BlockWeights {
  BandBlock block;
  int64_t ld;                    // padded columns
  int64_t lines;                 // rows of U: block.rows, or block.nodes
  T* u;                          // (lines, ld)
  T* exponent;                   // (ld)
  T* slope;                      // (ld)
  T* rank;                       // (ld) counted from the frame; set by rank_columns()
  double offset[kMaxBandNodes];  // row of a line, counted from the frame
  double sum[kMaxBandNodes];     // of the line
};

// exponent = -log2(e) D / tau and slope = -log2(e) 2 (s_j - s_i0) / tau of the columns of one group (Eq. 3, 4)
template <class T, class Drop>
inline void frame_group(const RowPlan& p, const BlockWeights<T>& w, int64_t from, int64_t to, const Drop& drop) {
  const double scale = -kLog2E / p.tau;
  const double top = p.s[w.block.frame];
  T* exponent = w.exponent - w.block.low;
  T* slope = w.slope - w.block.low;
  if (to - from == kBandGroup) {
    for (int64_t j = from; j < from + kBandGroup; ++j) exponent[j] = static_cast<T>(scale * drop(j));
    for (int64_t j = from; j < from + kBandGroup; ++j) slope[j] = static_cast<T>(2 * scale * (p.s[j] - top));
  } else {
    for (int64_t j = from; j < to; ++j) exponent[j] = static_cast<T>(scale * drop(j));
    for (int64_t j = from; j < to; ++j) slope[j] = static_cast<T>(2 * scale * (p.s[j] - top));
  }
}

template <class T>
inline void frame_columns(const RowPlan& p, const BlockWeights<T>& w) {
  const int64_t low = w.block.low, end = w.block.high + 1, i0 = w.block.frame;
  const double* s = p.s;
  const double scale = -kLog2E / p.tau;
  auto put = [&](int64_t j, double drop) {
    w.exponent[j - low] = static_cast<T>(scale * drop);
    w.slope[j - low] = static_cast<T>(2 * scale * (s[j] - s[i0]));
  };
  // the frame row's own group one by one, then whole groups from their anchors
  const int64_t own = i0 / kBandGroup * kBandGroup, first = own > low ? own : low, next = own + kBandGroup;
  double after = 0, before = 0;
  put(i0, 0);
  for_drops<double>(s, i0, first, next < end ? next : end - 1, [&](int64_t j, double drop) {
    put(j, drop);
    (j > i0 ? after : before) = drop;
    return true;
  });
  for (int64_t g = next; g < end; g += kBandGroup) {
    const double anchor = s[g], rate = static_cast<double>(2 * (g - i0) + 1), start = after;
    const double* right = p.right;
    frame_group(p, w, g, g + kBandGroup < end ? g + kBandGroup : end,
                [=](int64_t c) { return start + rate * (anchor - s[c]) + 2 * right[c]; });
    if (g + kBandGroup < end) after += group_step_right(p, i0, g);
  }
  for (int64_t g = first; g > low; g -= kBandGroup) {
    const double anchor = s[g], rate = static_cast<double>(2 * (i0 - g) - 1), start = before;
    const double* left = p.left;
    frame_group(p, w, g - kBandGroup > low ? g - kBandGroup : low, g,
                [=](int64_t c) { return start + rate * (s[c] - anchor) + 2 * left[c]; });
    before += group_step_left(p, i0, g);
  }
  for (int64_t t = end - low; t < w.ld; ++t) {
    w.exponent[t] = static_cast<T>(-1e9);
    w.slope[t] = 0;
  }
}

template <class T>
inline void rank_columns(const RowPlan& p, const BlockWeights<T>& w) {
  const double* rank = p.rank + w.block.low;
  const double from = static_cast<double>(w.block.frame);
  const int64_t columns = w.block.high - w.block.low + 1;
  for (int64_t t = 0; t < columns; ++t) w.rank[t] = static_cast<T>(rank[t] - from);
  for (int64_t t = columns; t < w.ld; ++t) w.rank[t] = 0;
}

// 2^x, 0 below `lowest`: the products of weights that no sum would notice would be denormals, which are slow.
template <class V>
inline V exp2_above(V x, typename Lane<V>::Scalar lowest) {
  return x > splat<V>(lowest) ? exp2_lane<V>(x) : V{};
}

// Weights below e^-kTail are dropped (Section 2 of the page).
template <class T>
constexpr T lowest_exponent() {
  return static_cast<T>(-BandConstants<T>::kTail * kLog2E);
}

// The lines of a block: their rows counted from the frame, and how far the frame lies below each row's peak (log2).
template <class T>
inline void block_lines(const RowPlan& p, const BandBlock& block, BlockWeights<T>* w, double* peak) {
  if (block.nodes > 0) {
    w->lines = block.nodes;
    const double half = 0.5 * (block.rows - 1), middle = block.first - block.frame + half;
    for (int64_t m = 0; m < w->lines; ++m) {
      w->offset[m] = middle + half * p.tables.position[m];
      peak[m] = 0;
    }
    return;
  }
  w->lines = block.rows;
  const double* s = p.s;
  const int64_t i0 = block.frame, first = block.first;
  // D_i(i0), outward from the frame row                                                                    (Eq. 5)
  double drop = 0;
  peak[i0 - first] = 0;
  for (int64_t i = i0; i > first; --i) {
    drop += column_step(s, i0, i, i - 1);
    peak[i - 1 - first] = drop;
  }
  drop = 0;
  for (int64_t i = i0; i + 1 < first + block.rows; ++i) {
    drop += column_step(s, i0, i, i + 1);
    peak[i + 1 - first] = drop;
  }
  for (int64_t m = 0; m < w->lines; ++m) {
    w->offset[m] = static_cast<double>(first + m - i0);
    peak[m] *= kLog2E / p.tau;
  }
}

// Exponent and slope of a block's columns, at the start of `storage`.
template <class T>
inline void frame_block(const RowPlan& p, const BandBlock& block, T* storage, BlockWeights<T>* w) {
  w->block = block;
  w->ld = padded_columns(block.high - block.low + 1);
  w->exponent = storage;
  w->slope = storage + w->ld;
  w->rank = storage + 2 * w->ld;
  w->u = storage + 3 * w->ld;
  frame_columns(p, *w);
}

// U = 2^(exponent + offset slope + peak) and its line sums; `storage` as block_storage() says.
template <class T>
inline void fill_block(const RowPlan& p, const BandBlock& block, T* storage, BlockWeights<T>* w) {
  using V = Pack<T>;
  constexpr int kWidth = Lane<V>::kWidth;
  frame_block(p, block, storage, w);
  double peak[kMaxBandNodes];
  block_lines(p, block, w, peak);
  const T lowest = lowest_exponent<T>();
  for (int64_t m = 0; m < w->lines; ++m) {
    const V d = splat<V>(static_cast<T>(w->offset[m])), top = splat<V>(static_cast<T>(peak[m]));
    T* u = w->u + m * w->ld;
    V sum0 = V{}, sum1 = V{};
    for (int64_t t = 0; t < w->ld; t += 2 * kWidth) {
      const V x = fmadd<V>(d, load<V>(w->slope + t), load<V>(w->exponent + t) + top);
      const V y = fmadd<V>(d, load<V>(w->slope + t + kWidth), load<V>(w->exponent + t + kWidth) + top);
      const V a = exp2_above<V>(x, lowest), b = exp2_above<V>(y, lowest);
      store<V>(u + t, a);
      store<V>(u + t + kWidth, b);
      sum0 += a;
      sum1 += b;
    }
    w->sum[m] = static_cast<double>(sum_lanes<V>(sum0 + sum1));
  }
}

// A block this narrow may hold rows that are almost one-hot: its right factors are taken relative to their value at the
// row's peak, so that the small differences that make the gradient keep their digits (Eq. 8).
template <class T>
DRPM_HD inline bool is_narrow(const BlockWeights<T>& w) {
  return w.block.nodes == 0 && w.ld <= kNarrowColumns;
}

}  // namespace DRPM_ISA
}  // namespace drpm
