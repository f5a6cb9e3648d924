// Passes over the elements of a sized assignment (docs/math/sized_assignment.md): everything that touches n K numbers.
// The solvers that call them (relaxed.h, exact.h) see K x K numbers, and single elements near a boundary. Double inside
// for every dtype. A work item is a chunk of elements, whose sums the caller adds in order: results do not depend on
// the number of threads.
//
//   pass             what
//   scan             whether scores are finite, and their range
//   sums             D, subset sizes and couplings at given prices
//   write            y, its labels, and the sizes
//   nearest          best subset of every element at given prices, and how much better it is than the second
//   backward_sums    right side and couplings of the implicit gradient
//   backward_write   gradient by the scores
#pragma once

#include <cstdint>

#include "lanes/simd.h"

namespace drpm {

// Blocks of elements whose responsibilities are in scratch at a time, (classes, block) of them.
inline int64_t sized_block(int64_t classes) { return classes <= 64 ? 256 : 128; }
// Rows of couplings; what pads them is 0.
inline int64_t sized_padded(int64_t classes) { return (classes + 3) / 4 * 4; }
// Doubles that a task needs.
inline int64_t sized_scratch(int64_t classes) { return (sized_padded(classes) + 4) * sized_block(classes); }

template <class T>
struct SizedElements {
  const T* scores;         // (K, width); of the first n elements
  const T* weights;        // (n); null: all 1
  const int32_t* subsets;  // (classes) rows of `scores`: the subsets that may hold elements
  const double* prices;    // (classes)
  int64_t width, n, chunk, classes;
  double origin;  // what is taken off all scores: next to a large constant, prices would be lost in rounding
  double tau;
  double* scratch;  // of this task: sized_scratch(classes) doubles
};

template <class T>
struct SizedScanArgs {
  SizedElements<T> elements;
  double *lowest, *highest;  // (chunks) of the finite scores; +inf and -inf where there are none
  int32_t* found;            // (chunks) kSizedForbidden | kSizedInvalid
};
constexpr int32_t kSizedForbidden = 1;  // a score of -inf
constexpr int32_t kSizedInvalid = 2;    // NaN or +inf; or a weight that is not positive and finite

template <class T>
struct SizedSumsArgs {
  SizedElements<T> elements;
  double* value;      // (chunks) tau sum_i logsumexp((u_i - w_i p) / tau)
  double* sizes;      // (chunks, classes) N_k = sum_i w_i y_ik
  double* couplings;  // (chunks, padded, padded) sum_i w_i^2 y_ik y_il, its diagonal tiles whole; null: not wanted
};

template <class T>
struct SizedWriteArgs {
  SizedElements<T> elements;
  T* assignment;    // (K, width); rows of other subsets are not written
  int64_t* labels;  // (width) argmax of y
  double* sizes;    // (chunks, classes)
};

template <class T>
struct SizedNearestArgs {
  SizedElements<T> elements;  // tau is not used
  int32_t* labels;            // (n) argmax of u_ik / w_i - p_k, the first of equal ones
  double* gaps;               // (n) what is lost in the second best subset; +inf with one subset
  double* sizes;              // (chunks, classes)
};

template <class T>
struct SizedBackwardArgs {
  SizedElements<T> elements;
  const T* grad;              // (K, width)
  const double* multipliers;  // (classes); of backward_write
  double *right, *couplings;  // (chunks, classes) sum_i w_i v_i, and as in `sums`; of backward_sums
  T* grad_scores;             // (K, width); rows of other subsets are not written; of backward_write
};

// (D + L) x = r with the Laplacian L of couplings c and a diagonal D >= 0, by elimination that adds positive numbers
// only (Grassmann, Taksar and Heyman): weak couplings beside strong ones keep their relative accuracy.
struct SizedLaplacianArgs {
  double* couplings;  // (classes, stride) symmetric, its lower triangle is used and overwritten; diagonal ignored
  double* ground;     // (classes) D; overwritten
  double* solution;   // (classes) r in, x out
  double* pivots;     // (classes) out; 0: a part without ground, whose x_k was set to 0
  int64_t classes, stride;
  double reach;     // what couples too little to say is moved by so much at most; 0: it is not moved
  double rounding;  // nothing is moved for the sake of less than this
};

DRPM_DECLARE_KERNEL(sized_scan, SizedScanArgs<float>)
DRPM_DECLARE_KERNEL(sized_scan, SizedScanArgs<double>)
DRPM_DECLARE_KERNEL(sized_sums, SizedSumsArgs<float>)
DRPM_DECLARE_KERNEL(sized_sums, SizedSumsArgs<double>)
DRPM_DECLARE_KERNEL(sized_write, SizedWriteArgs<float>)
DRPM_DECLARE_KERNEL(sized_write, SizedWriteArgs<double>)
DRPM_DECLARE_KERNEL(sized_nearest, SizedNearestArgs<float>)
DRPM_DECLARE_KERNEL(sized_nearest, SizedNearestArgs<double>)
DRPM_DECLARE_KERNEL(sized_backward_sums, SizedBackwardArgs<float>)
DRPM_DECLARE_KERNEL(sized_backward_sums, SizedBackwardArgs<double>)
DRPM_DECLARE_KERNEL(sized_backward_write, SizedBackwardArgs<float>)
DRPM_DECLARE_KERNEL(sized_backward_write, SizedBackwardArgs<double>)
DRPM_DECLARE_KERNEL(sized_laplacian, SizedLaplacianArgs)

}  // namespace drpm
