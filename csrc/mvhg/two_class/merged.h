// MVHG with merged conditionals (thesis Algorithms 1-4): the chain that draws sizes class by class, and its
// probability. All arrays are row-major and contiguous.
//   B parameter rows, S samples, R = S B rows (row = sample * B + parameter row), K classes.
#pragma once

#include "lanes/simd.h"
#include "mvhg/law.h"
#include "noise/seeds.h"
#include "special/log_factorial.h"

namespace drpm {

template <class T>
struct MvhgSampleMergedArgs {
  MvhgCounts counts;
  const T* log_omega;  // (B, K)
  Seeds seeds;
  T* sizes;            // (R, K); a row of NaN where counts are invalid or weights not finite
  double* statistics;  // (R, K, 2) or null: Var(x) / tau, Cov(x, d) / tau of the relaxed outcome, by class
  double tau;
  bool hard, noise;
  LogFactorialTable log_factorials;
  T* outcomes;      // scratch of one task: (2, width)
  double* classes;  // scratch of one task: (2, K)
  int64_t width;    // outcomes that a class looks at, at most, and whole noise blocks and packs beyond
};

constexpr int64_t kSummedOutcomes = 256;  // whole packs beyond those of any stride

template <class T>
struct MvhgSampleMergedBackwardArgs {
  MvhgCounts counts;
  const T* grad_sizes;       // (R, K)
  const T* log_omega;        // (B, K)
  const double* statistics;  // (R, K, 2)
  T* grad_log_omega;         // (R, K)
  double* classes;           // scratch of one task: (3, K)
};

template <class T>
struct MvhgLogProbMergedArgs {
  MvhgCounts counts;   // natural order, R = B
  const T* sizes;      // (B, K)
  const T* log_omega;  // (B, K)
  T* log_prob;         // (B); -inf outside the support, NaN where counts are invalid
  double* statistics;  // (B, K, 2): E x, E d, by class
  LogFactorialTable log_factorials;
  double* outcomes;  // scratch of one task of the CPU: (2, kSummedOutcomes)
  double* classes;   // scratch of one task: (2, K)
};

template <class T>
struct MvhgLogProbMergedBackwardArgs {
  MvhgCounts counts;
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

// Log-factorials above are not subtracted in a log-probability: they would lose more than 1e-10, and are no faster.
constexpr int64_t kLargestSummedFactorials = int64_t{1} << 16;

// Entries of the log-factorial table on the device: counts are not known to the host, so its size is fixed. 16 KB stay
// in the first cache.
constexpr int64_t kMergedTableSize = 2048;

// Rows in flight (`warps`) or threads, each with its own part of `classes`.
inline int64_t merged_rows_in_flight(int64_t rows) { return rows < 8192 ? rows : 8192; }

// Launchers over `rows` work items. `outcomes` and `width` are not used; `classes` holds
// (merged_rows_in_flight(rows), 2, K) doubles forward and (merged_rows_in_flight(rows), 3, K) backward.
int mvhg_sample_merged_cuda(const MvhgSampleMergedArgs<float>& args, int64_t rows, void* stream);
int mvhg_sample_merged_cuda(const MvhgSampleMergedArgs<double>& args, int64_t rows, void* stream);
int mvhg_sample_merged_backward_cuda(const MvhgSampleMergedBackwardArgs<float>& args, int64_t rows, void* stream);
int mvhg_sample_merged_backward_cuda(const MvhgSampleMergedBackwardArgs<double>& args, int64_t rows, void* stream);
int mvhg_log_prob_merged_cuda(const MvhgLogProbMergedArgs<float>& args, int64_t rows, void* stream);
int mvhg_log_prob_merged_cuda(const MvhgLogProbMergedArgs<double>& args, int64_t rows, void* stream);
int mvhg_log_prob_merged_backward_cuda(const MvhgLogProbMergedBackwardArgs<float>& args, int64_t rows, void* stream);
int mvhg_log_prob_merged_backward_cuda(const MvhgLogProbMergedBackwardArgs<double>& args, int64_t rows, void* stream);

}  // namespace drpm
