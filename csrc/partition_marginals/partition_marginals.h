// Exact Pr[element i in subset k] of a random partition, and its reverse mode. Double inside for every dtype.
// B rows, n elements, K subsets; arrays are row-major and contiguous.
//
//   phase             items         what
//   windows           rows          sorted scores; Pr[rank r falls into subset k] from the law of the sizes; the nodes'
//   map nodes             rows x slots  the quadrature over arrival times; node j belongs to slot j % slots totals rows
//   marginals, summed over the slots sort_gradient     rows          incoming gradients in the order of the scores
//   nodes_backward    rows x slots  partial gradients by the windows and by the scores
//   windows_backward  rows          gradients by the scores and by log omega
//
// How many slots there are depends on shapes alone, so that results repeat exactly on any number of threads.
#pragma once

#include <cstdint>

#include "lanes/simd.h"

namespace drpm {

constexpr int64_t kMarginalSlots = 8;  // on the CPU; more on a device
constexpr int64_t kMarginalBins = 512;
constexpr int64_t kMarginalThreads = 128;  // on a device: elements of a tile of the backward

// Accuracy of the quadrature; one for each dtype.
struct MarginalRule {
  double base_step;   // largest step in y = log t
  double peak_step;   // step in units of the width of the count's distribution
  double left;        // y there: nothing has arrived (scores scaled to a largest of 1)
  double last_z;      // at the right end the slowest element has s t = last_z
  double negligible;  // probabilities and densities below this are dropped
};

constexpr MarginalRule kMarginalRule64{0.2, 0.8, -39, 40, 1e-18}, kMarginalRule32{0.4, 1.0, -20, 22, 1e-11};

template <class T>
constexpr MarginalRule marginal_rule() {
  return sizeof(T) == 8 ? kMarginalRule64 : kMarginalRule32;
}

// Density of nodes along y: rho(y) = rho_0 + sum_b change_b sigmoid((y - edge_b) / width).
struct MarginalMap {
  double left, right, density, width;
  int64_t edges;
  double edge[kMarginalBins], change[kMarginalBins];
};

// What the quadrature reads and writes, whatever the dtype.
struct MarginalRows {
  int64_t rows, n, num_subsets, slots;
  MarginalRule rule;
  const int64_t* m;  // (B, K)
  // scratch
  double* top;            // (B) the largest log-score; NaN where one is not finite
  double* score;          // (B, n) log-scores in decreasing order, the first is 0, wide gaps narrowed
  double* law;            // (B, boundary_law_doubles)
  double* density;        // (B, kMarginalBins + 2) of nodes, by bin
  MarginalMap* map;       // (B)
  double* inside;         // (B, K, n) Pr[nu_{k-1} <= r < nu_k]; NaN where the row is invalid
  double* partial;        // (B, slots, K, n) columns as in `score`: marginals, or gradient by `inside`
  double* sorted_grad;    // (B, K, n) columns as in `score`
  double* partial_score;  // (B, slots, n)
  double* grad_inside;    // (B, K, n)
  double* block;          // CUDA: (B, slots, marginal_block_scratch); CPU: node_scratch_doubles of one task
};

template <class T>
struct PartitionMarginalsArgs : MarginalRows {
  const T* log_scores;   // (B, n)
  const int64_t* order;  // (B, n) elements in decreasing order of score
  const T* log_omega;    // (B, K)
  T* marginals;          // (B, K, n)
  const T* grad;         // (B, K, n)
  T* grad_log_omega;     // (B, K)
  T* grad_log_scores;    // (B, n)
};

#define DRPM_DECLARE_MARGINAL_KERNEL(Name)                 \
  DRPM_DECLARE_KERNEL(Name, PartitionMarginalsArgs<float>) \
  DRPM_DECLARE_KERNEL(Name, PartitionMarginalsArgs<double>)
DRPM_DECLARE_MARGINAL_KERNEL(marginal_windows)
DRPM_DECLARE_KERNEL(marginal_nodes, MarginalRows)
DRPM_DECLARE_MARGINAL_KERNEL(marginal_totals)
DRPM_DECLARE_MARGINAL_KERNEL(marginal_sort_gradient)
DRPM_DECLARE_KERNEL(marginal_nodes_backward, MarginalRows)
DRPM_DECLARE_MARGINAL_KERNEL(marginal_windows_backward)
#undef DRPM_DECLARE_MARGINAL_KERNEL

// All phases, in order, on one stream; each returns the first CUDA error code.
int partition_marginals_cuda(const PartitionMarginalsArgs<float>& args, void* stream);
int partition_marginals_cuda(const PartitionMarginalsArgs<double>& args, void* stream);
int partition_marginals_backward_cuda(const PartitionMarginalsArgs<float>& args, void* stream);
int partition_marginals_backward_cuda(const PartitionMarginalsArgs<double>& args, void* stream);

}  // namespace drpm
