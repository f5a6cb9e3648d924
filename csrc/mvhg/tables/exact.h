// MVHG sizes by their exact conditionals: the chain of draws, and its reverse mode. Shapes as in tables.h.
#pragma once

#include "mvhg/tables/tables.h"

namespace drpm {

// Samples whose cotangents go through the tables together; fixed: results do not depend on the number of threads.
constexpr int64_t kSamplesPerGroup = 64;

// A work item is b * S + s: neighbours share the tables of parameter row b.
template <class T>
struct MvhgSampleExactArgs {
  MvhgExactArgs<T> common;
  T* sizes;            // (R, K); a row of NaN where counts are invalid or weights not finite
  double* statistics;  // (R, K, 3) or null: Var(x) / tau, Cov(x, d) / tau, the hard size
};

// A work item is b * C + c, where chunk c holds samples c G .. (c + 1) G - 1.
template <class T>
struct MvhgSampleExactBackwardArgs {
  MvhgExactArgs<T> common;
  const T* grad_sizes;       // (R, K)
  const double* statistics;  // (R, K, 3)
  double* grad_log_omega;    // (B, C, K)
  int64_t chunks, group;     // C, G
};

DRPM_DECLARE_KERNEL(mvhg_sample_exact_rows, MvhgSampleExactArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_sample_exact_rows, MvhgSampleExactArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_sample_exact_backward_groups, MvhgSampleExactBackwardArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_sample_exact_backward_groups, MvhgSampleExactBackwardArgs<double>)

// On the device.
template <class T>
struct MvhgSampleExactCuda {
  MvhgSampleExactArgs<T> args;
  ExactLayout layout;
  char* scratch;          // block_bytes for each block
  int64_t chunks, group;  // work item b * chunks + c: samples c group .. (c + 1) group - 1 of parameter row b
  int64_t largest_n;      // rows that draw more are NaN
};

template <class T>
struct MvhgSampleExactBackwardCuda {
  MvhgSampleExactBackwardArgs<T> args;
  ExactLayout layout;  // extra: (group, K) remainders and (group, K) cotangents
  char* scratch;
  int64_t largest_n;
};

int mvhg_sample_exact_cuda(const MvhgSampleExactCuda<float>& call, void* stream);
int mvhg_sample_exact_cuda(const MvhgSampleExactCuda<double>& call, void* stream);
int mvhg_sample_exact_backward_cuda(const MvhgSampleExactBackwardCuda<float>& call, void* stream);
int mvhg_sample_exact_backward_cuda(const MvhgSampleExactBackwardCuda<double>& call, void* stream);

}  // namespace drpm
