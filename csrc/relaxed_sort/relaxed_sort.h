// Relaxed sort of rows of scores: the order, the dense relaxed permutation P, and products P V without P
// (docs/math/relaxed_sort.md). All arrays are row-major and contiguous; B rows, n elements.
#pragma once

#include "band/band_scratch.h"
#include "band/sort_order.h"
#include "lanes/simd.h"

namespace drpm {

template <class T>
struct SortArgs {
  const T* scores;  // (B, n)
  int64_t* order;   // (B, n) decreasing, ties by index
  SortItem* items;  // (tasks, 2 n) scratch
  int64_t rows, n, tasks;
};

template <class T>
struct RelaxedSortArgs {
  const T* scores;       // (B, n)
  const int64_t* order;  // (B, n)
  int64_t rows, n;
  double tau;
  bool hard;
  T* permutation;  // (B, n, n)
  // backward
  const T* grad;   // (B, n, n)
  T* grad_scores;  // (B, n)
  // scratch
  BandTables tables;
  BandScratch band;
  double* total;          // (slots, 2, n)
  T* slab;                // (slots, slab_stride)
  T* block;               // (tasks or items, block_stride); backward: one more line for a row of grad
  const BandItem* items;  // work items of the chunk kernels
  int64_t slab_stride, block_stride;
  int64_t first_row;  // row of slot 0
  int64_t tasks;
};

template <class T>
struct RelaxedSortMatmulArgs {
  const T* scores;       // (B, n)
  const T* values;       // (B, n, d)
  const int64_t* order;  // (B, n)
  int64_t rows, n, columns;
  double tau;
  bool hard;
  T* product;  // (B, n, d)
  // backward
  const T* grad;   // (B, n, d)
  T* grad_scores;  // (B, n)
  T* grad_values;  // (B, n, d)
  // scratch
  BandTables tables;
  BandScratch band;
  double* total;  // (slots, 2, n)
  T* planes;      // (slots, d, n + kBandPad) values in sorted order
  T* slab;        // (slots, slab_stride) C, M and, relaxed, d planes of grad_values
  T* block;       // (tasks or items, block_stride)
  const BandItem* items;
  int64_t slab_stride, block_stride;
  int64_t first_row;
  int64_t tasks;
};

// Work items of each kernel: one task (a range of rows, all of it in the task's slot); one row; one slot; one
// (slot, segment); one BandItem.
#define DRPM_DECLARE_BOTH(Name, Args)    \
  DRPM_DECLARE_KERNEL(Name, Args<float>) \
  DRPM_DECLARE_KERNEL(Name, Args<double>)

DRPM_DECLARE_BOTH(sort_tasks, SortArgs)

DRPM_DECLARE_BOTH(relaxed_sort_hard_rows, RelaxedSortArgs)
DRPM_DECLARE_BOTH(relaxed_sort_forward_tasks, RelaxedSortArgs)
DRPM_DECLARE_BOTH(relaxed_sort_backward_tasks, RelaxedSortArgs)
DRPM_DECLARE_BOTH(relaxed_sort_gather_segments, RelaxedSortArgs)
DRPM_DECLARE_BOTH(relaxed_sort_scan_segments, RelaxedSortArgs)
DRPM_DECLARE_BOTH(relaxed_sort_plan_segments, RelaxedSortArgs)
DRPM_DECLARE_BOTH(relaxed_sort_plan_slots, RelaxedSortArgs)
DRPM_DECLARE_BOTH(relaxed_sort_forward_chunks, RelaxedSortArgs)
DRPM_DECLARE_BOTH(relaxed_sort_backward_chunks, RelaxedSortArgs)
DRPM_DECLARE_BOTH(relaxed_sort_backward_slots, RelaxedSortArgs)

DRPM_DECLARE_BOTH(relaxed_sort_matmul_hard_rows, RelaxedSortMatmulArgs)
DRPM_DECLARE_BOTH(relaxed_sort_matmul_forward_tasks, RelaxedSortMatmulArgs)
DRPM_DECLARE_BOTH(relaxed_sort_matmul_backward_tasks, RelaxedSortMatmulArgs)
DRPM_DECLARE_BOTH(relaxed_sort_matmul_gather_segments, RelaxedSortMatmulArgs)
DRPM_DECLARE_BOTH(relaxed_sort_matmul_scan_segments, RelaxedSortMatmulArgs)
DRPM_DECLARE_BOTH(relaxed_sort_matmul_plan_segments, RelaxedSortMatmulArgs)
DRPM_DECLARE_BOTH(relaxed_sort_matmul_plan_slots, RelaxedSortMatmulArgs)
DRPM_DECLARE_BOTH(relaxed_sort_matmul_forward_chunks, RelaxedSortMatmulArgs)
DRPM_DECLARE_BOTH(relaxed_sort_matmul_backward_chunks, RelaxedSortMatmulArgs)
DRPM_DECLARE_BOTH(relaxed_sort_matmul_backward_slots, RelaxedSortMatmulArgs)

#undef DRPM_DECLARE_BOTH

}  // namespace drpm
