#include "band/band_gradient.h"
#include "partition/flat_rows.h"
#include "partition/subset_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// Gradient of class k in sorted order, over the columns that the class's rows reach.
template <class T>
void gather_plane(const PartitionArgs<T>& args, int64_t slot, int64_t row, int64_t k) {
  const RowPlan p = row_plan(args.band, slot);
  const ClassRange reached = active_positions(subset_weights(args, slot), k);
  int32_t begin = 0, end = p.counts->blocks;  // the last block that starts at or before reached.low
  while (end - begin > 1) {
    const int32_t middle = begin + (end - begin) / 2;
    if (p.blocks[middle].first <= reached.low)
      begin = middle;
    else
      end = middle;
  }
  int64_t low = p.blocks[begin].low, high = p.blocks[begin].high;
  for (int32_t b = begin; b < p.counts->blocks && p.blocks[b].first <= reached.high; ++b) {
    low = p.blocks[b].low < low ? p.blocks[b].low : low;
    high = p.blocks[b].high > high ? p.blocks[b].high : high;
  }
  const int64_t n = args.band.n;
  const int64_t* order = args.band.order + row * n;
  const T* grad = args.grad + (row * args.classes + k) * n;
  T* plane = args.planes + (slot * args.classes + k) * (n + kBandPad);
  for (int64_t j = low; j <= high; ++j) plane[j] = grad[order[j]];
  for (int64_t j = high + 1; j <= high + kBandPad; ++j) plane[j] = 0;
}

// C and M of one chunk of rows, and the gradient of the soft boundaries.
template <class T>
void backward_chunk(const PartitionArgs<T>& args, int64_t slot, int64_t index, T* storage) {
  const RowPlan p = row_plan(args.band, slot);
  const SubsetWeights w = subset_weights(args, slot);
  const BandChunk& chunk = p.chunks[index];
  const int64_t columns = chunk.high - chunk.low + 1 + kBandPad, plane = args.band.n + kBandPad;
  T* c = args.band.slab + slot * args.band.slab_stride + 2 * chunk.offset;
  memset(c, 0, sizeof(T) * static_cast<size_t>(2 * columns));
  double* grad_boundary = args.grad_boundary + (slot * kMaxBandChunks + index) * args.classes;
  for (int64_t k = 0; k < args.classes; ++k) grad_boundary[k] = 0;
  BlockWeights<T> u;
  LineFactors<T> factors;
  double product[kMaxBandNodes * kBandClasses];
  for (int32_t b = chunk.block_begin; b < chunk.block_end; ++b) {
    const BandBlock& block = p.blocks[b];
    fill_block<T>(p, block, storage, &u);
    rank_columns<T>(p, u);
    const ClassRange active = active_classes(w, block.first, block.first + block.rows - 1);
    for (int64_t k = active.low; k <= active.high; k += kBandClasses) {
      const int64_t classes = active.high - k + 1 < kBandClasses ? active.high - k + 1 : kBandClasses;
      const T* g = args.planes + (slot * args.classes + k) * plane + block.low;
      contract<T>(u, true, g, plane, classes, product, kBandClasses);
      VecD slope[kBandClasses + 1], below[kBandClasses], above[kBandClasses];
      for (int64_t q = 0; q < classes; ++q) below[q] = above[q] = VecD{};
      const bool soft = !args.hard && active.low != active.high, narrow = is_narrow(u);
      auto visit = [&](int64_t first, int64_t rows, const VecD* n, VecD* a, VecD* center) {
        if (active.low == active.high)
          a[0] = splat<VecD>(1);
        else if (args.hard)
          hard_weights(w, k, classes, positions(first), a);
        else
          soft_weights(w, k, classes, positions(first), a, slope);
        VecD sum = VecD{};
        for (int64_t q = 0; q < classes; ++q) sum += a[q] * n[q];
        *center = sum;
        if (!soft) return;
        for (int64_t q = 0; q < classes; ++q) {
          VecD value = n[q];
          if (narrow)
            for (int64_t l = 0; l < rows; ++l) value[l] += static_cast<double>(g[q * plane + first + l - block.low]);
          above[q] += value * slope[q + 1];
          below[q] += value * slope[q];
        }
      };
      visit_rows<T>(u, p.tables, classes, product, visit, &factors);
      if (soft)
        for (int64_t q = 0; q < classes; ++q) {
          grad_boundary[k + q] += sum_lanes<VecD>(above[q]);
          if (k + q > 0) grad_boundary[k + q - 1] -= sum_lanes<VecD>(below[q]);
        }
      add_moments<T>(u, factors, classes, g, plane, c + (block.low - chunk.low), c + columns + (block.low - chunk.low));
    }
  }
}

// Straight-through boundaries: sum_i f_k'(i) (G_k - G_{k+1})[order[i]] around each boundary.               (Eq. 6)
template <class T>
double hard_boundary_gradient(const PartitionArgs<T>& args, const SubsetWeights& w, int64_t row, int64_t k) {
  constexpr int kWidth = Lane<VecD>::kWidth;
  const int64_t n = args.band.n;
  const double centre = w.boundary[k] + w.eps - 1, reach = boundary_reach(w, k);
  const double end = static_cast<double>(n);
  const int64_t first = !(centre - reach > 0) ? 0 : centre - reach < end ? static_cast<int64_t>(centre - reach) : n;
  const int64_t last = !(centre + reach + 1 < end) ? n
                       : centre + reach + 1 > 0    ? static_cast<int64_t>(centre + reach + 1)
                                                   : 0;
  const int64_t* order = args.band.order + row * n;
  const T* here = args.grad + (row * args.classes + k) * n;
  const T* next = here + n;
  VecD sum = VecD{};
  for (int64_t i = first; i < last; i += kWidth) {
    const VecD slope = boundary_value<VecD>(w, k, positions(i)).slope;
    double part[kWidth];
    for (int l = 0; l < kWidth; ++l) {
      const int64_t element = i + l < last ? order[i + l] : -1;
      part[l] = element < 0 ? 0 : static_cast<double>(here[element]) - static_cast<double>(next[element]);
    }
    sum += slope * load<VecD>(part);
  }
  return sum_lanes<VecD>(sum);
}

// sum_i (mid - i) alpha_k[i], mid the mean of all positions
double centred_moment(const SubsetWeights& w, int64_t k) {
  const double mid = 0.5 * static_cast<double>(w.n - 1);
  if (w.hard) {
    const double from = k > 0 ? static_cast<double>(w.cut[k - 1]) : 0, to = static_cast<double>(w.cut[k]);
    return (to - from) * (mid - 0.5 * (from + to - 1));
  }
  double sum = 0;
  for (int64_t i = 0; i < w.n; ++i) {
    const double position = static_cast<double>(i);
    const double below = boundary_value<double>(w, k - 1, position).value;
    sum += (mid - position) * (boundary_value<double>(w, k, position).value - below);
  }
  return sum;
}

// Gradient of the sizes: each boundary's belongs to all classes up to it.
template <class T>
void finish_sizes_gradient(const PartitionArgs<T>& args, const RowPlan& p, const SubsetWeights& w, int64_t slot,
                           int64_t row) {
  const int64_t classes = args.classes;
  double suffix = 0;
  args.grad_sizes[row * classes + classes - 1] = 0;
  for (int64_t k = classes - 2; k >= 0; --k) {
    if (args.hard) {
      suffix += hard_boundary_gradient(args, w, row, k);
    } else {
      double sum = 0;
      for (int32_t c = 0; c < p.counts->chunks; ++c)
        sum += args.grad_boundary[(slot * kMaxBandChunks + c) * classes + k];
      suffix += sum;
    }
    args.grad_sizes[row * classes + k] = static_cast<T>(suffix);
  }
}

template <class T>
void backward_slot(const PartitionArgs<T>& args, int64_t slot, int64_t row) {
  const RowPlan p = row_plan(args.band, slot);
  const SubsetWeights w = subset_weights(args, slot);
  const int64_t n = args.band.n, classes = args.classes;
  T* grad_scores = args.band.grad_scores + row * n;
  double* total = args.band.total + 2 * slot * n;
  if (!row_is_finite(args, row)) {
    team_fill(Alone(), grad_scores, n, __builtin_nan(""));
    return team_fill(Alone(), args.grad_sizes + row * classes, classes, __builtin_nan(""));
  }
  if (all_equal(p)) {
    for (int64_t k = 0; k < classes; ++k)
      add_equal_scores<T>(k == 0, centred_moment(w, k), args.grad + (row * classes + k) * n, 1, n, total);
    finish_equal_scores<T>(p, total, grad_scores);
  } else if (is_flat<T>(p)) {
    if (!flat_gradient<double>(args, p, w, row) && sizeof(T) == sizeof(double))
      flat_gradient<long double>(args, p, w, row);
  } else {
    sum_moments<T>(p, args.band.slab + slot * args.band.slab_stride, total);
    finish_scores_gradient(p, args.band.order + row * n, total, grad_scores);
  }
  finish_sizes_gradient(args, p, w, slot, row);
}

template <class T>
bool backward_short(const PartitionArgs<T>& args, int64_t slot, int64_t row) {
  const RowPlan p = row_plan(args.band, slot);
  ShortRow r;
  ShortAlpha alpha;
  if (!plan_short(args, p, slot, row, &r, &alpha) || all_equal(p)) return false;
  const SubsetWeights w = subset_weights(args, slot);
  const int64_t n = args.band.n, classes = args.classes;
  const int64_t* order = args.band.order + row * n;
  ShortMoments m;
  short_moments(p, order, r, &m);
  double weight[kShortRow], right[kShortRow], grad[kBandClasses][kShortRow], mean[kBandClasses];
  for (int64_t k = 0; k < classes; ++k) {
    const T* from = args.grad + (row * classes + k) * n;
    for (int64_t t = 0; t < n; ++t) grad[k][t] = static_cast<double>(from[t]);
    for (int64_t t = n; t < r.ld; ++t) grad[k][t] = 0;
  }
  double* grad_boundary = args.grad_boundary + slot * kMaxBandChunks * classes;
  for (int64_t k = 0; k < classes; ++k) grad_boundary[k] = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double sum = short_weights(r, i, weight);
    // relative to the peak, class by class: nothing of a small difference is lost
    for (int64_t t = 0; t < r.ld; ++t) right[t] = 0;
    for (int64_t k = 0; k < classes; ++k) {
      if (alpha.alpha[k][i] == 0) continue;
      const VecD a = splat<VecD>(alpha.alpha[k][i]), own = splat<VecD>(grad[k][order[i]]);
      for (int64_t t = 0; t < r.ld; t += kShortLane)
        store<VecD>(right + t, fmadd<VecD>(a, load<VecD>(grad[k] + t) - own, load<VecD>(right + t)));
    }
    add_short_row(r, i, weight, sum, right, 0, &m);
    if (args.hard) continue;
    for (int64_t k = 0; k < classes; ++k) {
      VecD dot = VecD{};
      for (int64_t t = 0; t < r.ld; t += kShortLane)
        dot = fmadd<VecD>(load<VecD>(weight + t), load<VecD>(grad[k] + t), dot);
      mean[k] = sum_lanes<VecD>(dot) / sum;
    }
    for (int64_t k = 0; k + 1 < classes; ++k) grad_boundary[k] += alpha.slope[k + 1][i] * (mean[k] - mean[k + 1]);
  }
  double* total = args.band.total + 2 * slot * n;
  sorted_moments(p, order, m, total);
  finish_scores_gradient(p, order, total, args.band.grad_scores + row * n);
  *p.counts = {0, 1, 0, 0};
  finish_sizes_gradient(args, p, w, slot, row);
  return true;
}

template <class T>
void backward_task(const PartitionArgs<T>& args, int64_t task) {
  for_task_rows(args.band, task, [&](int64_t row, T* storage) {
    if (backward_short(args, task, row)) return;
    plan_row(args.band, task, row);
    set_boundaries(args, task, row);
    for (int64_t k = 0; k < args.classes; ++k) gather_plane(args, task, row, k);
    for (int32_t c = 0; c < args.band.counts[task].chunks; ++c) backward_chunk(args, task, c, storage);
    backward_slot(args, task, row);
  });
}

template <class T>
void backward_item(const PartitionArgs<T>& args, int64_t item, int64_t begin) {
  with_chunk(args.band, item, begin,
             [&](int64_t slot, int64_t, int64_t chunk, T* storage) { backward_chunk(args, slot, chunk, storage); });
}

}  // namespace

DRPM_DEFINE_KERNELS(partition_backward_tasks, PartitionArgs, backward_task(args, item))
DRPM_DEFINE_KERNELS(partition_gather_planes, PartitionArgs,
                    gather_plane(args, item / args.classes, args.band.first_row + item / args.classes,
                                 item % args.classes))
DRPM_DEFINE_KERNELS(partition_backward_chunks, PartitionArgs, backward_item(args, item, begin))
DRPM_DEFINE_KERNELS(partition_backward_slots, PartitionArgs, backward_slot(args, item, args.band.first_row + item))

}  // namespace DRPM_ISA
}  // namespace drpm
