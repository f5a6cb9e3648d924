// The relaxed permutation P of rows of scores, dense (docs/math/relaxed_sort.md).
// All arrays are row-major and contiguous; B rows, n elements.
#pragma once

#include "band/band.h"

namespace drpm {

template <class T>
struct RelaxedSortArgs {
  BandArgs<T> band;  // every row; slab: C and M
  T* permutation;    // (B, n, n)
  const T* grad;     // (B, n, n); backward
};

// Work items of each kernel: one row; one task (a range of rows, all of it in the task's slot); one BandItem; one slot.
DRPM_DECLARE_KERNELS(relaxed_sort_hard_rows, RelaxedSortArgs)
DRPM_DECLARE_KERNELS(relaxed_sort_forward_tasks, RelaxedSortArgs)
DRPM_DECLARE_KERNELS(relaxed_sort_forward_chunks, RelaxedSortArgs)
DRPM_DECLARE_KERNELS(relaxed_sort_backward_tasks, RelaxedSortArgs)
DRPM_DECLARE_KERNELS(relaxed_sort_backward_chunks, RelaxedSortArgs)
DRPM_DECLARE_KERNELS(relaxed_sort_backward_slots, RelaxedSortArgs)

}  // namespace drpm
