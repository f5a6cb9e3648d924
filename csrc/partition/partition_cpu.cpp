#include "band/band_block.h"
#include "band/short_rows.h"
#include "partition/partition.h"
#include "partition/partition_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class T>
SubsetWeights subset_weights(const PartitionArgs<T>& args, int64_t slot) {
  return {args.boundary + slot * args.classes,
          args.rest + slot * args.classes,
          args.cut + slot * args.classes,
          args.n,
          args.classes,
          args.tau,
          args.eps,
          boundary_reach<T>(args.tau),
          args.hard};
}

template <class T>
RowPlan slot_plan(const PartitionArgs<T>& args, int64_t slot) {
  return row_plan<T>(args.band, slot, args.n, args.tau);
}

template <class T>
void gather_rows(const PartitionArgs<T>& args, int64_t slot, int64_t segment) {
  const int64_t at = (args.first_row + slot) * args.n;
  gather_segment(slot_plan(args, slot), args.scores + at, args.order + at, segment);
}

template <class T>
void set_boundaries(const PartitionArgs<T>& args, int64_t slot, int64_t row) {
  const int64_t at = slot * args.classes;
  subset_boundaries(args.sizes + row * args.classes, args.n, args.classes, args.eps, args.boundary + at, args.cut + at,
                    args.rest + at);
}

template <class T>
void finish_plan(const PartitionArgs<T>& args, int64_t slot, int64_t row) {
  plan_chunks(slot_plan(args, slot));
  set_boundaries(args, slot, row);
}

template <class T>
void plan_slot(const PartitionArgs<T>& args, int64_t slot, int64_t row) {
  const RowPlan p = slot_plan(args, slot);
  sort_scores(p, args.scores + row * args.n, args.order + row * args.n);
  plan_blocks(p, args.tables);
  set_boundaries(args, slot, row);
}

ClassRange chunk_classes(const RowPlan& p, const SubsetWeights& w, const BandChunk& chunk) {
  const BandBlock& last = p.blocks[chunk.block_end - 1];
  return active_classes(w, p.blocks[chunk.block_begin].first, last.first + last.rows - 1);
}

// a_q = alpha at the positions of a pack; slope[q + 1] = derivative of the boundary that ends class low + q, slope[0]
// of the one that begins class low
void soft_weights(const SubsetWeights& w, int64_t low, int64_t classes, VecD position, VecD* a, VecD* slope) {
  BoundaryValue<VecD> before = boundary_value<VecD>(w, low - 1, position);
  slope[0] = before.slope;
  for (int64_t q = 0; q < classes; ++q) {
    const BoundaryValue<VecD> f = boundary_value<VecD>(w, low + q, position);
    a[q] = f.value - before.value;
    slope[q + 1] = f.slope;
    before = f;
  }
}

void hard_weights(const SubsetWeights& w, int64_t low, int64_t classes, VecD position, VecD* a) {
  for (int64_t q = 0; q < classes; ++q) {
    const double from = low + q > 0 ? static_cast<double>(w.cut[low + q - 1]) : 0;
    const double to = static_cast<double>(w.cut[low + q]);
    const VecD started = position >= splat<VecD>(from) ? splat<VecD>(1) : splat<VecD>(0);
    a[q] = position < splat<VecD>(to) ? started : splat<VecD>(0);
  }
}

VecD positions(int64_t first) {
  double part[Lane<VecD>::kWidth];
  for (int l = 0; l < Lane<VecD>::kWidth; ++l) part[l] = static_cast<double>(first + l);
  return load<VecD>(part);
}

// Relaxed Y of one chunk of rows into its slab: planes of the classes that are active in the chunk.
template <class T>
void forward_chunk(const PartitionArgs<T>& args, int64_t slot, int64_t index, T* storage) {
  const RowPlan p = slot_plan(args, slot);
  const SubsetWeights w = subset_weights(args, slot);
  const BandChunk& chunk = p.chunks[index];
  const ClassRange range = chunk_classes(p, w, chunk);
  const int64_t plane = chunk.high - chunk.low + 1 + kBandPad;
  T* slab = args.slab + slot * args.slab_stride + args.classes * chunk.offset;
  memset(slab, 0, sizeof(T) * static_cast<size_t>(plane * (range.high - range.low + 1)));
  BlockWeights<T> u;
  LineFactors<T> factors;
  VecD slope[kBandClasses + 1];
  for (int32_t b = chunk.block_begin; b < chunk.block_end; ++b) {
    const BandBlock& block = p.blocks[b];
    fill_block<T>(p, block, args.tables, storage, &u);
    const ClassRange active = active_classes(w, block.first, block.first + block.rows - 1);
    for (int64_t k = active.low; k <= active.high; k += kBandClasses) {
      const int64_t classes = active.high - k + 1 < kBandClasses ? active.high - k + 1 : kBandClasses;
      auto visit = [&](int64_t first, int64_t, const VecD*, VecD* a, VecD*) {
        if (active.low == active.high)
          a[0] = splat<VecD>(1);
        else
          soft_weights(w, k, classes, positions(first), a, slope);
      };
      visit_rows<T>(u, args.tables, classes, nullptr, visit, &factors);
      add_left<T>(u, factors.left, kBandClasses, classes, slab + (k - range.low) * plane + (block.low - chunk.low),
                  plane);
    }
  }
}

// Sum of the slabs of class k, scattered to the elements.
template <class T>
void forward_plane(const PartitionArgs<T>& args, int64_t slot, int64_t row, int64_t k) {
  const RowPlan p = slot_plan(args, slot);
  const SubsetWeights w = subset_weights(args, slot);
  const int64_t n = args.n;
  T* total = args.planes + (slot * args.classes + k) * (n + kBandPad);
  memset(total, 0, sizeof(T) * static_cast<size_t>(n));
  for (int32_t c = 0; c < p.counts->chunks; ++c) {
    const BandChunk& chunk = p.chunks[c];
    const ClassRange range = chunk_classes(p, w, chunk);
    if (k < range.low || k > range.high) continue;
    const int64_t columns = chunk.high - chunk.low + 1;
    const T* from =
        args.slab + slot * args.slab_stride + args.classes * chunk.offset + (k - range.low) * (columns + kBandPad);
    for (int64_t t = 0; t < columns; ++t) total[chunk.low + t] += from[t];
  }
  const int64_t* order = args.order + row * n;
  T* out = args.assignment + (row * args.classes + k) * n;
  for (int64_t j = 0; j < n; ++j) out[order[j]] = total[j];
  if (args.labels != nullptr) {
    int64_t* labels = args.labels + row * n;
    for (int64_t j = k > 0 ? w.cut[k - 1] : 0; j < w.cut[k]; ++j) labels[order[j]] = k;
  }
}

// Gradient of class k in sorted order, over the columns that the class's rows reach.
template <class T>
void gather_plane(const PartitionArgs<T>& args, int64_t slot, int64_t row, int64_t k) {
  const RowPlan p = slot_plan(args, slot);
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
  const int64_t n = args.n;
  const int64_t* order = args.order + row * n;
  const T* grad = args.grad + (row * args.classes + k) * n;
  T* plane = args.planes + (slot * args.classes + k) * (n + kBandPad);
  for (int64_t j = low; j <= high; ++j) plane[j] = grad[order[j]];
  for (int64_t j = high + 1; j <= high + kBandPad; ++j) plane[j] = 0;
}

// C and M of one chunk of rows, and the gradient of the soft boundaries.
template <class T>
void backward_chunk(const PartitionArgs<T>& args, int64_t slot, int64_t index, T* storage) {
  const RowPlan p = slot_plan(args, slot);
  const SubsetWeights w = subset_weights(args, slot);
  const BandChunk& chunk = p.chunks[index];
  const int64_t columns = chunk.high - chunk.low + 1 + kBandPad, plane = args.n + kBandPad;
  T* c = args.slab + slot * args.slab_stride + 2 * chunk.offset;
  memset(c, 0, sizeof(T) * static_cast<size_t>(2 * columns));
  double* grad_boundary = args.grad_boundary + (slot * kMaxBandChunks + index) * args.classes;
  for (int64_t k = 0; k < args.classes; ++k) grad_boundary[k] = 0;
  BlockWeights<T> u;
  LineFactors<T> factors;
  double product[kMaxBandNodes * kBandClasses];
  for (int32_t b = chunk.block_begin; b < chunk.block_end; ++b) {
    const BandBlock& block = p.blocks[b];
    fill_block<T>(p, block, args.tables, storage, &u);
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
      visit_rows<T>(u, args.tables, classes, product, visit, &factors);
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
  const int64_t n = args.n;
  const double centre = w.boundary[k] + w.eps - 1, reach = boundary_reach(w, k);
  const double end = static_cast<double>(n);
  const int64_t first = !(centre - reach > 0) ? 0 : centre - reach < end ? static_cast<int64_t>(centre - reach) : n;
  const int64_t last = !(centre + reach + 1 < end) ? n
                       : centre + reach + 1 > 0    ? static_cast<int64_t>(centre + reach + 1)
                                                   : 0;
  const int64_t* order = args.order + row * n;
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

constexpr int64_t kFlatRow = 128;

// A short row whose weights are all of one size, as are its alpha, or one with ties, whose rows differ by alpha alone:
// the gradient may be a small difference of its terms.
template <class T>
bool is_flat(const RowPlan& p) {
  if (p.n > kFlatRow) return false;
  if (2 * static_cast<double>(p.n) * (p.s[0] - p.s[p.n - 1]) <= 8 * p.tau) return true;
  if (sizeof(T) < sizeof(double) || p.n > kShortRow) return false;
  for (int64_t j = 1; j < p.n; ++j)
    if (p.s[j] == p.s[j - 1]) return true;
  return false;
}

// The gradient of the scores of such a row, all of it in R and straight from (2), (8) and (9). Returns whether little
// enough of the terms cancelled for the result to have the digits of a double.
template <class R, class T>
bool flat_gradient(const PartitionArgs<T>& args, const RowPlan& p, const SubsetWeights& w, int64_t row) {
  const int64_t n = p.n, classes = args.classes;
  const int64_t* order = args.order + row * n;
  const double* s = p.s;
  R weight[kFlatRow], right[kFlatRow], total[2 * kFlatRow], *c = total, *moment = total + n, largest = 0;
  for (int64_t j = 0; j < 2 * n; ++j) total[j] = 0;
  for (int64_t i = 0; i < n; ++i) {
    weight[i] = 0;
    for (int64_t j = i; j + 1 < n; ++j)
      weight[j + 1] = weight[j] + static_cast<R>(2 * (j - i) + 1) * (static_cast<R>(s[j]) - static_cast<R>(s[j + 1]));
    for (int64_t j = i; j > 0; --j)
      weight[j - 1] = weight[j] + static_cast<R>(2 * (i - j) + 1) * (static_cast<R>(s[j - 1]) - static_cast<R>(s[j]));
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
  T* grad_scores = args.grad_scores + row * n;
  finish_scores_gradient(p, order, total, grad_scores);
  double result = 0;
  for (int64_t j = 0; j < n; ++j) {
    const double size = __builtin_fabs(static_cast<double>(grad_scores[j]));
    result = size > result ? size : result;
  }
  return result * p.tau >= 1e-4 * static_cast<double>(n) * static_cast<double>(largest);
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
  const RowPlan p = slot_plan(args, slot);
  const SubsetWeights w = subset_weights(args, slot);
  const int64_t n = args.n, classes = args.classes;
  T* grad_scores = args.grad_scores + row * n;
  double* total = args.total + 2 * slot * n;
  if (all_equal(p)) {
    for (int64_t k = 0; k < classes; ++k)
      add_equal_scores<T>(k == 0, centred_moment(w, k), args.grad + (row * classes + k) * n, 1, n, total);
    finish_equal_scores<T>(p, total, grad_scores);
  } else if (is_flat<T>(p)) {
    if (!flat_gradient<double>(args, p, w, row) && sizeof(T) == sizeof(double))
      flat_gradient<long double>(args, p, w, row);
  } else {
    sum_moments<T>(p, args.slab + slot * args.slab_stride, total);
    finish_scores_gradient(p, args.order + row * n, total, grad_scores);
  }
  finish_sizes_gradient(args, p, w, slot, row);
}

// alpha of a short row, by class and position, and the derivatives of the boundaries.
struct ShortAlpha {
  double alpha[kBandClasses][kShortRow], slope[kBandClasses + 1][kShortRow];
};

void short_alpha(const SubsetWeights& w, int64_t n, ShortAlpha* out) {
  VecD a[kBandClasses], slope[kBandClasses + 1];
  for (int64_t first = 0; first < n; first += kShortLane) {
    if (w.hard)
      hard_weights(w, 0, w.classes, positions(first), a);
    else
      soft_weights(w, 0, w.classes, positions(first), a, slope);
    for (int64_t k = 0; k < w.classes; ++k) store<VecD>(out->alpha[k] + first, a[k]);
    if (!w.hard)
      for (int64_t k = 0; k <= w.classes; ++k) store<VecD>(out->slope[k] + first, slope[k]);
  }
}

// Takes the row as a short one and sets its boundaries and alpha; false where it is not short.
template <class T>
bool plan_short(const PartitionArgs<T>& args, const RowPlan& p, int64_t slot, int64_t row, ShortRow* r,
                ShortAlpha* alpha) {
  const int64_t at = row * args.n;
  if (!short_row(p, args.scores + at, args.order + at, args.classes, r)) return false;
  set_boundaries(args, slot, row);
  short_alpha(subset_weights(args, slot), args.n, alpha);
  return true;
}

template <class T>
bool forward_short(const PartitionArgs<T>& args, int64_t slot, int64_t row) {
  const RowPlan p = slot_plan(args, slot);
  ShortRow r;
  ShortAlpha alpha;
  if (!plan_short(args, p, slot, row, &r, &alpha)) return false;
  const SubsetWeights w = subset_weights(args, slot);
  const int64_t n = args.n, classes = args.classes;
  const int64_t* order = args.order + row * n;
  double weight[kShortRow], y[kBandClasses][kShortRow];
  for (int64_t k = 0; k < classes; ++k)
    for (int64_t t = 0; t < r.ld; ++t) y[k][t] = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double inverse = 1 / short_weights(r, i, weight);
    for (int64_t k = 0; k < classes; ++k) {
      const VecD a = splat<VecD>(alpha.alpha[k][i] * inverse);
      for (int64_t t = 0; t < r.ld; t += kShortLane)
        store<VecD>(y[k] + t, fmadd<VecD>(a, load<VecD>(weight + t), load<VecD>(y[k] + t)));
    }
  }
  for (int64_t k = 0; k < classes; ++k) {
    T* out = args.assignment + (row * classes + k) * n;
    for (int64_t t = 0; t < n; ++t) out[t] = static_cast<T>(y[k][t]);
  }
  if (args.labels != nullptr)
    for (int64_t k = 0; k < classes; ++k)
      for (int64_t j = k > 0 ? w.cut[k - 1] : 0; j < w.cut[k]; ++j) args.labels[row * n + order[j]] = k;
  return true;
}

template <class T>
bool backward_short(const PartitionArgs<T>& args, int64_t slot, int64_t row) {
  const RowPlan p = slot_plan(args, slot);
  ShortRow r;
  ShortAlpha alpha;
  if (!plan_short(args, p, slot, row, &r, &alpha) || all_equal(p)) return false;
  const SubsetWeights w = subset_weights(args, slot);
  const int64_t n = args.n, classes = args.classes;
  const int64_t* order = args.order + row * n;
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
  double* total = args.total + 2 * slot * n;
  sorted_moments(p, order, m, total);
  finish_scores_gradient(p, order, total, args.grad_scores + row * n);
  *p.counts = {0, 1, 0, 0};
  finish_sizes_gradient(args, p, w, slot, row);
  return true;
}

// One-hot rows of class k: the elements at positions [cut_{k-1}, cut_k).
template <class T>
void hard_plane(const PartitionArgs<T>& args, int64_t row, int64_t k) {
  const int64_t n = args.n;
  T* out = args.assignment + (row * args.classes + k) * n;
  memset(out, 0, sizeof(T) * static_cast<size_t>(n));
  const T* sizes = args.sizes + row * args.classes;
  int64_t from = 0, to = 0;
  double sum = 0;
  for (int64_t l = 0; l <= k; ++l) {
    from = to;
    sum += static_cast<double>(sizes[l]);
    const int64_t cut = l + 1 == args.classes ? n : hard_cut(sum, args.eps, n);
    to = cut > from ? cut : from;
  }
  const int64_t* order = args.order + row * n;
  int64_t* labels = args.labels + row * n;
  for (int64_t j = from; j < to; ++j) {
    out[order[j]] = 1;
    labels[order[j]] = k;
  }
}

template <class T>
int64_t task_begin(const PartitionArgs<T>& args, int64_t task) {
  return args.rows * task / args.tasks;
}

template <class T>
void forward_task(const PartitionArgs<T>& args, int64_t task) {
  T* storage = args.block + task * args.block_stride;
  for (int64_t row = task_begin(args, task); row < task_begin(args, task + 1); ++row) {
    if (forward_short(args, task, row)) continue;
    plan_slot(args, task, row);
    const int32_t chunks = args.band.counts[task].chunks;
    for (int32_t c = 0; c < chunks; ++c) forward_chunk(args, task, c, storage);
    for (int64_t k = 0; k < args.classes; ++k) forward_plane(args, task, row, k);
  }
}

template <class T>
void backward_task(const PartitionArgs<T>& args, int64_t task) {
  T* storage = args.block + task * args.block_stride;
  for (int64_t row = task_begin(args, task); row < task_begin(args, task + 1); ++row) {
    if (backward_short(args, task, row)) continue;
    plan_slot(args, task, row);
    for (int64_t k = 0; k < args.classes; ++k) gather_plane(args, task, row, k);
    const int32_t chunks = args.band.counts[task].chunks;
    for (int32_t c = 0; c < chunks; ++c) backward_chunk(args, task, c, storage);
    backward_slot(args, task, row);
  }
}

}  // namespace

#define DRPM_DEFINE(Name, Item)                                              \
  void Name(const PartitionArgs<float>& args, int64_t begin, int64_t end) {  \
    for (int64_t item = begin; item < end; ++item) Item;                     \
  }                                                                          \
  void Name(const PartitionArgs<double>& args, int64_t begin, int64_t end) { \
    for (int64_t item = begin; item < end; ++item) Item;                     \
  }

DRPM_DEFINE(partition_hard_planes, hard_plane(args, item / args.classes, item % args.classes))
DRPM_DEFINE(partition_forward_tasks, forward_task(args, item))
DRPM_DEFINE(partition_backward_tasks, backward_task(args, item))
DRPM_DEFINE(partition_gather_segments, gather_rows(args, item / plan_segments(args.n), item % plan_segments(args.n)))
DRPM_DEFINE(partition_scan_segments,
            scan_segment(slot_plan(args, item / plan_segments(args.n)), item % plan_segments(args.n)))
DRPM_DEFINE(partition_plan_segments,
            plan_segment(slot_plan(args, item / plan_segments(args.n)), args.tables, item % plan_segments(args.n)))
DRPM_DEFINE(partition_plan_slots, finish_plan(args, item, args.first_row + item))
// the block storage of the range's first item serves the whole range
DRPM_DEFINE(partition_forward_chunks,
            forward_chunk(args, args.items[item].slot, args.items[item].chunk, args.block + begin * args.block_stride))
DRPM_DEFINE(partition_forward_planes,
            forward_plane(args, item / args.classes, args.first_row + item / args.classes, item % args.classes))
DRPM_DEFINE(partition_gather_planes,
            gather_plane(args, item / args.classes, args.first_row + item / args.classes, item % args.classes))
DRPM_DEFINE(partition_backward_chunks,
            backward_chunk(args, args.items[item].slot, args.items[item].chunk, args.block + begin * args.block_stride))
DRPM_DEFINE(partition_backward_slots, backward_slot(args, item, args.first_row + item))

#undef DRPM_DEFINE

}  // namespace DRPM_ISA
}  // namespace drpm
