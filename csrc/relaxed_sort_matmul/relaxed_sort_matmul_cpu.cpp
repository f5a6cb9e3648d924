#include "band/band_gradient.h"
#include "band/short_rows.h"
#include "relaxed_sort_matmul/relaxed_sort_matmul.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// Column q of the values in sorted order.
template <class T>
void gather_plane(const RelaxedSortMatmulArgs<T>& args, int64_t slot, int64_t row, int64_t q) {
  const int64_t n = args.band.n, d = args.columns;
  const int64_t* order = args.band.order + row * n;
  const T* values = args.values + row * n * d;
  T* plane = args.planes + (slot * d + q) * (n + kBandPad);
  for (int64_t j = 0; j < n; ++j) plane[j] = values[order[j] * d + q];
  for (int64_t j = n; j < n + kBandPad; ++j) plane[j] = 0;
}

template <class T>
void hard_row(const RelaxedSortMatmulArgs<T>& args, int64_t row) {
  const int64_t n = args.band.n, d = args.columns;
  if (!scores_are_finite(args.band, row))
    return team_fill(Alone(), args.product + row * n * d, n * d, __builtin_nan(""));
  for (int64_t i = 0; i < n; ++i)
    memcpy(args.product + (row * n + i) * d, args.values + (row * n + args.band.order[row * n + i]) * d,
           sizeof(T) * static_cast<size_t>(d));
}

template <class T>
void forward_chunk(const RelaxedSortMatmulArgs<T>& args, int64_t slot, int64_t row, int64_t index, T* storage) {
  const RowPlan p = row_plan(args.band, slot);
  const BandChunk& chunk = p.chunks[index];
  const int64_t d = args.columns, plane = args.band.n + kBandPad;
  if (!scores_are_finite(args.band, row)) {
    const BandBlock own = chunk_rows(p, chunk);
    return team_fill(Alone(), args.product + (row * args.band.n + own.first) * d, own.rows * d, __builtin_nan(""));
  }
  BlockWeights<T> u;
  double product[kMaxBandNodes * kBandClasses];
  for (int32_t b = chunk.block_begin; b < chunk.block_end; ++b) {
    const BandBlock& block = p.blocks[b];
    fill_block<T>(p, block, storage, &u);
    for (int64_t q = 0; q < d; q += kBandClasses) {
      const int64_t count = d - q < kBandClasses ? d - q : kBandClasses;
      contract<T>(u, false, args.planes + (slot * d + q) * plane + block.low, plane, count, product, kBandClasses);
      auto visit = [&](int64_t first, int64_t rows, const VecD* value, VecD*, VecD*) {
        T* out = args.product + (row * args.band.n + first) * d + q;
        for (int64_t c = 0; c < count; ++c)
          for (int64_t l = 0; l < rows; ++l) out[l * d + c] = static_cast<T>(value[c][l]);
      };
      visit_rows<T>(u, p.tables, count, product, visit, nullptr);
    }
  }
}

// C, M and, relaxed, grad_values = P^T grad: the left factors are the columns of grad.
template <class T>
void backward_chunk(const RelaxedSortMatmulArgs<T>& args, int64_t slot, int64_t row, int64_t index, T* storage) {
  const RowPlan p = row_plan(args.band, slot);
  const BandChunk& chunk = p.chunks[index];
  const int64_t n = args.band.n, d = args.columns, plane = n + kBandPad;
  const int64_t slab_plane = chunk.high - chunk.low + 1 + kBandPad;
  T* c = args.band.slab + slot * args.band.slab_stride + 2 * chunk.offset;
  T* grad_values = args.band.slab + slot * args.band.slab_stride + 2 * slab_columns(n) + d * chunk.offset;
  memset(c, 0, sizeof(T) * static_cast<size_t>(2 * slab_plane));
  if (!args.hard) memset(grad_values, 0, sizeof(T) * static_cast<size_t>(d * slab_plane));
  BlockWeights<T> u;
  LineFactors<T> factors;
  double product[kMaxBandNodes * kBandClasses];
  for (int32_t b = chunk.block_begin; b < chunk.block_end; ++b) {
    const BandBlock& block = p.blocks[b];
    fill_block<T>(p, block, storage, &u);
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
      visit_rows<T>(u, p.tables, count, product, visit, &factors);
      add_moments<T>(u, factors, count, g, plane, c + at, c + slab_plane + at);
      if (!args.hard) add_left<T>(u, factors.left, kBandClasses, count, grad_values + q * slab_plane + at, slab_plane);
    }
  }
}

template <class T>
void backward_slot(const RelaxedSortMatmulArgs<T>& args, int64_t slot, int64_t row) {
  const RowPlan p = row_plan(args.band, slot);
  const int64_t n = args.band.n, d = args.columns;
  const int64_t* order = args.band.order + row * n;
  const T* slab = args.band.slab + slot * args.band.slab_stride;
  double* total = args.band.total + 2 * slot * n;
  T *grad_scores = args.band.grad_scores + row * n, *out = args.grad_values + row * n * d;
  if (!scores_are_finite(args.band, row)) {
    team_fill(Alone(), grad_scores, n, __builtin_nan(""));
    return team_fill(Alone(), out, n * d, __builtin_nan(""));
  }
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
  const int64_t n = args.band.n, d = args.columns;
  const RowPlan p = row_plan(args.band, slot);
  const int64_t* order = args.band.order + row * n;
  ShortRow r;
  if (!short_row(p, args.band.scores + row * n, order, d, &r)) return false;
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
bool backward_short(const RelaxedSortMatmulArgs<T>& args, int64_t slot, int64_t row) {
  const int64_t n = args.band.n, d = args.columns;
  const RowPlan p = row_plan(args.band, slot);
  const int64_t* order = args.band.order + row * n;
  ShortRow r;
  if (!short_row(p, args.band.scores + row * n, order, d, &r) || all_equal(p)) return false;
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
  double* total = args.band.total + 2 * slot * n;
  sorted_moments(p, order, m, total);
  finish_scores_gradient(p, order, total, args.band.grad_scores + row * n);
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

template <class T>
void forward_task(const RelaxedSortMatmulArgs<T>& args, int64_t task) {
  for_task_rows(args.band, task, [&](int64_t row, T* storage) {
    if (forward_short(args, task, row)) return;
    plan_row(args.band, task, row);
    for (int64_t q = 0; q < args.columns; ++q) gather_plane(args, task, row, q);
    for (int32_t c = 0; c < args.band.counts[task].chunks; ++c) forward_chunk(args, task, row, c, storage);
  });
}

template <class T>
void backward_task(const RelaxedSortMatmulArgs<T>& args, int64_t task) {
  for_task_rows(args.band, task, [&](int64_t row, T* storage) {
    if (backward_short(args, task, row)) return;
    plan_row(args.band, task, row);
    for (int64_t q = 0; q < args.columns; ++q) gather_plane(args, task, row, q);
    for (int32_t c = 0; c < args.band.counts[task].chunks; ++c) backward_chunk(args, task, row, c, storage);
    backward_slot(args, task, row);
  });
}

template <class T>
void forward_item(const RelaxedSortMatmulArgs<T>& args, int64_t item, int64_t begin) {
  with_chunk(args.band, item, begin, [&](int64_t slot, int64_t row, int64_t chunk, T* storage) {
    forward_chunk(args, slot, row, chunk, storage);
  });
}

template <class T>
void backward_item(const RelaxedSortMatmulArgs<T>& args, int64_t item, int64_t begin) {
  with_chunk(args.band, item, begin, [&](int64_t slot, int64_t row, int64_t chunk, T* storage) {
    backward_chunk(args, slot, row, chunk, storage);
  });
}

}  // namespace

DRPM_DEFINE_KERNELS(relaxed_sort_matmul_hard_rows, RelaxedSortMatmulArgs, hard_row(args, item))
DRPM_DEFINE_KERNELS(relaxed_sort_matmul_forward_tasks, RelaxedSortMatmulArgs, forward_task(args, item))
DRPM_DEFINE_KERNELS(relaxed_sort_matmul_forward_chunks, RelaxedSortMatmulArgs, forward_item(args, item, begin))
DRPM_DEFINE_KERNELS(relaxed_sort_matmul_backward_tasks, RelaxedSortMatmulArgs, backward_task(args, item))
DRPM_DEFINE_KERNELS(relaxed_sort_matmul_backward_chunks, RelaxedSortMatmulArgs, backward_item(args, item, begin))
DRPM_DEFINE_KERNELS(relaxed_sort_matmul_backward_slots, RelaxedSortMatmulArgs,
                    backward_slot(args, item, args.band.first_row + item))
DRPM_DEFINE_KERNELS(relaxed_sort_matmul_gather_planes, RelaxedSortMatmulArgs,
                    gather_plane(args, item / args.columns, args.band.first_row + item / args.columns,
                                 item % args.columns))

}  // namespace DRPM_ISA
}  // namespace drpm
