#include "partition/subset_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

ClassRange chunk_classes(const RowPlan& p, const SubsetWeights& w, const BandChunk& chunk) {
  const BandBlock& last = p.blocks[chunk.block_end - 1];
  return active_classes(w, p.blocks[chunk.block_begin].first, last.first + last.rows - 1);
}

// Relaxed Y of one chunk of rows into its slab: planes of the classes that are active in the chunk.
template <class T>
void forward_chunk(const PartitionArgs<T>& args, int64_t slot, int64_t index, T* storage) {
  const RowPlan p = row_plan(args.band, slot);
  const SubsetWeights w = subset_weights(args, slot);
  const BandChunk& chunk = p.chunks[index];
  const ClassRange range = chunk_classes(p, w, chunk);
  const int64_t plane = chunk.high - chunk.low + 1 + kBandPad;
  T* slab = args.band.slab + slot * args.band.slab_stride + args.classes * chunk.offset;
  memset(slab, 0, sizeof(T) * static_cast<size_t>(plane * (range.high - range.low + 1)));
  BlockWeights<T> u;
  LineFactors<T> factors;
  VecD slope[kBandClasses + 1];
  for (int32_t b = chunk.block_begin; b < chunk.block_end; ++b) {
    const BandBlock& block = p.blocks[b];
    fill_block<T>(p, block, storage, &u);
    const ClassRange active = active_classes(w, block.first, block.first + block.rows - 1);
    for (int64_t k = active.low; k <= active.high; k += kBandClasses) {
      const int64_t classes = active.high - k + 1 < kBandClasses ? active.high - k + 1 : kBandClasses;
      auto visit = [&](int64_t first, int64_t, const VecD*, VecD* a, VecD*) {
        if (active.low == active.high)
          a[0] = splat<VecD>(1);
        else
          soft_weights(w, k, classes, positions(first), a, slope);
      };
      visit_rows<T>(u, p.tables, classes, nullptr, visit, &factors);
      add_left<T>(u, factors.left, kBandClasses, classes, slab + (k - range.low) * plane + (block.low - chunk.low),
                  plane);
    }
  }
}

// Sum of the slabs of class k, scattered to the elements.
template <class T>
void forward_plane(const PartitionArgs<T>& args, int64_t slot, int64_t row, int64_t k) {
  const RowPlan p = row_plan(args.band, slot);
  const SubsetWeights w = subset_weights(args, slot);
  const int64_t n = args.band.n;
  T* total = args.planes + (slot * args.classes + k) * (n + kBandPad);
  memset(total, 0, sizeof(T) * static_cast<size_t>(n));
  for (int32_t c = 0; c < p.counts->chunks; ++c) {
    const BandChunk& chunk = p.chunks[c];
    const ClassRange range = chunk_classes(p, w, chunk);
    if (k < range.low || k > range.high) continue;
    const int64_t columns = chunk.high - chunk.low + 1;
    const T* from = args.band.slab + slot * args.band.slab_stride + args.classes * chunk.offset +
                    (k - range.low) * (columns + kBandPad);
    for (int64_t t = 0; t < columns; ++t) total[chunk.low + t] += from[t];
  }
  const int64_t* order = args.band.order + row * n;
  T* out = args.assignment + (row * args.classes + k) * n;
  if (row_is_finite(args, row))
    for (int64_t j = 0; j < n; ++j) out[order[j]] = total[j];
  else
    team_fill(Alone(), out, n, __builtin_nan(""));
  if (args.labels != nullptr) {
    int64_t* labels = args.labels + row * n;
    for (int64_t j = k > 0 ? w.cut[k - 1] : 0; j < w.cut[k]; ++j) labels[order[j]] = k;
  }
}

template <class T>
bool forward_short(const PartitionArgs<T>& args, int64_t slot, int64_t row) {
  const RowPlan p = row_plan(args.band, slot);
  ShortRow r;
  ShortAlpha alpha;
  if (!plan_short(args, p, slot, row, &r, &alpha)) return false;
  const SubsetWeights w = subset_weights(args, slot);
  const int64_t n = args.band.n, classes = args.classes;
  const int64_t* order = args.band.order + row * n;
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

// One-hot rows of class k: the elements at positions [cut_{k-1}, cut_k).
template <class T>
void hard_plane(const PartitionArgs<T>& args, int64_t row, int64_t k) {
  const int64_t n = args.band.n;
  T* out = args.assignment + (row * args.classes + k) * n;
  const bool finite = row_is_finite(args, row);
  team_fill(Alone(), out, n, finite ? 0 : __builtin_nan(""));
  const T* sizes = args.sizes + row * args.classes;
  int64_t from = 0;
  SubsetBoundary boundary{};
  for (int64_t l = 0; l <= k; ++l) {
    from = boundary.cut;
    boundary = next_boundary(boundary, static_cast<double>(sizes[l]), l + 1 == args.classes, n, args.eps);
  }
  const int64_t* order = args.band.order + row * n;
  int64_t* labels = args.labels + row * n;
  for (int64_t j = from; j < boundary.cut; ++j) {
    if (finite) out[order[j]] = 1;
    labels[order[j]] = k;
  }
}

template <class T>
void hard_labels(const PartitionArgs<T>& args, int64_t row) {
  const int64_t n = args.band.n;
  const int64_t* order = args.band.order + row * n;
  SubsetBoundary boundary{};
  for (int64_t k = 0; k < args.classes; ++k) {
    const int64_t from = boundary.cut;
    const double size = static_cast<double>(args.sizes[row * args.classes + k]);
    boundary = next_boundary(boundary, size, k + 1 == args.classes, n, args.eps);
    for (int64_t j = from; j < boundary.cut; ++j) args.labels[row * n + order[j]] = k;
  }
}

template <class T>
void forward_task(const PartitionArgs<T>& args, int64_t task) {
  for_task_rows(args.band, task, [&](int64_t row, T* storage) {
    if (forward_short(args, task, row)) return;
    plan_row(args.band, task, row);
    set_boundaries(args, task, row);
    for (int32_t c = 0; c < args.band.counts[task].chunks; ++c) forward_chunk(args, task, c, storage);
    for (int64_t k = 0; k < args.classes; ++k) forward_plane(args, task, row, k);
  });
}

template <class T>
void forward_item(const PartitionArgs<T>& args, int64_t item, int64_t begin) {
  with_chunk(args.band, item, begin,
             [&](int64_t slot, int64_t, int64_t chunk, T* storage) { forward_chunk(args, slot, chunk, storage); });
}

}  // namespace

DRPM_DEFINE_KERNELS(partition_hard_planes, PartitionArgs, hard_plane(args, item / args.classes, item % args.classes))
DRPM_DEFINE_KERNELS(partition_hard_labels, PartitionArgs, hard_labels(args, item))
DRPM_DEFINE_KERNELS(partition_boundary_slots, PartitionArgs, set_boundaries(args, item, args.band.first_row + item))
DRPM_DEFINE_KERNELS(partition_forward_tasks, PartitionArgs, forward_task(args, item))
DRPM_DEFINE_KERNELS(partition_forward_chunks, PartitionArgs, forward_item(args, item, begin))
DRPM_DEFINE_KERNELS(partition_forward_planes, PartitionArgs,
                    forward_plane(args, item / args.classes, args.band.first_row + item / args.classes,
                                  item % args.classes))

}  // namespace DRPM_ISA
}  // namespace drpm
