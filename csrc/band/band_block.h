// Loops over one block of rows of the banded relaxed sort, vectorised over its columns; docs/math/relaxed_sort.md.
// A block is a matrix U of weights (rows, or Chebyshev nodes, times columns). For left factors a_q (rows) and right
// factors G_q (columns), q < kBandClasses at a time, it yields Y_q += a_q P, N_q = P G_q and the moments of Q.
#pragma once

#include "band/band_math.h"

namespace drpm {
namespace DRPM_ISA {

constexpr int64_t kBandClasses = 16;

DRPM_HD constexpr int64_t padded_columns(int64_t columns) { return (columns + kBandPad - 1) / kBandPad * kBandPad; }

// Elements of T that a block of at most `widest` columns needs: U, and exponent, slope and rank of the columns.
template <class T>
DRPM_HD constexpr int64_t block_storage(int64_t widest) {
  constexpr int64_t kMost = BandConstants<T>::kNodes > kBandRows ? BandConstants<T>::kNodes : kBandRows;
  return (kMost + 3) * padded_columns(widest);
}

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
  put(i0, 0);
  // the frame row's own group one by one, then whole groups from their anchors
  double base = 0;
  int64_t j = i0;
  for (; j + 1 < end && (j + 1) % kBandGroup != 0; ++j) {
    base += static_cast<double>(2 * (j - i0) + 1) * (s[j] - s[j + 1]);
    put(j + 1, base);
  }
  if (j + 1 < end) base += static_cast<double>(2 * (j - i0) + 1) * (s[j] - s[j + 1]);
  for (int64_t g = j + 1; g < end; g += kBandGroup) {
    const double anchor = s[g], rate = static_cast<double>(2 * (g - i0) + 1), start = base;
    const double* right = p.right;
    frame_group(p, w, g, g + kBandGroup < end ? g + kBandGroup : end,
                [=](int64_t c) { return start + rate * (anchor - s[c]) + 2 * right[c]; });
    constexpr int64_t kEnd = kBandGroup - 1;
    if (g + kBandGroup < end)
      base += rate * (anchor - s[g + kBandGroup]) +
              2 * (right[g + kEnd] + static_cast<double>(kEnd) * (s[g + kEnd] - s[g + kBandGroup]));
  }
  base = 0;
  j = i0;
  for (; j > low && j % kBandGroup != 0; --j) {
    base += static_cast<double>(2 * (i0 - j) + 1) * (s[j - 1] - s[j]);
    put(j - 1, base);
  }
  for (int64_t next = j; next > low; next -= kBandGroup) {
    const int64_t g = next - kBandGroup;
    const double anchor = s[next], rate = static_cast<double>(2 * (i0 - next) - 1), start = base;
    const double* left = p.left;
    frame_group(p, w, g > low ? g : low, next, [=](int64_t c) { return start + rate * (s[c] - anchor) + 2 * left[c]; });
    base += rate * (s[g] - anchor) + 2 * left[g];
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
inline void block_lines(const RowPlan& p, const BandBlock& block, const BandTables& tables, BlockWeights<T>* w,
                        double* peak) {
  if (block.nodes > 0) {
    w->lines = block.nodes;
    const double half = 0.5 * (block.rows - 1), middle = block.first - block.frame + half;
    for (int64_t m = 0; m < w->lines; ++m) {
      w->offset[m] = middle + half * tables.position[m];
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
    drop += (s[i - 1] - s[i0]) + (s[i] - s[i0]);
    peak[i - 1 - first] = drop;
  }
  drop = 0;
  for (int64_t i = i0; i + 1 < first + block.rows; ++i) {
    drop += (s[i0] - s[i]) + (s[i0] - s[i + 1]);
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
inline void fill_block(const RowPlan& p, const BandBlock& block, const BandTables& tables, T* storage,
                       BlockWeights<T>* w) {
  using V = Pack<T>;
  constexpr int kWidth = Lane<V>::kWidth;
  frame_block(p, block, storage, w);
  double peak[kMaxBandNodes];
  block_lines(p, block, tables, w, peak);
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

// A block this narrow may hold rows that are almost one-hot: its right factors are taken relative to their value at the
// row's peak, so that the small differences that make the gradient keep their digits (Eq. 8).
template <class T>
DRPM_HD inline bool is_narrow(const BlockWeights<T>& w) {
  return w.block.nodes == 0 && w.ld <= kNarrowColumns;
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

// Coefficient r of the Chebyshev series through the values at the nodes (Eq. 11).
inline void chebyshev_series(const BandTables& tables, const double* value, int64_t stride, double* series) {
  for (int64_t r = 0; r < tables.nodes; ++r) series[r] = 0;
  for (int64_t m = 0; m < tables.nodes; ++m)
    for (int64_t r = 0; r < tables.nodes; ++r) series[r] += tables.transform[m * tables.nodes + r] * value[m * stride];
}

// The transpose: weights of the nodes from the moments of the rows against T_r.
template <class T>
inline void chebyshev_nodes(const BandTables& tables, const double* moment, T* node, int64_t stride) {
  for (int64_t m = 0; m < tables.nodes; ++m) {
    double sum = 0;
    for (int64_t r = 0; r < tables.nodes; ++r) sum += tables.transform[m * tables.nodes + r] * moment[r];
    node[m * stride] = static_cast<T>(sum);
  }
}

// Visits the rows of a block, a pack of doubles at a time: visit(first, rows, n, a, center) gets N_q = P G_q of these
// rows in n (where `product` is given, and relative to the peaks where contract() was) and sets their left factors a_q
// and, for a product, center = sum_q a_q n_q. Lanes beyond `rows` are 0 in n and do not count. f, where given, receives
// a_q / Z and center / Z carried to the lines of U.
template <class T, class Visit>
inline void visit_rows(const BlockWeights<T>& w, const BandTables& tables, int64_t classes, const double* product,
                       const Visit& visit, LineFactors<T>* f) {
  using V = VecD;
  constexpr int kWidth = Lane<V>::kWidth;
  const BandBlock& block = w.block;
  V a[kBandClasses], n[kBandClasses], center = V{};
  if (block.nodes == 0) {
    for (int64_t start = 0; start < block.rows; start += kWidth) {
      const int64_t count = block.rows - start < kWidth ? block.rows - start : kWidth;
      double part[kWidth];
      for (int l = 0; l < kWidth; ++l) part[l] = l < count ? 1 / w.sum[start + l] : 0;
      const V inverse = load<V>(part);
      if (product != nullptr)
        for (int64_t q = 0; q < classes; ++q) {
          for (int l = 0; l < kWidth; ++l) part[l] = l < count ? product[(start + l) * kBandClasses + q] : 0;
          n[q] = load<V>(part) * inverse;
        }
      visit(block.first + start, count, n, a, &center);
      if (f == nullptr) continue;
      for (int64_t q = 0; q < classes; ++q) {
        store<V>(part, a[q] * inverse);
        for (int l = 0; l < count; ++l) f->left[(start + l) * kBandClasses + q] = static_cast<T>(part[l]);
      }
      if (product == nullptr) continue;
      store<V>(part, center * inverse);
      for (int l = 0; l < count; ++l) f->center[start + l] = static_cast<T>(part[l]);
    }
    return;
  }
  const int64_t nodes = tables.nodes;
  double z_series[kMaxBandNodes], n_series[kBandClasses][kMaxBandNodes];
  chebyshev_series(tables, w.sum, 1, z_series);
  if (product != nullptr)
    for (int64_t q = 0; q < classes; ++q) chebyshev_series(tables, product + q, kBandClasses, n_series[q]);
  // moments of a_q / Z, offset a_q / Z, c / Z and offset c / Z against T_r
  const int64_t quantities = f == nullptr ? 0 : (product == nullptr ? classes : 2 * classes + 2);
  V moment[kMaxBandNodes][2 * kBandClasses + 2];
  for (int64_t r = 0; r < nodes; ++r)
    for (int64_t x = 0; x < quantities; ++x) moment[r][x] = V{};
  const double half = 0.5 * (block.rows - 1);
  const double first_offset = static_cast<double>(block.first - block.frame);
  for (int64_t start = 0; start < block.rows; start += kWidth) {
    const int64_t count = block.rows - start < kWidth ? block.rows - start : kWidth;
    double part[kWidth], valid[kWidth];
    for (int l = 0; l < kWidth; ++l) {
      const int64_t row = l < count ? start + l : start;
      part[l] = static_cast<double>(row);
      valid[l] = l < count ? 1 : 0;
    }
    const V row = load<V>(part);
    const V x = (row - half) * (1 / half);
    V basis[kMaxBandNodes];
    basis[0] = splat<V>(1);
    basis[1] = x;
    for (int64_t r = 2; r < nodes; ++r) basis[r] = (x + x) * basis[r - 1] - basis[r - 2];
    V z = V{};
    for (int64_t r = 0; r < nodes; ++r) z += z_series[r] * basis[r];
    const V inverse = splat<V>(1) / z;
    if (product != nullptr)
      for (int64_t q = 0; q < classes; ++q) {
        V sum = V{};
        for (int64_t r = 0; r < nodes; ++r) sum += n_series[q][r] * basis[r];
        n[q] = sum * inverse * load<V>(valid);
      }
    visit(block.first + start, count, n, a, &center);
    if (f == nullptr) continue;
    const V weight = inverse * load<V>(valid);
    const V offset = row + first_offset;
    V quantity[2 * kBandClasses + 2];
    for (int64_t q = 0; q < classes; ++q) quantity[q] = a[q] * weight;
    if (product != nullptr) {
      for (int64_t q = 0; q < classes; ++q) quantity[classes + q] = quantity[q] * offset;
      quantity[2 * classes] = center * weight;
      quantity[2 * classes + 1] = quantity[2 * classes] * offset;
    }
    for (int64_t r = 0; r < nodes; ++r)
      for (int64_t k = 0; k < quantities; ++k) moment[r][k] += quantity[k] * basis[r];
  }
  double sums[kMaxBandNodes];
  for (int64_t k = 0; k < quantities; ++k) {
    for (int64_t r = 0; r < nodes; ++r) sums[r] = sum_lanes<V>(moment[r][k]);
    if (k < classes)
      chebyshev_nodes(tables, sums, f->left + k, kBandClasses);
    else if (k < 2 * classes)
      chebyshev_nodes(tables, sums, f->left_moved + (k - classes), kBandClasses);
    else
      chebyshev_nodes(tables, sums, k == 2 * classes ? f->center : f->center_moved, 1);
  }
}

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
