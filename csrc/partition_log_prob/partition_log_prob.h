// Exact log p(Y | sizes) of an ordered partition under Plackett-Luce, with its gradient.
// All arrays are row-major and contiguous; B rows of n elements in K subsets, R = 1 row of scores for all subsets of a
// row or, where `by_subset`, R = K: one for each (docs/math/assignment.md). The last of K has no effect and is not
// read.
#pragma once

#include <cstdint>

#include "lanes/simd.h"

namespace drpm {

constexpr int64_t kSubsetChunk = 8192;                           // elements of one subset that one work item takes
constexpr int64_t kMomentsFrom = 768;                            // subsets from this size on may use Chebyshev moments
constexpr int kPanels = 104;                                     // unit intervals of a that can be occupied
constexpr int kPanelDegreeMax = 20;                              // Chebyshev points a panel; fewer in float
constexpr int kFactorNodesMax = 80;                              // Gauss-Legendre nodes; fewer in float
constexpr int64_t kDirectMax = 2 * kPanels * kPanelDegreeMax;    // larger subsets always use moments
constexpr int64_t kMomentsSize = kPanels * kPanelDegreeMax + 2;  // and the linear ones' count, sum

struct SubsetChunk {
  int32_t subset;
  int32_t slot;  // of its moments; -1: a small subset
  int64_t begin, end;
};

// What the kernels read that depends on the dtype alone (rule.h).
struct QuadratureRule {
  int nodes;           // Gauss-Legendre nodes
  int degree;          // Chebyshev points a panel
  double drop;         // T: the integrand is cut where it has fallen by e^{-T}
  const double* node;  // (nodes) on [-1, 1]
  const double* node_weight;
  const double* chebyshev;  // (degree, degree) T_r(t_c), row c
};

// ---- CPU ----
// A row passes through phases. Short rows run them one after another in one task (partition_log_prob_rows); for a
// long row each phase is spread over its work items. The items do not depend on the number of threads, nor does any
// sum.
//
//   phase         items    what
//   group         1        elements by subset, chunk table
//   log_sums      chunks   log-sum-exp of each chunk's scores; by_subset, K items: log Z_k by row k
//   remainders    1        log Z_k, the log-sum of all later subsets
//   moments       chunks   Chebyshev moments of the chunk's a_i (large subsets)
//   factors       K        log I_k and its derivative by each a_i (small subsets) or at the Chebyshev points
//   interpolate   chunks   derivative at each a_i from the Chebyshev points (large subsets)
//   totals        1        log p and sum_{k<l} Gamma_k / Z_k
//   gradient      chunks   d log p / d log s_i; by_subset, K items: a row of it
template <class T>
struct PartitionLogProbArgs {
  const T* log_scores;    // (B, R, n)
  const int64_t* labels;  // (B, n) in [0, K)
  T* log_prob;            // (B); NaN where a label is out of range or a score not finite
  T* grad_log_scores;     // (B, R, n), or null: not wanted
  int64_t n, num_subsets;
  bool by_subset;
  QuadratureRule rule;

  // Scratch of one row.
  int64_t* offset;        // (K + 1) the elements of subset k are grouped[offset[k]] ... grouped[offset[k + 1] - 1]
  int32_t* grouped;       // (n) element indices
  double* largest;        // (R) log-score of its row, by_subset of what comes after; the others are relative to it
  T* label;               // (n) by_subset: the labels as numbers
  double* score;          // (n) log-scores by group; in the end the derivative of log I by a_i
  double* log_remainder;  // (K) log Z_k; -inf for the last non-empty subset and those after it
  double* value;          // (K) log I_k
  double* log_factor;     // (K) log sum_{j<k} Gamma_j / Z_j; by_subset: -Gamma_k / Z_k
  SubsetChunk* chunks;    // (n / kSubsetChunk + K)
  double* chunk_sum;      // (chunks) log-sum-exp, then the sum of derivatives
  double* moments;        // (slots, kMomentsSize); then of slot 0 of each subset: the coefficients
  int32_t* first_slot;    // (K) of the subset's chunks; -1: small
  int32_t* by_moments;    // (K) whether the factor was evaluated at Chebyshev points
  int64_t* counts;        // (2): number of chunks; 1 where the row is valid
  // Scratch of one task.
  double* factor_scratch;  // the points of a factor (factor_points.h)

  int64_t score_rows() const { return by_subset ? num_subsets : 1; }
  int64_t score_items() const { return by_subset ? num_subsets : counts[0]; }  // of log_sums and gradient
};

#define DRPM_DECLARE_PARTITION_KERNEL(Name)              \
  DRPM_DECLARE_KERNEL(Name, PartitionLogProbArgs<float>) \
  DRPM_DECLARE_KERNEL(Name, PartitionLogProbArgs<double>)
DRPM_DECLARE_PARTITION_KERNEL(partition_log_prob_rows)
// The phases take one row: pointers of args already point at it.
DRPM_DECLARE_PARTITION_KERNEL(partition_log_prob_group)
DRPM_DECLARE_PARTITION_KERNEL(partition_log_prob_log_sums)
DRPM_DECLARE_PARTITION_KERNEL(partition_log_prob_remainders)
DRPM_DECLARE_PARTITION_KERNEL(partition_log_prob_moments)
DRPM_DECLARE_PARTITION_KERNEL(partition_log_prob_factors)
DRPM_DECLARE_PARTITION_KERNEL(partition_log_prob_interpolate)
DRPM_DECLARE_PARTITION_KERNEL(partition_log_prob_totals)
DRPM_DECLARE_PARTITION_KERNEL(partition_log_prob_gradient)
#undef DRPM_DECLARE_PARTITION_KERNEL

// ---- CUDA ----
// Every factor is evaluated at its elements themselves (the CPU's Chebyshev points serve one thread that has millions
// of elements to itself): one block a factor.
template <class T>
struct PartitionLogProbCudaArgs {
  const T* log_scores;           // (B, R, n)
  const int64_t* sorted_labels;  // (B, n) increasing
  const int64_t* grouped;        // (B, n) element of each sorted label
  T* log_prob;                   // (B); NaN where a label is out of range or a score not finite
  T* grad_log_scores;            // (B, R, n), or null: not wanted
  int64_t rows, n, num_subsets;
  bool by_subset;
  int nodes;
  double drop;
  double node[kFactorNodesMax], node_weight[kFactorNodesMax];  // by value: kernel arguments
  // scratch
  double* largest;  // (B, R) log-score, all others are taken relative to it; NaN where one is not finite
  double* log_sum;  // (B, K) log-sum-exp of each subset, then log of the sum of all later ones
  double* value;    // (B, K) log I_k
  double* gamma;    // (B, K) sum of derivatives; then, unless by_subset, log sum_{j<k} Gamma_j / Z_j
  double* point;    // (B, n) A_i, then the derivative of log I by a_i
};

// All phases, in order, on one stream; returns the first CUDA error code.
int partition_log_prob_cuda(const PartitionLogProbCudaArgs<float>& args, void* stream);
int partition_log_prob_cuda(const PartitionLogProbCudaArgs<double>& args, void* stream);

}  // namespace drpm
