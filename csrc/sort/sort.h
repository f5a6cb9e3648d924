// Stable decreasing order of rows of scores. Arrays are row-major and contiguous; B rows, n elements.
#pragma once

#include <cstdint>

#include "lanes/simd.h"

namespace drpm {

// What the sort moves: the key and the position it came from.
struct SortItem {
  uint64_t key, index;
};

template <class T>
struct SortArgs {
  const T* scores;  // (B, n)
  int64_t* order;   // (B, n) decreasing, ties by index
  SortItem* items;  // (tasks, 2 n) scratch
  int64_t rows, n, tasks;
};

// A work item is one task: a range of rows, all of it with the task's scratch.
DRPM_DECLARE_KERNEL(sort_tasks, SortArgs<float>)
DRPM_DECLARE_KERNEL(sort_tasks, SortArgs<double>)

}  // namespace drpm
