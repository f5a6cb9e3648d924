#include "band/band_gradient.h"
#include "band/short_rows.h"
#include "relaxed_sort/relaxed_sort.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class T>
void hard_row(const RelaxedSortArgs<T>& args, int64_t row) {
  const int64_t n = args.band.n;
  const int64_t* order = args.band.order + row * n;
  T* out = args.permutation + row * n * n;
  if (!scores_are_finite(args.band, row)) return team_fill(Alone(), out, n * n, __builtin_nan(""));
  for (int64_t i = 0; i < n; ++i, out += n) {
    memset(out, 0, sizeof(T) * static_cast<size_t>(n));
    out[order[i]] = 1;
  }
}

// A block in the order of the elements instead of the sorted one: where the band is a good part of the row, computing
// all n weights costs less than moving them one by one. Elements outside the band have weight 0.
template <class T>
struct ElementBlock {
  int64_t ld;                                             // padded elements
  T *exponent, *slope, *rank, *row, *right, *c, *moment;  // (ld) each
};

bool by_element(const RowPlan& p, const BandBlock& block) {
  return p.n <= kNarrowColumns || 2 * (block.high - block.low + 1) >= p.n;
}

// The frame of a block, moved to the elements' places. `storage` as block_storage() says: at most half of it is used.
template <class T>
ElementBlock<T> element_block(const RowPlan& p, const BlockWeights<T>& u, const int64_t* order, T* storage) {
  constexpr int64_t kWidth = Lane<Pack<T>>::kWidth;
  const int64_t ld = (p.n + kWidth - 1) / kWidth * kWidth;
  T* at = storage + 3 * u.ld;
  const ElementBlock<T> e = {ld, at, at + ld, at + 2 * ld, at + 3 * ld, at + 4 * ld, at + 5 * ld, at + 6 * ld};
  const int64_t columns = u.block.high - u.block.low + 1;
  if (columns < e.ld)
    for (int64_t t = 0; t < e.ld; ++t) {
      e.exponent[t] = static_cast<T>(-1e9);
      e.slope[t] = 0;
    }
  const int64_t* to = order + u.block.low;
  for (int64_t t = 0; t < columns; ++t) {
    e.exponent[to[t]] = u.exponent[t];
    e.slope[to[t]] = u.slope[t];
  }
  return e;
}

// Weights of one row into e.row, those below 2^lowest as 0; returns their sum.
template <class T>
double element_weights(const ElementBlock<T>& e, double offset, double peak, T lowest) {
  using V = Pack<T>;
  const V d = splat<V>(static_cast<T>(offset)), top = splat<V>(static_cast<T>(peak));
  V sum = V{};
  for (int64_t t = 0; t < e.ld; t += Lane<V>::kWidth) {
    const V exponent = fmadd<V>(d, load<V>(e.slope + t), load<V>(e.exponent + t) + top);
    const V weight = exp2_above<V>(exponent, lowest);
    store<V>(e.row + t, weight);
    sum += weight;
  }
  return static_cast<double>(sum_lanes<V>(sum));
}

template <class T>
void forward_elements(const RelaxedSortArgs<T>& args, const RowPlan& p, int64_t row, const BlockWeights<T>& u,
                      const double* peak, T* storage) {
  using V = Pack<T>;
  constexpr int kWidth = Lane<V>::kWidth;
  const int64_t n = args.band.n, whole = n / kWidth * kWidth;
  const ElementBlock<T> e = element_block(p, u, args.band.order + row * n, storage);
  const T lowest = static_cast<T>(0.8) * Exp2Coefficients<T>::kLowest;  // so that P has no denormals
  T* out = args.permutation + (row * n + u.block.first) * n;
  for (int64_t m = 0; m < u.lines; ++m, out += n) {
    const double sum = element_weights(e, u.offset[m], peak[m], lowest);
    const V inverse = splat<V>(static_cast<T>(1 / sum));
    for (int64_t t = 0; t < whole; t += kWidth) store<V>(out + t, load<V>(e.row + t) * inverse);
    for (int64_t t = whole; t < n; ++t) out[t] = e.row[t] * inverse[0];
  }
}

// Every value of P is written once: a row of zeros, then its band.
template <class T>
void forward_chunk(const RelaxedSortArgs<T>& args, int64_t slot, int64_t row, int64_t index, T* storage) {
  using V = Pack<T>;
  const RowPlan p = row_plan(args.band, slot);
  const BandChunk& chunk = p.chunks[index];
  const int64_t n = args.band.n;
  const int64_t* order = args.band.order + row * n;
  if (!scores_are_finite(args.band, row)) {
    const BandBlock own = chunk_rows(p, chunk);
    return team_fill(Alone(), args.permutation + (row * n + own.first) * n, own.rows * n, __builtin_nan(""));
  }
  BlockWeights<T> u;
  for (int32_t b = chunk.block_begin; b < chunk.block_end; ++b) {
    const BandBlock& block = p.blocks[b];
    if (by_element(p, block)) {
      double peak[kMaxBandNodes];
      frame_block(p, block, storage, &u);
      block_lines(p, block, &u, peak);
      forward_elements(args, p, row, u, peak, storage);
      continue;
    }
    fill_block<T>(p, block, storage, &u);
    const int64_t columns = block.high - block.low + 1;
    const int64_t* to = order + block.low;
    for (int64_t m = 0; m < u.lines; ++m) {
      T* out = args.permutation + (row * n + block.first + m) * n;
      T* weight = u.u + m * u.ld;
      const V inverse = splat<V>(static_cast<T>(1 / u.sum[m]));
      for (int64_t t = 0; t < u.ld; t += Lane<V>::kWidth) store<V>(weight + t, load<V>(weight + t) * inverse);
      memset(out, 0, sizeof(T) * static_cast<size_t>(n));
      for (int64_t t = 0; t < columns; ++t) out[to[t]] = weight[t];
    }
  }
}

// C and M of one row of P: `weight` (not normalised), `right` = its row of G and `rank`, all of `ld` columns in one
// order; `right` is overwritten. The row's own gradient `peak` is taken off: rows that are almost one-hot keep their
// small differences. (Eq. 8)
template <class T>
void row_moments(int64_t ld, const T* weight, double sum, T* right, T peak, const T* rank, double offset, T* c,
                 T* moment) {
  using V = Pack<T>;
  constexpr int kWidth = Lane<V>::kWidth;
  const V own = splat<V>(peak);
  V dot = V{};
  for (int64_t t = 0; t < ld; t += kWidth) {
    const V difference = load<V>(right + t) - own;
    store<V>(right + t, difference);
    dot = fmadd<V>(load<V>(weight + t), difference, dot);
  }
  const double inverse = 1 / sum;
  const V scale = splat<V>(static_cast<T>(inverse));
  const V center = splat<V>(static_cast<T>(static_cast<double>(sum_lanes<V>(dot)) * inverse));
  const V from = splat<V>(static_cast<T>(offset));
  for (int64_t t = 0; t < ld; t += kWidth) {
    const V q = load<V>(weight + t) * scale * (load<V>(right + t) - center);
    store<V>(c + t, load<V>(c + t) + q);
    store<V>(moment + t, fmadd<V>(q, load<V>(rank + t) - from, load<V>(moment + t)));
  }
}

template <class T>
void backward_elements(const RelaxedSortArgs<T>& args, const RowPlan& p, int64_t row, const BlockWeights<T>& u,
                       const double* peak, T* storage, T* c, T* moment) {
  const int64_t n = args.band.n, low = u.block.low, columns = u.block.high - low + 1;
  const int64_t* order = args.band.order + row * n;
  const ElementBlock<T> e = element_block(p, u, order, storage);
  for (int64_t t = 0; t < e.ld; ++t) e.rank[t] = e.right[t] = e.c[t] = e.moment[t] = 0;
  for (int64_t t = 0; t < columns; ++t)
    e.rank[order[low + t]] = static_cast<T>(p.rank[low + t] - static_cast<double>(u.block.frame));
  for (int64_t m = 0; m < u.lines; ++m) {
    const int64_t i = u.block.first + m;
    const T* grad = args.grad + (row * n + i) * n;
    const double sum = element_weights(e, u.offset[m], peak[m], lowest_exponent<T>());
    memcpy(e.right, grad, sizeof(T) * static_cast<size_t>(n));
    row_moments(e.ld, e.row, sum, e.right, grad[order[i]], e.rank, u.offset[m], e.c, e.moment);
  }
  for (int64_t t = 0; t < columns; ++t) {
    c[t] += e.c[order[low + t]];
    moment[t] += e.moment[order[low + t]];
  }
}

// C and M of the rows of a chunk; the right factor differs from row to row: G = grad's row in sorted order.
template <class T>
void backward_chunk(const RelaxedSortArgs<T>& args, int64_t slot, int64_t row, int64_t index, T* storage) {
  const RowPlan p = row_plan(args.band, slot);
  const BandChunk& chunk = p.chunks[index];
  const int64_t n = args.band.n, slab_plane = chunk.high - chunk.low + 1 + kBandPad;
  const int64_t* order = args.band.order + row * n;
  T* c = args.band.slab + slot * args.band.slab_stride + 2 * chunk.offset;
  memset(c, 0, sizeof(T) * static_cast<size_t>(2 * slab_plane));
  BlockWeights<T> u;
  for (int32_t b = chunk.block_begin; b < chunk.block_end; ++b) {
    const BandBlock& block = p.blocks[b];
    T* sums = c + (block.low - chunk.low);
    T* moments = sums + slab_plane;
    if (by_element(p, block)) {
      double peak[kMaxBandNodes];
      frame_block(p, block, storage, &u);
      block_lines(p, block, &u, peak);
      backward_elements(args, p, row, u, peak, storage, sums, moments);
      continue;
    }
    fill_block<T>(p, block, storage, &u);
    rank_columns<T>(p, u);
    const int64_t columns = block.high - block.low + 1;
    const int64_t* from = order + block.low;
    T* right = u.u + u.lines * u.ld;
    for (int64_t m = 0; m < u.lines; ++m) {
      const int64_t i = block.first + m;
      const T* grad = args.grad + (row * n + i) * n;
      for (int64_t t = 0; t < columns; ++t) right[t] = grad[from[t]];
      for (int64_t t = columns; t < u.ld; ++t) right[t] = 0;
      row_moments(u.ld, u.u + m * u.ld, u.sum[m], right, right[i - block.low], u.rank, u.offset[m], sums, moments);
    }
  }
}

template <class T>
void backward_slot(const RelaxedSortArgs<T>& args, int64_t slot, int64_t row) {
  const RowPlan p = row_plan(args.band, slot);
  const int64_t n = args.band.n;
  double* total = args.band.total + 2 * slot * n;
  T* grad_scores = args.band.grad_scores + row * n;
  if (!scores_are_finite(args.band, row)) return team_fill(Alone(), grad_scores, n, __builtin_nan(""));
  if (!all_equal(p)) {
    sum_moments<T>(p, args.band.slab + slot * args.band.slab_stride, total);
    finish_scores_gradient(p, args.band.order + row * n, total, grad_scores);
    return;
  }
  for (int64_t i = 0; i < n; ++i)
    add_equal_scores<T>(i == 0, 0.5 * static_cast<double>(n - 1) - static_cast<double>(i),
                        args.grad + (row * n + i) * n, 1, n, total);
  finish_equal_scores<T>(p, total, grad_scores);
}

// The row as a short one, where it is: false, and nothing done, where not.
template <class T>
bool forward_short(const RelaxedSortArgs<T>& args, int64_t slot, int64_t row) {
  const int64_t n = args.band.n;
  const RowPlan p = row_plan(args.band, slot);
  const int64_t* order = args.band.order + row * n;
  ShortRow r;
  if (!short_row(p, args.band.scores + row * n, order, 1, &r)) return false;
  double weight[kShortRow];
  T* out = args.permutation + row * n * n;
  for (int64_t i = 0; i < n; ++i, out += n) {
    const double inverse = 1 / short_weights(r, i, weight);
    for (int64_t t = 0; t < n; ++t) out[t] = static_cast<T>(weight[t] * inverse);
  }
  return true;
}

template <class T>
bool backward_short(const RelaxedSortArgs<T>& args, int64_t slot, int64_t row) {
  const int64_t n = args.band.n;
  const RowPlan p = row_plan(args.band, slot);
  const int64_t* order = args.band.order + row * n;
  ShortRow r;
  if (!short_row(p, args.band.scores + row * n, order, 1, &r) || all_equal(p)) return false;
  ShortMoments m;
  short_moments(p, order, r, &m);
  double weight[kShortRow], right[kShortRow] = {};
  const T* grad = args.grad + row * n * n;
  for (int64_t i = 0; i < n; ++i, grad += n) {
    for (int64_t t = 0; t < n; ++t) right[t] = static_cast<double>(grad[t]);
    add_short_row(r, i, weight, short_weights(r, i, weight), right, right[order[i]], &m);
  }
  double* total = args.band.total + 2 * slot * n;
  sorted_moments(p, order, m, total);
  finish_scores_gradient(p, order, total, args.band.grad_scores + row * n);
  return true;
}

template <class T>
void forward_task(const RelaxedSortArgs<T>& args, int64_t task) {
  for_task_rows(args.band, task, [&](int64_t row, T* storage) {
    if (forward_short(args, task, row)) return;
    plan_row(args.band, task, row);
    for (int32_t c = 0; c < args.band.counts[task].chunks; ++c) forward_chunk(args, task, row, c, storage);
  });
}

template <class T>
void backward_task(const RelaxedSortArgs<T>& args, int64_t task) {
  for_task_rows(args.band, task, [&](int64_t row, T* storage) {
    if (backward_short(args, task, row)) return;
    plan_row(args.band, task, row);
    for (int32_t c = 0; c < args.band.counts[task].chunks; ++c) backward_chunk(args, task, row, c, storage);
    backward_slot(args, task, row);
  });
}

template <class T>
void forward_item(const RelaxedSortArgs<T>& args, int64_t item, int64_t begin) {
  with_chunk(args.band, item, begin, [&](int64_t slot, int64_t row, int64_t chunk, T* storage) {
    forward_chunk(args, slot, row, chunk, storage);
  });
}

template <class T>
void backward_item(const RelaxedSortArgs<T>& args, int64_t item, int64_t begin) {
  with_chunk(args.band, item, begin, [&](int64_t slot, int64_t row, int64_t chunk, T* storage) {
    backward_chunk(args, slot, row, chunk, storage);
  });
}

}  // namespace

DRPM_DEFINE_KERNELS(relaxed_sort_hard_rows, RelaxedSortArgs, hard_row(args, item))
DRPM_DEFINE_KERNELS(relaxed_sort_forward_tasks, RelaxedSortArgs, forward_task(args, item))
DRPM_DEFINE_KERNELS(relaxed_sort_forward_chunks, RelaxedSortArgs, forward_item(args, item, begin))
DRPM_DEFINE_KERNELS(relaxed_sort_backward_tasks, RelaxedSortArgs, backward_task(args, item))
DRPM_DEFINE_KERNELS(relaxed_sort_backward_chunks, RelaxedSortArgs, backward_item(args, item, begin))
DRPM_DEFINE_KERNELS(relaxed_sort_backward_slots, RelaxedSortArgs, backward_slot(args, item, args.band.first_row + item))

}  // namespace DRPM_ISA
}  // namespace drpm
