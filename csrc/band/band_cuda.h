// The relaxed permutation P on a CUDA device, as sums over its band: P_ij = e^{-D_i(j)/tau} / Z_i in the sorted order
// (docs/math/relaxed_sort.md). P itself is never stored. All arrays are row-major, contiguous device memory: B rows of
// n positions in the sorted order (stable, largest first), Q planes (B, Q, n).
//
// Unlike the CPU loops, which share one frame between rows, one warp takes one row (or one column) of the band and
// sums the steps of D outward from the diagonal, 32 at a time: every step is >= 0, so nothing cancels. Results do not
// depend on timing: no atomics, sums in a fixed order.
#pragma once

#include <cstdint>

namespace drpm {

struct CudaBand {
  const double* s;  // (B, n) sorted scores
  int64_t rows, n;
  double tau;
};

// s[b, i] = scores[b, order[b, i]]
int band_gather_scores_cuda(const float* scores, const int64_t* order, int64_t rows, int64_t n, double* s,
                            void* stream);
int band_gather_scores_cuda(const double* scores, const int64_t* order, int64_t rows, int64_t n, double* s,
                            void* stream);

// Moves a plane-major array in the sorted order from or to one in the order of the elements:
// planes[b, q, j] <-> elements[b n Q + index item_stride + q plane_stride], index = order[b, j], or j without an order.
template <class T>
struct CudaPlaneMove {
  int64_t rows, n, planes;
  const int64_t* order;  // (B, n) or null
  int64_t item_stride, plane_stride;
  const T* from;
  T* to;
  const T* scores;  // (B, n) or null: where those of a row are not finite, its planes become NaN
};
int band_gather_planes_cuda(const CudaPlaneMove<float>& args, void* stream);
int band_gather_planes_cuda(const CudaPlaneMove<double>& args, void* stream);
int band_scatter_planes_cuda(const CudaPlaneMove<float>& args, void* stream);
int band_scatter_planes_cuda(const CudaPlaneMove<double>& args, void* stream);

// What the kernels below read and write; each names the members it uses.
template <class T>
struct CudaBandArgs {
  CudaBand band;
  int64_t planes;        // Q
  const T* scores;       // (B, n)
  const int64_t* order;  // (B, n)
  double* inverse_sum;   // (B, n) 1 / Z_i; NaN in a row whose scores are not finite, and so all that follows from it
  const T* left;         // (B, Q, n) A_q[i]
  const int64_t* label;  // (B, n) the one plane with A_q[i] = 1, where A is one-hot
  const T* right;        // (B, Q, n) R_q[j]
  T* product;            // (B, Q, n) N_q[i] = sum_j P_ij R_q[j]
  double* center;        // (B, n) c_i = sum_q A_q[i] (N_q[i] - R_q[i])
  T* sum;                // (B, Q, n) Y_q[j] = sum_i A_q[i] P_ij
  double* moments;       // (B, 2, n) C_j = sum_i Q_ij and M_j = sum_i (rank_j - i) Q_ij,
                         // Q_ij = P_ij (sum_q A_q[i] (R_q[j] - R_q[i]) - c_i)
  T* permutation;        // (B, n, n) P in the original order of columns
  const T* grad;         // (B, n, n) likewise
  T* grad_scores;        // (B, n) in the original order
};

#define DRPM_DECLARE_BAND_LAUNCHER(Name)                   \
  int Name(const CudaBandArgs<float>& args, void* stream); \
  int Name(const CudaBandArgs<double>& args, void* stream);

DRPM_DECLARE_BAND_LAUNCHER(band_row_sums_cuda)         // -> inverse_sum
DRPM_DECLARE_BAND_LAUNCHER(band_rows_cuda)             // right, inverse_sum -> product
DRPM_DECLARE_BAND_LAUNCHER(band_center_cuda)           // left, right -> inverse_sum, center
DRPM_DECLARE_BAND_LAUNCHER(band_columns_cuda)          // left, inverse_sum -> sum
DRPM_DECLARE_BAND_LAUNCHER(band_moments_cuda)          // left, right, center, inverse_sum -> moments
DRPM_DECLARE_BAND_LAUNCHER(band_label_center_cuda)     // label, right -> inverse_sum, center
DRPM_DECLARE_BAND_LAUNCHER(band_label_moments_cuda)    // label, right, center, inverse_sum -> moments
DRPM_DECLARE_BAND_LAUNCHER(band_dense_cuda)            // order -> permutation
DRPM_DECLARE_BAND_LAUNCHER(band_hard_cuda)             // scores, order -> permutation, exact
DRPM_DECLARE_BAND_LAUNCHER(band_dense_center_cuda)     // order, grad -> inverse_sum, center
DRPM_DECLARE_BAND_LAUNCHER(band_dense_moments_cuda)    // order, grad, inverse_sum, center -> moments
DRPM_DECLARE_BAND_LAUNCHER(band_scores_gradient_cuda)  // order, moments (its C is overwritten) -> grad_scores
#undef DRPM_DECLARE_BAND_LAUNCHER

}  // namespace drpm
