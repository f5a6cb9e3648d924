// Products P V of the relaxed permutation with values, without P (docs/math/relaxed_sort.md).
// All arrays are row-major and contiguous; B rows, n elements, d columns.
#pragma once

#include "band/band.h"

namespace drpm {

template <class T>
struct RelaxedSortMatmulArgs {
  BandArgs<T> band;  // slab: C, M and, relaxed, d planes of grad_values
  const T* values;   // (B, n, d)
  int64_t columns;
  bool hard;
  T* product;  // (B, n, d)
  // backward
  const T* grad;   // (B, n, d)
  T* grad_values;  // (B, n, d)
  // scratch
  T* planes;  // (slots, d, n + kBandPad) values in sorted order
};

// Work items of each kernel: one row; one task (a range of rows, all of it in the task's slot); one (slot, column); one
// BandItem; one slot.
DRPM_DECLARE_KERNELS(relaxed_sort_matmul_hard_rows, RelaxedSortMatmulArgs)
DRPM_DECLARE_KERNELS(relaxed_sort_matmul_forward_tasks, RelaxedSortMatmulArgs)
DRPM_DECLARE_KERNELS(relaxed_sort_matmul_gather_planes, RelaxedSortMatmulArgs)
DRPM_DECLARE_KERNELS(relaxed_sort_matmul_forward_chunks, RelaxedSortMatmulArgs)
DRPM_DECLARE_KERNELS(relaxed_sort_matmul_backward_tasks, RelaxedSortMatmulArgs)
DRPM_DECLARE_KERNELS(relaxed_sort_matmul_backward_chunks, RelaxedSortMatmulArgs)
DRPM_DECLARE_KERNELS(relaxed_sort_matmul_backward_slots, RelaxedSortMatmulArgs)

}  // namespace drpm
