// Exact marginals of a random partition on a CUDA device, double inside for every dtype. All arrays are row-major,
// contiguous device memory; B rows of n elements, K subsets. Node j of a row belongs to slot j % slots, and a block
// takes a slot: how many slots there are depends on shapes alone, so results repeat exactly.
#pragma once

#include <cstdint>

#include "lanes/host_device.h"
#include "partition_marginals/partition_marginals.h"

namespace drpm {

constexpr int64_t kMarginalThreads = 128;  // elements of a tile of the backward

// Ranks that the law of the arrivals can reach at a node, and two spare ones. Where its ends are cut at e^{-52} a law
// of n independent arrivals is no wider than 2 sqrt(52 n / 2) (Hoeffding).
DRPM_HD inline int64_t marginal_ranks(int64_t n) {
  const int64_t widest = static_cast<int64_t>(10.2 * __builtin_sqrt(static_cast<double>(n))) + 12;
  return widest < n + 3 ? widest : n + 3;
}

// Doubles of scratch of one block, in the two directions.
DRPM_HD inline int64_t marginal_block_scratch(int64_t n, bool backward) {
  const int64_t node = 5 * n + 8, ranks = marginal_ranks(n);
  return backward ? node + ranks * (2 * kMarginalThreads + 1) : node;
}

// Doubles of the size tables of one row: heads and values of f, F and B, and gradients by them.
DRPM_HD inline int64_t marginal_table_scratch(int64_t n, int64_t num_subsets) {
  return num_subsets * (9 + 6 * (n + 2)) + kMarginalBins + 2;
}

template <class T>
struct PartitionMarginalsCudaArgs {
  int64_t rows, n, num_subsets, slots;
  const T* log_scores;   // (B, n)
  const int64_t* order;  // (B, n) elements in decreasing order of score
  const T* log_omega;    // (B, K)
  const int64_t* m;      // (B, K)
  MarginalRule rule;
  T* marginals;        // (B, K, n)
  const T* grad;       // (B, K, n)
  T* grad_log_omega;   // (B, K)
  T* grad_log_scores;  // (B, n)
  // scratch
  double* score;          // (B, n) decreasing, the first is 0
  double* tables;         // (B, marginal_table_scratch)
  MarginalMap* map;       // (B)
  double* inside;         // (B, K, n) Pr[nu_{k-1} <= r < nu_k]; NaN where the counts are invalid
  double* block;          // (B, slots, marginal_block_scratch)
  double* partial;        // (B, slots, K, n) marginals, or gradient by `inside`
  double* sorted_grad;    // (B, K, n) in the order of `score`
  double* partial_score;  // (B, slots, n)
  double* grad_inside;    // (B, K, n)
};

// All phases, in order, on one stream; each returns the first CUDA error code.
int partition_marginals_cuda(const PartitionMarginalsCudaArgs<float>& args, void* stream);
int partition_marginals_cuda(const PartitionMarginalsCudaArgs<double>& args, void* stream);
int partition_marginals_backward_cuda(const PartitionMarginalsCudaArgs<float>& args, void* stream);
int partition_marginals_backward_cuda(const PartitionMarginalsCudaArgs<double>& args, void* stream);

}  // namespace drpm
