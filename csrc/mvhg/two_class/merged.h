// MVHG with merged conditionals (thesis Algorithms 1-4): the chain that draws sizes class by class, and its
// probability. All arrays are row-major and contiguous.
//   B parameter rows, S samples, R = S B rows (row = sample * B + parameter row), K classes.
#pragma once

#include "lanes/simd.h"
#include "noise/seeds.h"
#include "special/log_factorial.h"

namespace drpm {

// What both kernels read: counts may be shared by all rows (stride 0).
struct MergedCounts {
  const int64_t* m;      // (B, K) or (1, K)
  const int64_t* n;      // (B) or (1)
  const int64_t* order;  // (R, K), (1, K) or null: natural class order
  int64_t batch, classes;
  int64_t m_stride, n_stride, order_stride;  // elements from row to row; 0 where shared
};

template <class T>
struct MvhgSampleMergedArgs {
  MergedCounts counts;
  const T* log_omega;  // (B, K)
  Seeds seeds;
  T* sizes;            // (R, K); a row of NaN where counts are invalid or weights not finite
  double* statistics;  // (R, K, 2) or null: Var(x) / tau, Cov(x, d) / tau of the relaxed outcome, by class
  double tau;
  bool hard, noise;
  LogFactorialTable log_factorials;
  T* outcomes;      // scratch of one task: (2, width)
  double* classes;  // scratch of one task: (2, K)
  int64_t width;    // >= max m + 1, rounded up to whole noise blocks and packs
};

template <class T>
struct MvhgSampleMergedBackwardArgs {
  MergedCounts counts;
  const T* grad_sizes;       // (R, K)
  const T* log_omega;        // (B, K)
  const double* statistics;  // (R, K, 2)
  T* grad_log_omega;         // (R, K)
  double* classes;           // scratch of one task: (3, K)
};

template <class T>
struct MvhgLogProbMergedArgs {
  MergedCounts counts;  // natural order, R = B
  const T* sizes;       // (B, K)
  const T* log_omega;   // (B, K)
  T* log_prob;          // (B); -inf outside the support, NaN where counts are invalid
  double* statistics;   // (B, K, 2): E x, E d, by class
  LogFactorialTable log_factorials;
  double* outcomes;  // scratch of one task: (2, width)
  double* classes;   // scratch of one task: (2, K)
  int64_t width;
};

template <class T>
struct MvhgLogProbMergedBackwardArgs {
  MergedCounts counts;
  const T* grad_log_prob;    // (B)
  const T* sizes;            // (B, K)
  const T* log_omega;        // (B, K)
  const T* log_prob;         // (B)
  const double* statistics;  // (B, K, 2)
  T* grad_sizes;             // (B, K)
  T* grad_log_omega;         // (B, K)
  double* classes;           // scratch of one task: (3, K)
};

DRPM_DECLARE_KERNEL(mvhg_sample_merged_rows, MvhgSampleMergedArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_sample_merged_rows, MvhgSampleMergedArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_sample_merged_backward_rows, MvhgSampleMergedBackwardArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_sample_merged_backward_rows, MvhgSampleMergedBackwardArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_log_prob_merged_rows, MvhgLogProbMergedArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_log_prob_merged_rows, MvhgLogProbMergedArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_log_prob_merged_backward_rows, MvhgLogProbMergedBackwardArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_log_prob_merged_backward_rows, MvhgLogProbMergedBackwardArgs<double>)

}  // namespace drpm
