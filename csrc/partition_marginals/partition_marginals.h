// Exact Pr[element i in subset k] of a random partition, and its reverse mode. Double inside for every dtype.
// B rows, n elements, K subsets; arrays are row-major and contiguous.
//
//   phase             items                what
//   windows           rows                 Pr[rank r falls into subset k] from the law of the sizes; the nodes' map
//   nodes             rows x kBlocks       the quadrature over arrival times, partial sums by block of nodes
//   nodes_backward    rows x kBlocks       partial gradients by the windows and by the scores
//   windows_backward  rows                 gradient by log omega
#pragma once

#include <cstdint>

#include "lanes/simd.h"

namespace drpm {

constexpr int64_t kMarginalBlocks = 8;  // node j belongs to block j % 8: fixed, so that threads do not change sums
constexpr int64_t kMarginalBins = 512;
constexpr int64_t kMarginalSubsets = 12;  // whose gradients are summed at a time

// Accuracy of the quadrature; one for each dtype.
struct MarginalRule {
  double base_step;   // largest step in y = log t
  double peak_step;   // step in units of the width of the count's distribution
  double left;        // y there: nothing has arrived (scores scaled to a largest of 1)
  double last_z;      // at the right end the slowest element has s t = last_z
  double negligible;  // probabilities and densities below this are dropped
};

constexpr MarginalRule kMarginalRule64{0.2, 0.8, -39, 40, 1e-18}, kMarginalRule32{0.4, 1.0, -20, 22, 1e-11};

// Density of nodes along y: rho(y) = rho_0 + sum_b change_b sigmoid((y - edge_b) / width).
struct MarginalMap {
  double left, right, density, width;
  int64_t edges;
  double edge[kMarginalBins], change[kMarginalBins];
};

struct PartitionMarginalsArgs {
  const double* score;      // (B, n) log-scores in decreasing order, the first is 0
  const double* log_omega;  // (B, K)
  const int64_t* m;         // (B, K)
  int64_t n, num_subsets;
  MarginalRule rule;

  double* inside;    // (B, K, n) Pr[nu_{k-1} <= r < nu_k]; NaN where the counts are invalid
  MarginalMap* map;  // (B)
  double* partial;   // (B, kMarginalBlocks, K, n) marginals by block, columns in the order of `score`

  const double* grad;      // (B, K, n) columns in the order of `score`
  double* partial_inside;  // (B, kMarginalBlocks, K, n) gradient by `inside`
  double* partial_score;   // (B, kMarginalBlocks, n) gradient by the log-scores
  double* grad_inside;     // (B, K, n) summed over the blocks
  double* grad_log_omega;  // (B, K)

  double* scratch;  // of one task: partition_marginals_scratch doubles
};

// Enough for each phase.
inline int64_t partition_marginals_scratch(int64_t n, int64_t num_subsets) {
  const int64_t tables = 8 * num_subsets * (n + 2) + 8 * num_subsets;
  const int64_t nodes = (32 + 8 * kMarginalSubsets) * (n + 16) + 2 * num_subsets;
  return (tables > nodes ? tables : nodes) + 64;
}

DRPM_DECLARE_KERNEL(marginal_windows, PartitionMarginalsArgs)
DRPM_DECLARE_KERNEL(marginal_nodes, PartitionMarginalsArgs)
DRPM_DECLARE_KERNEL(marginal_nodes_backward, PartitionMarginalsArgs)
DRPM_DECLARE_KERNEL(marginal_windows_backward, PartitionMarginalsArgs)

}  // namespace drpm
