// Subsets filled in the sorted order: Y = alpha(sizes) P(scores), K x n, without P (docs/math/partition.md).
// All arrays are row-major and contiguous; B rows, K classes, n elements.
#pragma once

#include "band/band_scratch.h"
#include "lanes/simd.h"

namespace drpm {

template <class T>
struct PartitionArgs {
  const T* scores;       // (B, n)
  const T* sizes;        // (B, K)
  const int64_t* order;  // (B, n) decreasing scores, ties by index
  int64_t rows, n, classes;
  double tau, eps;
  bool hard;
  T* assignment;    // (B, K, n)
  int64_t* labels;  // (B, n) subset of each element
  // backward
  const T* grad;   // (B, K, n)
  T* grad_scores;  // (B, n)
  T* grad_sizes;   // (B, K)
  // scratch
  BandTables tables;
  BandScratch band;
  double* boundary;       // (slots, K) nu_k
  double* rest;           // (slots, K) what their rounding left
  int64_t* cut;           // (slots, K) positions before it have f_k = 1
  double* grad_boundary;  // (slots, kMaxBandChunks, K)
  double* total;          // (slots, 2, n); backward
  T* planes;              // (slots, K, n + kBandPad)
  T* slab;                // (slots, slab_stride)
  T* block;               // (tasks or items, block_stride)
  const BandItem* items;  // work items of the chunk kernels
  int64_t slab_stride, block_stride;
  int64_t first_row;  // row of slot 0
  int64_t tasks;
};

// Work items of each kernel: one (row, class); one task (a range of rows, all of it in the task's slot); one slot;
// one (slot, segment); one (slot, class); one BandItem.
#define DRPM_DECLARE_PARTITION_KERNEL(Name)       \
  DRPM_DECLARE_KERNEL(Name, PartitionArgs<float>) \
  DRPM_DECLARE_KERNEL(Name, PartitionArgs<double>)

DRPM_DECLARE_PARTITION_KERNEL(partition_hard_planes)
DRPM_DECLARE_PARTITION_KERNEL(partition_forward_tasks)
DRPM_DECLARE_PARTITION_KERNEL(partition_backward_tasks)
DRPM_DECLARE_PARTITION_KERNEL(partition_gather_segments)
DRPM_DECLARE_PARTITION_KERNEL(partition_scan_segments)
DRPM_DECLARE_PARTITION_KERNEL(partition_plan_segments)
DRPM_DECLARE_PARTITION_KERNEL(partition_plan_slots)
DRPM_DECLARE_PARTITION_KERNEL(partition_forward_chunks)
DRPM_DECLARE_PARTITION_KERNEL(partition_forward_planes)
DRPM_DECLARE_PARTITION_KERNEL(partition_gather_planes)
DRPM_DECLARE_PARTITION_KERNEL(partition_backward_chunks)
DRPM_DECLARE_PARTITION_KERNEL(partition_backward_slots)

#undef DRPM_DECLARE_PARTITION_KERNEL

}  // namespace drpm
