// Exact log p(Y | sizes) of an ordered partition under Plackett-Luce, with its gradient.
// All arrays are row-major and contiguous; B rows of n elements in K subsets.
//
// A row passes through phases. Short rows run them one after another in one task (partition_log_prob_rows); for a
// long row each phase is spread over its work items. The items do not depend on the number of threads, nor does any
// sum.
//
//   phase         items    what
//   group         1        elements by subset, chunk table
//   log_sums      chunks   log-sum-exp of each chunk's scores
//   remainders    1        log Z_k, the log-sum of all later subsets
//   moments       chunks   Chebyshev moments of the chunk's a_i (large subsets)
//   factors       K        log I_k and its derivative by each a_i (small subsets) or at the Chebyshev points
//   interpolate   chunks   derivative at each a_i from the Chebyshev points (large subsets)
//   totals        1        log p and sum_{k<l} Gamma_k / Z_k
//   gradient      chunks   d log p / d log s_i
#pragma once

#include <cstdint>

#include "lanes/simd.h"

namespace drpm {

constexpr int64_t kPartitionChunk = 8192;       // elements of one subset that one work item takes
constexpr int64_t kPartitionMomentsFrom = 768;  // subsets from this size on may use Chebyshev moments
constexpr int kPartitionPanels = 104;           // unit intervals of a that can be occupied
constexpr int kPartitionDegreeMax = 20;         // Chebyshev points a panel; fewer in float
constexpr int kPartitionNodesMax = 80;          // Gauss-Legendre nodes; fewer in float
constexpr int64_t kPartitionDirectMax = 4160;   // 2 * panels * degree: larger subsets always use moments
constexpr int64_t kPartitionMomentsSize =
    kPartitionPanels * kPartitionDegreeMax + 2;  // and the linear ones' count, sum

struct PartitionChunk {
  int32_t subset;
  int32_t slot;  // of its moments; -1: a small subset
  int64_t begin, end;
};

// What the kernels read that depends on the dtype alone; filled once (partition_log_prob_ops.cpp).
struct PartitionRule {
  int nodes;           // Gauss-Legendre nodes
  int degree;          // Chebyshev points a panel
  double drop;         // T: the integrand is cut where it has fallen by e^{-T}
  const double* node;  // (nodes) on [-1, 1]
  const double* node_weight;
  const double* chebyshev;  // (degree, degree) T_r(t_c), row c
};

template <class T>
struct PartitionLogProbArgs {
  const T* log_scores;    // (B, n)
  const int64_t* labels;  // (B, n) in [0, K)
  T* log_prob;            // (B); NaN where a label is out of range
  T* grad_log_scores;     // (B, n), or null: not wanted
  int64_t n, num_subsets;
  PartitionRule rule;

  // Scratch of one row.
  int64_t* offset;         // (K + 1) the elements of subset k are grouped[offset[k]] ... grouped[offset[k + 1] - 1]
  int32_t* grouped;        // (n) element indices
  double* score;           // (n) log-scores by group; in the end the derivative of log I by a_i
  double* log_remainder;   // (K) log Z_k; -inf for the last non-empty subset and those after it
  double* value;           // (K) log I_k
  double* log_factor;      // (K) log sum_{j<k} Gamma_j / Z_j
  PartitionChunk* chunks;  // (n / kPartitionChunk + K)
  double* chunk_sum;       // (chunks) log-sum-exp, then the sum of derivatives
  double* moments;         // (slots, kPartitionMomentsSize); then of slot 0 of each subset: the coefficients
  int32_t* first_slot;     // (K) of the subset's chunks; -1: small
  int32_t* by_moments;     // (K) whether the factor was evaluated at Chebyshev points
  int64_t* counts;         // (2): number of chunks; 1 where the labels are valid
  // Scratch of one task.
  double* factor_scratch;  // (partition_factor_scratch doubles)
};

// Doubles of factor_scratch for rows of n elements.
inline int64_t partition_factor_scratch(int64_t n, int nodes) {
  const int64_t points = (n < kPartitionDirectMax ? n : kPartitionDirectMax) + 32;
  return points * (nodes + 8) + 64 * kPartitionNodesMax + 1024;
}

#define DRPM_DECLARE_PARTITION_KERNEL(Name)              \
  DRPM_DECLARE_KERNEL(Name, PartitionLogProbArgs<float>) \
  DRPM_DECLARE_KERNEL(Name, PartitionLogProbArgs<double>)
DRPM_DECLARE_PARTITION_KERNEL(partition_log_prob_rows)
// The phases take one row: pointers of args already point at it.
DRPM_DECLARE_PARTITION_KERNEL(partition_group)
DRPM_DECLARE_PARTITION_KERNEL(partition_log_sums)
DRPM_DECLARE_PARTITION_KERNEL(partition_remainders)
DRPM_DECLARE_PARTITION_KERNEL(partition_moments)
DRPM_DECLARE_PARTITION_KERNEL(partition_factors)
DRPM_DECLARE_PARTITION_KERNEL(partition_interpolate)
DRPM_DECLARE_PARTITION_KERNEL(partition_totals)
DRPM_DECLARE_PARTITION_KERNEL(partition_gradient)
#undef DRPM_DECLARE_PARTITION_KERNEL

}  // namespace drpm
