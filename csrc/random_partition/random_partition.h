// What a random partition needs besides its sizes, its order and its subsets: scores with noise on them, and rows of
// which only some elements count. All arrays are row-major and contiguous; B parameter rows, S samples, R = S B rows
// (row = sample * B + parameter row), n elements.
#pragma once

#include <cstdint>

#include "lanes/simd.h"
#include "noise/seeds.h"

namespace drpm {

// Between elements that do not count, in units of tau: bands end 52 below a row's peak at most (float64, n = 1e6).
constexpr double kSortSpacing = 64;

// How many elements of a parameter row count; null: all.
struct RowLengths {
  const int64_t* values;  // (B) or (1)
  int64_t stride;         // 0 where all rows share one
};

template <class T>
struct PerturbArgs {
  const T* scores;  // (B, n)
  Seeds seeds;      // without values there is no noise
  RowLengths lengths;
  double spacing;  // of the elements that do not count, below those that do
  int64_t batch, rows, n;
  T* perturbed;  // (R, n); with noise less the largest score of the row, next to which noise would be lost in rounding
};

template <class T>
struct MaskArgs {
  RowLengths lengths;
  int64_t batch, rows, planes, n;
  const T* from;    // (R, planes, n)
  T* to;            // the same with 0 where elements do not count; may be `from`
  int64_t* labels;  // (R, n) or null: -1 where elements do not count
};

// A work item is one row.
DRPM_DECLARE_KERNELS(perturb_rows, PerturbArgs)
DRPM_DECLARE_KERNELS(mask_rows, MaskArgs)

int perturb_rows_cuda(const PerturbArgs<float>& args, void* stream);
int perturb_rows_cuda(const PerturbArgs<double>& args, void* stream);
int mask_rows_cuda(const MaskArgs<float>& args, void* stream);
int mask_rows_cuda(const MaskArgs<double>& args, void* stream);

}  // namespace drpm
