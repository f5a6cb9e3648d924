// Exact quantities of the MVHG from contour nodes: normaliser, probability, moments, divergence. Time and memory do
// not depend on the counts. All arrays are row-major and contiguous; B rows, K classes.
#pragma once

#include "lanes/carver.h"
#include "lanes/simd.h"
#include "mvhg/law.h"

namespace drpm {

template <class T>
struct MvhgNormalizerArgs {
  MvhgCounts counts;
  const T* log_omega;  // (B, K)
  T* log_normalizer;   // (B); NaN where counts are invalid, or a weight not a number or infinite
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

struct ContourArrays {
  double *p, *q;           // (K)
  double *versine, *sine;  // of theta: cos theta - 1, sin theta
  double *real, *imag;     // c_j e^psi / sum of the real parts: the complex weights of < >
};

inline DRPM_HD ContourArrays place_contour_arrays(Carver* carver, int64_t classes) {
  ContourArrays out{};
  out.p = carver->take<double>(classes + 8);
  out.q = carver->take<double>(classes + 8);
  out.versine = carver->take<double>(kContourNodes);
  out.sine = carver->take<double>(kContourNodes);
  out.real = carver->take<double>(kContourNodes);
  out.imag = carver->take<double>(kContourNodes);
  return out;
}

// Doubles that one row needs.
inline DRPM_HD int64_t contour_scratch(int64_t classes) {
  Carver measure(nullptr);
  place_contour_arrays(&measure, classes);
  return measure.size() / static_cast<int64_t>(sizeof(double));
}

DRPM_DECLARE_KERNEL(mvhg_contour_rows, MvhgNormalizerArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_contour_rows, MvhgNormalizerArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_contour_rows, MvhgLogProbArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_contour_rows, MvhgLogProbArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_contour_rows, MvhgCumulantArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_contour_rows, MvhgCumulantArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_contour_rows, MvhgKlArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_contour_rows, MvhgKlArgs<double>)

// Rows in flight, one warp each: 32 warps on each of 132 multiprocessors; the rest comes by stride.
inline int64_t contour_rows_in_flight(int64_t rows) { return rows < 4224 ? rows : 4224; }

// Launchers over `rows` work items; `args.scratch` holds `doubles` doubles for each row in flight.
#define DRPM_DECLARE_CONTOUR(Args)                                                             \
  int mvhg_contour_cuda(const Args<float>& args, int64_t rows, int64_t doubles, void* stream); \
  int mvhg_contour_cuda(const Args<double>& args, int64_t rows, int64_t doubles, void* stream);
DRPM_DECLARE_CONTOUR(MvhgNormalizerArgs)
DRPM_DECLARE_CONTOUR(MvhgLogProbArgs)
DRPM_DECLARE_CONTOUR(MvhgCumulantArgs)
DRPM_DECLARE_CONTOUR(MvhgKlArgs)
#undef DRPM_DECLARE_CONTOUR

}  // namespace drpm
