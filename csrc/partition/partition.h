// Subsets filled in the sorted order: Y = alpha(sizes) P(scores), K x n, without P (docs/math/partition.md).
// All arrays are row-major and contiguous; B rows, K classes, n elements or sorted positions.
#pragma once

#include "band/band.h"

namespace drpm {

template <class T>
struct PartitionArgs {
  BandArgs<T> band;  // slab: forward Y, backward C and M
  const T* sizes;    // (B, K)
  int64_t classes;
  double eps;
  bool hard;
  T* assignment;    // (B, K, n)
  int64_t* labels;  // (B, n) subset of each element
  // backward
  const T* grad;  // (B, K, n)
  T* grad_sizes;  // (B, K)
  // scratch
  double* boundary;       // (slots, K) nu_k
  double* rest;           // (slots, K) what their rounding left
  int64_t* cut;           // (slots, K) positions before it have f_k = 1
  double* grad_boundary;  // (slots, kMaxBandChunks, K)
  T* planes;              // (slots, K, n + kBandPad)
};

// The scratch of `slots` rows beside the band's, from a carver of memory (lanes/carver.h).
template <class Memory, class T>
inline void take_partition(Memory& c, PartitionArgs<T>& args, int64_t slots) {
  args.boundary = c.template take<double>(slots * args.classes);
  args.rest = c.template take<double>(slots * args.classes);
  args.cut = c.template take<int64_t>(slots * args.classes);
  args.planes = c.template take<T>(slots * args.classes * (args.band.n + kBandPad));
  args.grad_boundary = c.template take<double>(args.grad != nullptr ? slots * kMaxBandChunks * args.classes : 0);
}

// Work items of each kernel: one (row, class); one row; one slot; one task (a range of rows, all of it in the task's
// slot); one (slot, class); one BandItem.
DRPM_DECLARE_KERNELS(partition_hard_planes, PartitionArgs)
DRPM_DECLARE_KERNELS(partition_hard_labels, PartitionArgs)
DRPM_DECLARE_KERNELS(partition_boundary_slots, PartitionArgs)
DRPM_DECLARE_KERNELS(partition_forward_tasks, PartitionArgs)
DRPM_DECLARE_KERNELS(partition_forward_chunks, PartitionArgs)
DRPM_DECLARE_KERNELS(partition_forward_planes, PartitionArgs)
DRPM_DECLARE_KERNELS(partition_backward_tasks, PartitionArgs)
DRPM_DECLARE_KERNELS(partition_gather_planes, PartitionArgs)
DRPM_DECLARE_KERNELS(partition_backward_chunks, PartitionArgs)
DRPM_DECLARE_KERNELS(partition_backward_slots, PartitionArgs)

// The subset weights on a CUDA device: what the partition needs beside the band's sums (band/band_cuda.h).
template <class T>
struct PartitionCudaArgs {
  int64_t rows, n, classes;
  double tau, eps;
  const T* scores;          // (B, n)
  const T* sizes;           // (B, K)
  const int64_t* order;     // (B, n)
  double* boundary;         // (B, K) nu_k; the last one is not finite where a score or a size of the row is not
  double* rest;             // (B, K) what their rounding left
  int64_t* cut;             // (B, K) positions before it have f_k = 1
  int64_t* position_label;  // (B, n) subset of each sorted position
  int64_t* labels;          // (B, n) subset of each element
  T* assignment;            // (B, K, n) one-hot
  T* alpha;                 // (B, K, n) relaxed weight of each sorted position
  const T* grad_alpha;      // (B, K, n)
  T* grad_sizes;            // (B, K)
  T* grad_scores;           // (B, n); becomes NaN where the row is not finite
};

#define DRPM_DECLARE_PARTITION_LAUNCHER(Name)                   \
  int Name(const PartitionCudaArgs<float>& args, void* stream); \
  int Name(const PartitionCudaArgs<double>& args, void* stream);

DRPM_DECLARE_PARTITION_LAUNCHER(partition_labels_cuda)          // sizes, order -> boundary, cut, position_label, labels
DRPM_DECLARE_PARTITION_LAUNCHER(partition_assignment_cuda)      // labels -> assignment
DRPM_DECLARE_PARTITION_LAUNCHER(partition_alpha_cuda)           // boundary -> alpha
DRPM_DECLARE_PARTITION_LAUNCHER(partition_sizes_gradient_cuda)  // boundary, grad_alpha -> grad_sizes
#undef DRPM_DECLARE_PARTITION_LAUNCHER

}  // namespace drpm
