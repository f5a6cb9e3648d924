// Most probable random partition. Double inside for every dtype. B rows, n elements, K subsets; row-major, contiguous.
//
//   phase       CPU items  CUDA                 what
//   nodes       nodes      thread a node        the quadrature's table, shared by all rows
//   remainders  rows       block a row          sorted scores, log-sums from each position on
//   intervals   rows x n   warp a right end     log probability that elements a ... b - 1 of the sorted row precede the
//                                               rest, for one b
//   labels      rows       warp a boundary,     dynamic programme over the boundaries, and back from the last one
//                          then block a row
#pragma once

#include <cstdint>

#include "lanes/simd.h"
#include "special/log_factorial.h"

namespace drpm {

// n(n + 1)/2 interval factors of 8 bytes are held for each row: 67 MB at the limit.
constexpr int64_t kPartitionModeLimit = 4096;

template <class T>
struct PartitionModeArgs {
  const T* log_scores;   // (B, n)
  const int64_t* order;  // (B, n) elements in decreasing order of score
  const T* log_omega;    // (B, K)
  const int64_t* m;      // (B, K)
  int64_t* labels;       // (B, n); -1 where no partition is possible or a value is not a number
  int64_t rows, n, num_subsets, nodes;
  LogFactorialTable log_factorials;
  // scratch
  double* node_scale;    // (nodes) e^{y_j}, ascending
  double* node_base;     // (nodes) log dy_j + y_j - e^{y_j}
  double* top;           // (B) the largest log omega; NaN where the row has no most probable partition
  double* score;         // (B, n) sorted, the first is 0
  double* log_rest;      // (B, n + 1) log-sum of the scores from b on; -inf at n
  double* interval;      // (B, n (n + 1) / 2) of [a, b) at b (b - 1) / 2 + a, b = 1 ... n
  double* weight;        // (B, K, n + 1) of a subset of x elements
  double* best;          // (B, 2, n + 1) by turns: the best value of the first subsets that end at b
  int32_t* start;        // (B, K, n + 1) where subset k begins if it ends at b
  int64_t* cut;          // (B, K + 1) boundaries of the best
  double* node_scratch;  // CPU, of one task of `intervals`: mode_node_scratch doubles
};

inline int64_t mode_node_scratch(int64_t nodes) { return 4 * (nodes + 16); }

#define DRPM_DECLARE_MODE_KERNEL(Name)                \
  DRPM_DECLARE_KERNEL(Name, PartitionModeArgs<float>) \
  DRPM_DECLARE_KERNEL(Name, PartitionModeArgs<double>)
DRPM_DECLARE_MODE_KERNEL(partition_mode_nodes)
DRPM_DECLARE_MODE_KERNEL(partition_mode_remainders)
DRPM_DECLARE_MODE_KERNEL(partition_mode_intervals)
DRPM_DECLARE_MODE_KERNEL(partition_mode_labels)
#undef DRPM_DECLARE_MODE_KERNEL

// All phases, in order, on one stream; returns the first CUDA error code.
int partition_mode_cuda(const PartitionModeArgs<float>& args, void* stream);
int partition_mode_cuda(const PartitionModeArgs<double>& args, void* stream);

}  // namespace drpm
