// Glue of the ops on the banded relaxed sort. On the CPU: scratch memory, and the two ways to spread rows over threads,
// which do the same arithmetic in the same order. On a CUDA device: scratch memory, and launches one after another.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "band/band_cuda.h"
#include "band/band_plan.h"
#include "glue/scratch.h"
#include "glue/tensors_cuda.h"

namespace drpm {

// What is common to the arguments of all ops: `order` as sorted_order_cpu() gives it.
template <class T>
BandArgs<T> band_args(const char* op, const Tensor& scores, const Tensor& order, double tau) {
  BandArgs<T> args{};
  args.scores = checked_data<T>(op, "scores", scores, scores.numel());
  args.order = checked_data<int64_t>(op, "order", order, scores.numel());
  args.rows = scores.size(0);
  args.n = scores.size(1);
  args.tau = tau;
  return args;
}

// Plans and slabs of `slots` rows.
template <class T>
void take_band(Carver& c, BandArgs<T>& args, int64_t slots, int64_t slab_planes) {
  const int64_t n = args.n;
  args.sorted = c.take<double>(slots * 4 * (n + kBandGroup));
  args.blocks = c.take<BandBlock>(slots * n);
  args.chunks = c.take<BandChunk>(slots * kMaxBandChunks);
  args.counts = c.take<BandCounts>(slots);
  args.slab_stride = slab_planes * DRPM_ISA::slab_columns(n);
  args.slab = c.take<T>(slots * args.slab_stride);
  args.total = c.take<double>(args.grad_scores != nullptr ? 2 * slots * n : 0);
}

template <class T>
void plan_slots(const BandArgs<T>& args, int64_t slots) {
  const int64_t segments = slots * DRPM_ISA::segment_count(args.n), length = DRPM_ISA::segment_rows(args.n);
  for_items(segments, 4 * length, args, band_gather_segments);
  for_items(segments, 8 * length, args, band_scan_segments);
  for_items(segments, 32 * length, args, band_block_segments);
  for_items(slots, args.n, args, band_chunk_slots);
}

// The chunks of planned slots as work items, and their block storage.
template <class T>
TaskScratch take_chunks(BandArgs<T>& args, int64_t slots, int64_t* count) {
  int64_t widest = 1, item = 0;
  *count = 0;
  for (int64_t slot = 0; slot < slots; ++slot) {
    *count += args.counts[slot].chunks;
    widest = std::max<int64_t>(widest, args.counts[slot].widest);
  }
  BandItem* items = nullptr;
  args.block_stride = DRPM_ISA::block_storage<T>(widest);
  TaskScratch memory([&](Carver& c) {
    items = c.take<BandItem>(*count);
    args.block = c.take<T>(*count * args.block_stride);
  });
  for (int32_t slot = 0; slot < slots; ++slot)
    for (int32_t chunk = 0; chunk < args.counts[slot].chunks; ++chunk) items[item++] = {slot, chunk};
  args.items = items;
  return memory;
}

// Runs an op whose arguments hold a BandArgs, `band`, completed here. more(carver, slots) takes what else the op needs
// for that many slots; tasks, chunks: its kernels; prepare(slots), finish(slots): what goes before and after the
// chunks.
template <class T, template <class> class Args, class More, class Prepare, class Finish>
void run_band(Args<T>& args, int64_t slab_planes, const More& more, Kernel<Args<T>> tasks, const Prepare& prepare,
              Kernel<Args<T>> chunks, const Finish& finish) {
  BandArgs<T>& band = args.band;
  const int64_t rows = band.rows, n = band.n;
  if (rows == 0 || n == 0) return;
  band.tables = band_tables<T>();
  const int64_t row_cost = n * (64 + std::min<int64_t>(n, 256));
  if (rows >= 2 * thread_count() || static_cast<double>(rows * row_cost) < 2 * kOperationsPerThread) {
    band.tasks = task_count(rows, row_cost);
    band.block_stride = DRPM_ISA::block_storage<T>(n);
    const TaskScratch memory([&](Carver& c) {
      take_band(c, band, band.tasks, slab_planes);
      more(c, band.tasks);
      band.block = c.take<T>(band.tasks * band.block_stride);
    });
    for_tasks(band.tasks, args, tasks);
    return;
  }
  for (band.first_row = 0; band.first_row < rows;) {
    const int64_t slots = std::min(rows - band.first_row, thread_count() * 2);
    const TaskScratch memory([&](Carver& c) {
      take_band(c, band, slots, slab_planes);
      more(c, slots);
    });
    plan_slots(band, slots);
    prepare(slots);
    int64_t count;
    const TaskScratch block_memory = take_chunks(band, slots, &count);
    for_items(count, slots * row_cost / std::max<int64_t>(count, 1), args, chunks);
    finish(slots);
    band.first_row += slots;
  }
}

// The first error of launches made one after another on one stream.
inline int first_error(std::initializer_list<int> errors) {
  for (const int error : errors)
    if (error != 0) return error;
  return 0;
}

// The arguments of the band's CUDA kernels with their scratch; more(carver, args) takes what else the op needs.
template <class T>
class CudaBandRun {
 public:
  template <class More>
  CudaBandRun(const char* op, const Tensor& scores, const Tensor& order, double tau, bool backward, const More& more) {
    const int64_t size = scores.numel();
    args.scores = checked_data<T>(op, "scores", scores, size);
    args.order = checked_data<int64_t>(op, "order", order, size);
    memory_ = carve(scores, [&](Carver& c) {
      sorted_ = c.take<double>(size);
      args.inverse_sum = c.take<double>(size);
      if (backward) {
        args.center = c.take<double>(size);
        args.moments = c.take<double>(2 * size);
      }
      more(c, args);
    });
    args.band = {sorted_, scores.size(0), scores.size(1), tau};
  }

  int gather_scores(void* stream) const {
    return band_gather_scores_cuda(args.scores, args.order, args.band.rows, args.band.n, sorted_, stream);
  }

  CudaBandArgs<T> args{};

 private:
  Tensor memory_;
  double* sorted_;
};

}  // namespace drpm
