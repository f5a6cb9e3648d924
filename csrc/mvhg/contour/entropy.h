// Entropy of the MVHG with its gradient, or the product of its Hessian with v. All arrays are row-major and contiguous;
// B rows, K classes.
#pragma once

#include "mvhg/contour/contour.h"
#include "mvhg/tables/tables.h"

namespace drpm {

// A work item is a row.
template <class T>
struct MvhgEntropyArgs {
  MvhgCounts counts;
  const T* log_omega;  // (B, K)
  const T* v;          // (B, K) or null
  T* entropy;          // (B), or null with v
  T* by_class;         // (B, K): gradient or product
  LogFactorialTable log_factorials;
  double* contours;  // scratch of one task: entropy_scratch(K)
  double *f, *phi;   // scratch of one task of the CPU: kEntropyOutcomes of one class
};

constexpr int64_t kEntropyOutcomes = 256;     // whole packs beyond those of any stride
constexpr int64_t kEntropyFactorials = 1024;  // of the table: differences beyond lose more than 1e-12

inline DRPM_HD int64_t entropy_scratch(int64_t classes) { return contour_scratch(classes) + 2 * classes; }

DRPM_DECLARE_KERNEL(mvhg_entropy_rows, MvhgEntropyArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_entropy_rows, MvhgEntropyArgs<double>)

// On the device: a warp a row, `contours` for each row in flight.
inline int64_t entropy_rows_in_flight(int64_t rows) { return rows < 2112 ? rows : 2112; }
int mvhg_entropy_cuda(const MvhgEntropyArgs<float>& args, void* stream);
int mvhg_entropy_cuda(const MvhgEntropyArgs<double>& args, void* stream);

}  // namespace drpm
