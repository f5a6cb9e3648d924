// Glue shared by the ops on the banded relaxed sort: tables, scratch memory, and the two ways to spread rows over
// threads. Both do the same arithmetic in the same order.
#pragma once

#include <algorithm>

#include "band/band_block.h"
#include "band/band_scratch.h"
#include "glue/scratch.h"

namespace drpm {

// Chebyshev tables of a precision, made once. (relaxed_sort_ops.cpp)
template <class T>
BandTables band_tables();

// Decreasing stable order of every row of `scores` (B, n), int64. (relaxed_sort_ops.cpp)
Tensor sorted_order(const Tensor& scores);

inline int64_t thread_count() { return std::max<int64_t>(1, torch::stable::get_num_threads()); }

// f(begin, end) over [0, count), at once where there is one item or one thread.
template <class F>
void for_items(int64_t count, const F& f) {
  if (count == 1 || thread_count() == 1) {
    if (count > 0) f(int64_t{0}, count);
  } else if (count > 0) {
    torch::stable::parallel_for(0, count, 1, f);
  }
}

// Tasks (ranges of rows) that `rows` rows of about `cost` operations each are worth.
inline int64_t task_count(int64_t rows, int64_t cost) {
  const double work = static_cast<double>(rows) * static_cast<double>(cost) / 49152;
  return std::max<int64_t>(1, std::min<int64_t>({rows, thread_count(), static_cast<int64_t>(std::min(work, 1e6))}));
}

// Plans, slabs and block storage; `more` takes what else the op needs for that many slots.
template <class T, class Args, class More>
void take_band(Carver& c, Args& args, int64_t slots, int64_t slab_planes, const More& more) {
  const int64_t n = args.n;
  args.band.sorted = c.take<double>(slots * 4 * (n + kBandGroup));
  args.band.blocks = c.take<BandBlock>(slots * n);
  args.band.chunks = c.take<BandChunk>(slots * kMaxBandChunks);
  args.band.counts = c.take<BandCounts>(slots);
  args.slab_stride = slab_planes * DRPM_ISA::slab_columns(n);
  args.slab = c.take<T>(slots * args.slab_stride);
  more(c, slots);
}

// The plans of `slots` long rows. gather, scan, plan: kernels over (slot, segment), each after the one before;
// finish: over slots.
template <class Gather, class Scan, class Plan, class Finish>
void plan_rows(int64_t slots, int64_t n, const Gather& gather, const Scan& scan, const Plan& plan,
               const Finish& finish) {
  const int64_t segments = slots * DRPM_ISA::plan_segments(n);
  for_items(segments, gather);
  for_items(segments, scan);
  for_items(segments, plan);
  for_items(slots, finish);
}

// Runs an op whose arguments are `args` (completed here, and by more()). tasks(begin, end), chunks(begin, end): its
// kernels; plan(slots), finish(slots): what goes before and after the chunks.
template <class T, class Args, class More, class Tasks, class Plan, class Chunks, class Finish>
void run_band(const Tensor& like, Args& args, int64_t slab_planes, const More& more, const Tasks& tasks,
              const Plan& plan, const Chunks& chunks, const Finish& finish) {
  const int64_t rows = args.rows, n = args.n;
  if (rows == 0 || n == 0) return;
  args.tables = band_tables<T>();
  const int64_t row_cost = n * (64 + std::min<int64_t>(n, 256));
  if (rows >= 2 * thread_count() || row_cost < 131072) {
    args.tasks = task_count(rows, row_cost);
    args.block_stride = DRPM_ISA::block_storage<T>(n);
    const Tensor memory = carve(like, [&](Carver& c) {
      take_band<T>(c, args, args.tasks, slab_planes, more);
      args.block = c.take<T>(args.tasks * args.block_stride);
    });
    for_items(args.tasks, tasks);
    return;
  }
  for (args.first_row = 0; args.first_row < rows;) {
    const int64_t slots = std::min(rows - args.first_row, thread_count() * 2);
    const Tensor memory = carve(like, [&](Carver& c) { take_band<T>(c, args, slots, slab_planes, more); });
    plan(slots);
    int64_t count = 0, widest = 1;
    for (int64_t slot = 0; slot < slots; ++slot) {
      count += args.band.counts[slot].chunks;
      widest = std::max<int64_t>(widest, args.band.counts[slot].widest);
    }
    BandItem* items = nullptr;
    args.block_stride = DRPM_ISA::block_storage<T>(widest);
    const Tensor block_memory = carve(like, [&](Carver& c) {
      items = c.take<BandItem>(count);
      args.block = c.take<T>(count * args.block_stride);
    });
    int64_t item = 0;
    for (int32_t slot = 0; slot < slots; ++slot)
      for (int32_t chunk = 0; chunk < args.band.counts[slot].chunks; ++chunk) items[item++] = {slot, chunk};
    args.items = items;
    for_items(count, chunks);
    finish(slots);
    args.first_row += slots;
  }
}

}  // namespace drpm
