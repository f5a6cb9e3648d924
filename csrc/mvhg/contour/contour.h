// Exact quantities of the MVHG from contour nodes: normaliser, probability, moments, divergence. Time and memory do
// not depend on the counts. All arrays are row-major and contiguous; B rows, K classes.
#pragma once

#include "lanes/host_device.h"
#include "lanes/simd.h"

namespace drpm {

struct MvhgCounts {
  const int64_t* m;  // (B, K) or (1, K)
  const int64_t* n;  // (B) or (1)
  int64_t classes;
  int64_t m_stride, n_stride;  // elements from row to row; 0 where shared
};

template <class T>
struct MvhgNormalizerArgs {
  MvhgCounts counts;
  const T* log_omega;  // (B, K)
  T* log_normalizer;   // (B); NaN where counts are invalid or weights not finite
  T* mean;             // (B, K) or null
  double* scratch;     // of one task: contour_scratch(K)
};

template <class T>
struct MvhgLogProbArgs {
  MvhgCounts counts;
  const T* sizes;      // (B, K)
  const T* log_omega;  // (B, K)
  T* log_prob;         // (B); -inf outside the support, NaN where counts are invalid
  T* mean;             // (B, K) or null
  double* scratch;
};

// Cov v, or the third or fourth cumulant contracted with as many directions as are given: kappa(., u, v, w).
template <class T>
struct MvhgCumulantArgs {
  MvhgCounts counts;
  const T* log_omega;  // (B, K)
  const T* u;          // (B, K)
  const T* v;          // (B, K), or null where the covariance is asked for
  const T* w;          // (B, K), or null where the third cumulant is
  T* out;              // (B, K)
  double* scratch;
};

template <class T>
struct MvhgKlArgs {
  MvhgCounts counts;
  const T* log_omega_q;  // (B, K)
  const T* log_omega_p;  // (B, K)
  T* kl;                 // (B)
  T* mean_q;             // (B, K)
  T* mean_p;             // (B, K)
  double* scratch;       // twice contour_scratch(K)
};

constexpr int64_t kContourNodes = 48;  // at most 34 are ever needed; padded to whole packs
// Doubles that one row needs: K probabilities and complements, four arrays over the nodes.
inline DRPM_HD int64_t contour_scratch(int64_t classes) { return 2 * (classes + 8) + 4 * kContourNodes; }

DRPM_DECLARE_KERNEL(mvhg_normalizer_rows, MvhgNormalizerArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_normalizer_rows, MvhgNormalizerArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_log_prob_rows, MvhgLogProbArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_log_prob_rows, MvhgLogProbArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_cumulant_rows, MvhgCumulantArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_cumulant_rows, MvhgCumulantArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_kl_rows, MvhgKlArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_kl_rows, MvhgKlArgs<double>)

}  // namespace drpm
