#include "band/band_block.h"
#include "band/short_rows.h"
#include "relaxed_sort/relaxed_sort.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class Args>
int64_t task_begin(const Args& args, int64_t task) {
  return args.rows * task / args.tasks;
}

template <class T>
void sort_task(const SortArgs<T>& args, int64_t task) {
  for (int64_t row = task_begin(args, task); row < task_begin(args, task + 1); ++row)
    sort_order(args.scores + row * args.n, args.n, args.items + 2 * task * args.n, args.order + row * args.n);
}

template <template <class> class Args, class T>
RowPlan slot_plan(const Args<T>& args, int64_t slot) {
  return row_plan<T>(args.band, slot, args.n, args.tau);
}

template <class T>
void gather_rows(const RelaxedSortArgs<T>& args, int64_t slot, int64_t row, int64_t segment) {
  gather_segment(slot_plan(args, slot), args.scores + row * args.n, args.order + row * args.n, segment);
}

// Every row is wanted: no interpolated blocks; each also writes (or reads) n values.
template <class T>
void plan_rows_of(const RelaxedSortArgs<T>& args, int64_t slot, int64_t segment) {
  plan_segment(slot_plan(args, slot), BandTables{}, segment, kNarrowColumns);
}

template <class T>
void finish_plan(const RelaxedSortArgs<T>& args, int64_t slot) {
  plan_chunks(slot_plan(args, slot), 0.5 * static_cast<double>(args.n));
}

// Also the values in sorted order, by columns.
template <class T>
void gather_rows(const RelaxedSortMatmulArgs<T>& args, int64_t slot, int64_t row, int64_t segment) {
  const int64_t n = args.n, d = args.columns, end = segment_end(n, segment);
  const int64_t* order = args.order + row * n;
  gather_segment(slot_plan(args, slot), args.scores + row * n, order, segment);
  const T* values = args.values + row * n * d;
  for (int64_t q = 0; q < d; ++q) {
    T* plane = args.planes + (slot * d + q) * (n + kBandPad);
    for (int64_t j = segment * segment_rows(n); j < end; ++j) plane[j] = values[order[j] * d + q];
    for (int64_t j = n; end == n && j < n + kBandPad; ++j) plane[j] = 0;
  }
}

template <class T>
void plan_rows_of(const RelaxedSortMatmulArgs<T>& args, int64_t slot, int64_t segment) {
  plan_segment(slot_plan(args, slot), args.tables, segment);
}

template <class T>
void finish_plan(const RelaxedSortMatmulArgs<T>& args, int64_t slot) {
  plan_chunks(slot_plan(args, slot));
}

template <class Args>
void plan_slot(const Args& args, int64_t slot, int64_t row) {
  const int64_t segments = plan_segments(args.n);
  for (int64_t segment = 0; segment < segments; ++segment) gather_rows(args, slot, row, segment);
  for (int64_t segment = 0; segment < segments; ++segment) scan_segment(slot_plan(args, slot), segment);
  for (int64_t segment = 0; segment < segments; ++segment) plan_rows_of(args, slot, segment);
  finish_plan(args, slot);
}

template <class T>
void hard_row(const RelaxedSortArgs<T>& args, int64_t row) {
  const int64_t n = args.n;
  const int64_t* order = args.order + row * n;
  T* out = args.permutation + row * n * n;
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
  const int64_t n = args.n, whole = n / kWidth * kWidth;
  const ElementBlock<T> e = element_block(p, u, args.order + row * n, storage);
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
  const RowPlan p = slot_plan(args, slot);
  const BandChunk& chunk = p.chunks[index];
  const int64_t n = args.n;
  const int64_t* order = args.order + row * n;
  BlockWeights<T> u;
  for (int32_t b = chunk.block_begin; b < chunk.block_end; ++b) {
    const BandBlock& block = p.blocks[b];
    if (by_element(p, block)) {
      double peak[kMaxBandNodes];
      frame_block(p, block, storage, &u);
      block_lines(p, block, args.tables, &u, peak);
      forward_elements(args, p, row, u, peak, storage);
      continue;
    }
    fill_block<T>(p, block, args.tables, storage, &u);
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
  const int64_t n = args.n, low = u.block.low, columns = u.block.high - low + 1;
  const int64_t* order = args.order + row * n;
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
  const RowPlan p = slot_plan(args, slot);
  const BandChunk& chunk = p.chunks[index];
  const int64_t n = args.n, slab_plane = chunk.high - chunk.low + 1 + kBandPad;
  const int64_t* order = args.order + row * n;
  T* c = args.slab + slot * args.slab_stride + 2 * chunk.offset;
  memset(c, 0, sizeof(T) * static_cast<size_t>(2 * slab_plane));
  BlockWeights<T> u;
  for (int32_t b = chunk.block_begin; b < chunk.block_end; ++b) {
    const BandBlock& block = p.blocks[b];
    T* sums = c + (block.low - chunk.low);
    T* moments = sums + slab_plane;
    if (by_element(p, block)) {
      double peak[kMaxBandNodes];
      frame_block(p, block, storage, &u);
      block_lines(p, block, args.tables, &u, peak);
      backward_elements(args, p, row, u, peak, storage, sums, moments);
      continue;
    }
    fill_block<T>(p, block, args.tables, storage, &u);
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
  const RowPlan p = slot_plan(args, slot);
  const int64_t n = args.n;
  double* total = args.total + 2 * slot * n;
  T* grad_scores = args.grad_scores + row * n;
  if (!all_equal(p)) {
    sum_moments<T>(p, args.slab + slot * args.slab_stride, total);
    finish_scores_gradient(p, args.order + row * n, total, grad_scores);
    return;
  }
  for (int64_t i = 0; i < n; ++i)
    add_equal_scores<T>(i == 0, 0.5 * static_cast<double>(n - 1) - static_cast<double>(i),
                        args.grad + (row * n + i) * n, 1, n, total);
  finish_equal_scores<T>(p, total, grad_scores);
}

template <class T>
void hard_row(const RelaxedSortMatmulArgs<T>& args, int64_t row) {
  const int64_t n = args.n, d = args.columns;
  for (int64_t i = 0; i < n; ++i)
    memcpy(args.product + (row * n + i) * d, args.values + (row * n + args.order[row * n + i]) * d,
           sizeof(T) * static_cast<size_t>(d));
}

template <class T>
void forward_chunk(const RelaxedSortMatmulArgs<T>& args, int64_t slot, int64_t row, int64_t index, T* storage) {
  const RowPlan p = slot_plan(args, slot);
  const BandChunk& chunk = p.chunks[index];
  const int64_t d = args.columns, plane = args.n + kBandPad;
  BlockWeights<T> u;
  double product[kMaxBandNodes * kBandClasses];
  for (int32_t b = chunk.block_begin; b < chunk.block_end; ++b) {
    const BandBlock& block = p.blocks[b];
    fill_block<T>(p, block, args.tables, storage, &u);
    for (int64_t q = 0; q < d; q += kBandClasses) {
      const int64_t count = d - q < kBandClasses ? d - q : kBandClasses;
      contract<T>(u, false, args.planes + (slot * d + q) * plane + block.low, plane, count, product, kBandClasses);
      auto visit = [&](int64_t first, int64_t rows, const VecD* value, VecD*, VecD*) {
        T* out = args.product + (row * args.n + first) * d + q;
        for (int64_t c = 0; c < count; ++c)
          for (int64_t l = 0; l < rows; ++l) out[l * d + c] = static_cast<T>(value[c][l]);
      };
      visit_rows<T>(u, args.tables, count, product, visit, nullptr);
    }
  }
}

// C, M and, relaxed, grad_values = P^T grad: the left factors are the columns of grad.
template <class T>
void backward_chunk(const RelaxedSortMatmulArgs<T>& args, int64_t slot, int64_t row, int64_t index, T* storage) {
  const RowPlan p = slot_plan(args, slot);
  const BandChunk& chunk = p.chunks[index];
  const int64_t n = args.n, d = args.columns, plane = n + kBandPad;
  const int64_t slab_plane = chunk.high - chunk.low + 1 + kBandPad;
  T* c = args.slab + slot * args.slab_stride + 2 * chunk.offset;
  T* grad_values = args.slab + slot * args.slab_stride + 2 * slab_columns(n) + d * chunk.offset;
  memset(c, 0, sizeof(T) * static_cast<size_t>(2 * slab_plane));
  if (!args.hard) memset(grad_values, 0, sizeof(T) * static_cast<size_t>(d * slab_plane));
  BlockWeights<T> u;
  LineFactors<T> factors;
  double product[kMaxBandNodes * kBandClasses];
  for (int32_t b = chunk.block_begin; b < chunk.block_end; ++b) {
    const BandBlock& block = p.blocks[b];
    fill_block<T>(p, block, args.tables, storage, &u);
    rank_columns<T>(p, u);
    const int64_t at = block.low - chunk.low;
    for (int64_t q = 0; q < d; q += kBandClasses) {
      const int64_t count = d - q < kBandClasses ? d - q : kBandClasses;
      const T* g = args.planes + (slot * d + q) * plane + block.low;
      contract<T>(u, true, g, plane, count, product, kBandClasses);
      auto visit = [&](int64_t first, int64_t rows, const VecD* value, VecD* a, VecD* center) {
        const T* grad = args.grad + (row * n + first) * d + q;
        VecD sum = VecD{};
        for (int64_t k = 0; k < count; ++k) {
          VecD left = VecD{};
          for (int64_t l = 0; l < rows; ++l) left[l] = static_cast<double>(grad[l * d + k]);
          a[k] = left;
          sum += left * value[k];
        }
        *center = sum;
      };
      visit_rows<T>(u, args.tables, count, product, visit, &factors);
      add_moments<T>(u, factors, count, g, plane, c + at, c + slab_plane + at);
      if (!args.hard) add_left<T>(u, factors.left, kBandClasses, count, grad_values + q * slab_plane + at, slab_plane);
    }
  }
}

template <class T>
void backward_slot(const RelaxedSortMatmulArgs<T>& args, int64_t slot, int64_t row) {
  const RowPlan p = slot_plan(args, slot);
  const int64_t n = args.n, d = args.columns;
  const int64_t* order = args.order + row * n;
  const T* slab = args.slab + slot * args.slab_stride;
  double* total = args.total + 2 * slot * n;
  T* grad_scores = args.grad_scores + row * n;
  if (all_equal(p)) {
    for (int64_t q = 0; q < d; ++q) {
      double moment = 0;
      for (int64_t i = 0; i < n; ++i)
        moment += (0.5 * static_cast<double>(n - 1) - static_cast<double>(i)) *
                  static_cast<double>(args.grad[(row * n + i) * d + q]);
      add_equal_scores<T>(q == 0, moment, args.values + row * n * d + q, d, n, total);
    }
    if (d == 0) memset(total, 0, sizeof(double) * static_cast<size_t>(n));
    finish_equal_scores<T>(p, total, grad_scores);
  } else {
    sum_moments<T>(p, slab, total);
    finish_scores_gradient(p, order, total, grad_scores);
  }
  T* out = args.grad_values + row * n * d;
  if (args.hard) {
    for (int64_t i = 0; i < n; ++i)
      memcpy(out + order[i] * d, args.grad + (row * n + i) * d, sizeof(T) * static_cast<size_t>(d));
    return;
  }
  for (int64_t i = 0; i < n * d; ++i) out[i] = 0;
  for (int32_t k = 0; k < p.counts->chunks; ++k) {
    const BandChunk& chunk = p.chunks[k];
    const int64_t columns = chunk.high - chunk.low + 1;
    const T* from = slab + 2 * slab_columns(n) + d * chunk.offset;
    for (int64_t q = 0; q < d; ++q, from += columns + kBandPad)
      for (int64_t t = 0; t < columns; ++t) out[order[chunk.low + t] * d + q] += from[t];
  }
}

// The row as a short one, where it is: false, and nothing done, where not.
template <class T>
bool forward_short(const RelaxedSortArgs<T>& args, int64_t slot, int64_t row) {
  const int64_t n = args.n;
  const RowPlan p = slot_plan(args, slot);
  const int64_t* order = args.order + row * n;
  ShortRow r;
  if (!short_row(p, args.scores + row * n, order, 1, &r)) return false;
  double weight[kShortRow];
  T* out = args.permutation + row * n * n;
  for (int64_t i = 0; i < n; ++i, out += n) {
    const double inverse = 1 / short_weights(r, i, weight);
    for (int64_t t = 0; t < n; ++t) out[t] = static_cast<T>(weight[t] * inverse);
  }
  return true;
}

// Columns of `from` (n, d) as float64 planes, zero in the padding.
template <class T>
void short_planes(const T* from, int64_t n, int64_t d, double (*planes)[kShortRow]) {
  for (int64_t q = 0; q < d; ++q) {
    for (int64_t t = 0; t < n; ++t) planes[q][t] = static_cast<double>(from[t * d + q]);
    for (int64_t t = n; t < kShortRow; ++t) planes[q][t] = 0;
  }
}

template <class T>
bool forward_short(const RelaxedSortMatmulArgs<T>& args, int64_t slot, int64_t row) {
  const int64_t n = args.n, d = args.columns;
  const RowPlan p = slot_plan(args, slot);
  const int64_t* order = args.order + row * n;
  ShortRow r;
  if (!short_row(p, args.scores + row * n, order, d, &r)) return false;
  double weight[kShortRow], values[kBandClasses][kShortRow];
  short_planes(args.values + row * n * d, n, d, values);
  T* out = args.product + row * n * d;
  for (int64_t i = 0; i < n; ++i, out += d) {
    const double inverse = 1 / short_weights(r, i, weight);
    for (int64_t q = 0; q < d; ++q) {
      VecD sum = VecD{};
      for (int64_t t = 0; t < r.ld; t += kShortLane)
        sum = fmadd<VecD>(load<VecD>(weight + t), load<VecD>(values[q] + t), sum);
      out[q] = static_cast<T>(inverse * sum_lanes<VecD>(sum));
    }
  }
  return true;
}

template <class T>
bool backward_short(const RelaxedSortArgs<T>& args, int64_t slot, int64_t row) {
  const int64_t n = args.n;
  const RowPlan p = slot_plan(args, slot);
  const int64_t* order = args.order + row * n;
  ShortRow r;
  if (!short_row(p, args.scores + row * n, order, 1, &r) || all_equal(p)) return false;
  ShortMoments m;
  short_moments(p, order, r, &m);
  double weight[kShortRow], right[kShortRow] = {};
  const T* grad = args.grad + row * n * n;
  for (int64_t i = 0; i < n; ++i, grad += n) {
    for (int64_t t = 0; t < n; ++t) right[t] = static_cast<double>(grad[t]);
    add_short_row(r, i, weight, short_weights(r, i, weight), right, right[order[i]], &m);
  }
  double* total = args.total + 2 * slot * n;
  sorted_moments(p, order, m, total);
  finish_scores_gradient(p, order, total, args.grad_scores + row * n);
  return true;
}

template <class T>
bool backward_short(const RelaxedSortMatmulArgs<T>& args, int64_t slot, int64_t row) {
  const int64_t n = args.n, d = args.columns;
  const RowPlan p = slot_plan(args, slot);
  const int64_t* order = args.order + row * n;
  ShortRow r;
  if (!short_row(p, args.scores + row * n, order, d, &r) || all_equal(p)) return false;
  ShortMoments m;
  short_moments(p, order, r, &m);
  double weight[kShortRow], right[kShortRow], values[kBandClasses][kShortRow], left[kBandClasses][kShortRow];
  short_planes(args.values + row * n * d, n, d, values);
  for (int64_t q = 0; q < d; ++q)
    for (int64_t t = 0; t < r.ld; ++t) left[q][t] = 0;
  const T* grad = args.grad + row * n * d;
  for (int64_t i = 0; i < n; ++i, grad += d) {
    const double sum = short_weights(r, i, weight), inverse = 1 / sum;
    for (int64_t t = 0; t < r.ld; t += kShortLane) {
      VecD line = VecD{};
      for (int64_t q = 0; q < d; ++q) {
        const VecD g = splat<VecD>(static_cast<double>(grad[q]));
        line = fmadd<VecD>(g, load<VecD>(values[q] + t), line);
        store<VecD>(left[q] + t, fmadd<VecD>(g * inverse, load<VecD>(weight + t), load<VecD>(left[q] + t)));
      }
      store<VecD>(right + t, line);
    }
    add_short_row(r, i, weight, sum, right, right[order[i]], &m);
  }
  double* total = args.total + 2 * slot * n;
  sorted_moments(p, order, m, total);
  finish_scores_gradient(p, order, total, args.grad_scores + row * n);
  T* out = args.grad_values + row * n * d;
  grad = args.grad + row * n * d;
  for (int64_t q = 0; q < d; ++q)
    for (int64_t t = 0; t < n; ++t) {
      if (args.hard)
        out[order[t] * d + q] = grad[t * d + q];
      else
        out[t * d + q] = static_cast<T>(left[q][t]);
    }
  return true;
}

template <class Args>
void forward_task(const Args& args, int64_t task) {
  for (int64_t row = task_begin(args, task); row < task_begin(args, task + 1); ++row) {
    if (forward_short(args, task, row)) continue;
    plan_slot(args, task, row);
    const int32_t chunks = args.band.counts[task].chunks;
    for (int32_t c = 0; c < chunks; ++c) forward_chunk(args, task, row, c, args.block + task * args.block_stride);
  }
}

template <class Args>
void backward_task(const Args& args, int64_t task) {
  for (int64_t row = task_begin(args, task); row < task_begin(args, task + 1); ++row) {
    if (backward_short(args, task, row)) continue;
    plan_slot(args, task, row);
    const int32_t chunks = args.band.counts[task].chunks;
    for (int32_t c = 0; c < chunks; ++c) backward_chunk(args, task, row, c, args.block + task * args.block_stride);
    backward_slot(args, task, row);
  }
}

// The block storage of a range's first item serves the whole range.
template <class Args>
void forward_item(const Args& args, int64_t item, int64_t begin) {
  const BandItem& work = args.items[item];
  forward_chunk(args, work.slot, args.first_row + work.slot, work.chunk, args.block + begin * args.block_stride);
}

template <class Args>
void backward_item(const Args& args, int64_t item, int64_t begin) {
  const BandItem& work = args.items[item];
  backward_chunk(args, work.slot, args.first_row + work.slot, work.chunk, args.block + begin * args.block_stride);
}

}  // namespace

#define DRPM_DEFINE(Name, Args, Item)                               \
  void Name(const Args<float>& args, int64_t begin, int64_t end) {  \
    for (int64_t item = begin; item < end; ++item) Item;            \
  }                                                                 \
  void Name(const Args<double>& args, int64_t begin, int64_t end) { \
    for (int64_t item = begin; item < end; ++item) Item;            \
  }

DRPM_DEFINE(sort_tasks, SortArgs, sort_task(args, item))

DRPM_DEFINE(relaxed_sort_hard_rows, RelaxedSortArgs, hard_row(args, item))
DRPM_DEFINE(relaxed_sort_forward_tasks, RelaxedSortArgs, forward_task(args, item))
DRPM_DEFINE(relaxed_sort_backward_tasks, RelaxedSortArgs, backward_task(args, item))
DRPM_DEFINE(relaxed_sort_gather_segments, RelaxedSortArgs,
            gather_rows(args, item / plan_segments(args.n), args.first_row + item / plan_segments(args.n),
                        item % plan_segments(args.n)))
DRPM_DEFINE(relaxed_sort_scan_segments, RelaxedSortArgs,
            scan_segment(slot_plan(args, item / plan_segments(args.n)), item % plan_segments(args.n)))
DRPM_DEFINE(relaxed_sort_plan_segments, RelaxedSortArgs,
            plan_rows_of(args, item / plan_segments(args.n), item % plan_segments(args.n)))
DRPM_DEFINE(relaxed_sort_plan_slots, RelaxedSortArgs, finish_plan(args, item))
DRPM_DEFINE(relaxed_sort_forward_chunks, RelaxedSortArgs, forward_item(args, item, begin))
DRPM_DEFINE(relaxed_sort_backward_chunks, RelaxedSortArgs, backward_item(args, item, begin))
DRPM_DEFINE(relaxed_sort_backward_slots, RelaxedSortArgs, backward_slot(args, item, args.first_row + item))

DRPM_DEFINE(relaxed_sort_matmul_hard_rows, RelaxedSortMatmulArgs, hard_row(args, item))
DRPM_DEFINE(relaxed_sort_matmul_forward_tasks, RelaxedSortMatmulArgs, forward_task(args, item))
DRPM_DEFINE(relaxed_sort_matmul_backward_tasks, RelaxedSortMatmulArgs, backward_task(args, item))
DRPM_DEFINE(relaxed_sort_matmul_gather_segments, RelaxedSortMatmulArgs,
            gather_rows(args, item / plan_segments(args.n), args.first_row + item / plan_segments(args.n),
                        item % plan_segments(args.n)))
DRPM_DEFINE(relaxed_sort_matmul_scan_segments, RelaxedSortMatmulArgs,
            scan_segment(slot_plan(args, item / plan_segments(args.n)), item % plan_segments(args.n)))
DRPM_DEFINE(relaxed_sort_matmul_plan_segments, RelaxedSortMatmulArgs,
            plan_rows_of(args, item / plan_segments(args.n), item % plan_segments(args.n)))
DRPM_DEFINE(relaxed_sort_matmul_plan_slots, RelaxedSortMatmulArgs, finish_plan(args, item))
DRPM_DEFINE(relaxed_sort_matmul_forward_chunks, RelaxedSortMatmulArgs, forward_item(args, item, begin))
DRPM_DEFINE(relaxed_sort_matmul_backward_chunks, RelaxedSortMatmulArgs, backward_item(args, item, begin))
DRPM_DEFINE(relaxed_sort_matmul_backward_slots, RelaxedSortMatmulArgs, backward_slot(args, item, args.first_row + item))

#undef DRPM_DEFINE

}  // namespace DRPM_ISA
}  // namespace drpm
