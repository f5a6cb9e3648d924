// Most probable random partition on a CUDA device. All arrays are row-major, contiguous device memory; B rows of n
// elements, K subsets. A warp takes the intervals of one right end, and one boundary of the dynamic programme.
#pragma once

#include <cstdint>

#include "special/log_factorial.h"

namespace drpm {

template <class T>
struct PartitionModeCudaArgs {
  int64_t rows, n, num_subsets, nodes;
  const T* log_scores;   // (B, n)
  const int64_t* order;  // (B, n) elements in decreasing order of score
  const T* log_omega;    // (B, K)
  const int64_t* m;      // (B, K)
  int64_t* labels;       // (B, n); -1 where no partition is possible
  // scratch
  LogFactorialTable log_factorials;
  double* node_scale;  // (nodes) e^{y_j}
  double* node_base;   // (nodes) log dy_j + y_j - e^{y_j}
  double* score;       // (B, n) sorted
  double* log_rest;    // (B, n + 1) log-sum of the scores from b on; -inf at n
  double* interval;    // (B, n (n + 1) / 2) of [a, b) at b (b - 1) / 2 + a, b = 1 ... n
  double* weight;      // (B, K, n + 1) of a subset of x elements
  double* best;        // (B, 2, n + 1) by turns: the best value of the first subsets that end at b
  int64_t* start;      // (B, K, n + 1) where subset k begins if it ends at b
  int64_t* cut;        // (B, K + 1) boundaries of the best
};

// All phases, in order, on one stream; returns the first CUDA error code.
int partition_mode_cuda(const PartitionModeCudaArgs<float>& args, void* stream);
int partition_mode_cuda(const PartitionModeCudaArgs<double>& args, void* stream);

}  // namespace drpm
