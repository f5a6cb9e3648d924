// Exact log p(Y | sizes) on a CUDA device. All arrays are row-major, contiguous device memory; B rows of n elements in
// K subsets. Every factor is evaluated at its elements themselves (the CPU's Chebyshev points serve one thread that has
// millions of elements to itself): one block a factor.
#pragma once

#include <cstdint>

#include "partition_log_prob/partition_log_prob.h"

namespace drpm {

template <class T>
struct PartitionLogProbCudaArgs {
  const T* log_scores;           // (B, n)
  const int64_t* sorted_labels;  // (B, n) increasing
  const int64_t* grouped;        // (B, n) element of each sorted label
  T* log_prob;                   // (B); NaN where a label is out of range
  T* grad_log_scores;            // (B, n), or null: not wanted
  int64_t rows, n, num_subsets;
  int nodes;
  double drop;
  double node[kPartitionNodesMax], node_weight[kPartitionNodesMax];  // by value: kernel arguments
  // scratch
  double* log_sum;  // (B, K) log-sum-exp of each subset, then log of the sum of all later ones
  double* value;    // (B, K) log I_k
  double* gamma;    // (B, K) sum of derivatives, then log sum_{j<k} Gamma_j / Z_j
  double* point;    // (B, n) A_i, then the derivative of log I by a_i
};

// All phases, in order, on one stream; returns the first CUDA error code.
int partition_log_prob_cuda(const PartitionLogProbCudaArgs<float>& args, void* stream);
int partition_log_prob_cuda(const PartitionLogProbCudaArgs<double>& args, void* stream);

}  // namespace drpm
