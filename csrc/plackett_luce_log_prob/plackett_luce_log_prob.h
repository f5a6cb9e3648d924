// Log-probability of an order under Plackett-Luce, with its gradient.
// All arrays are row-major and contiguous; B rows of n elements.
#pragma once

#include <cstdint>

#include "lanes/simd.h"

namespace drpm {

template <class T>
struct PlackettLuceArgs {
  const T* log_scores;     // (B, n)
  const int64_t* order;    // (B, n) order[i] = index of the element at rank i; null: the scores are in rank order
  T* log_prob;             // (B); NaN where a row of `order` is not a permutation, or a score not finite
  T* grad_log_scores;      // (B, n) d log_prob / d log_scores, laid out as log_scores; null: not wanted
  double* log_suffix_sum;  // (n) scratch of this task: d_i of Eq. 2
  double* ranked;          // (n) scratch of this task: the log-scores in rank order
  int64_t n;
};

DRPM_DECLARE_KERNEL(plackett_luce_rows, PlackettLuceArgs<float>)
DRPM_DECLARE_KERNEL(plackett_luce_rows, PlackettLuceArgs<double>)

// Blocks of the grid; each has its own scratch.
inline int64_t plackett_luce_cuda_blocks(int64_t rows) { return rows < 1024 ? rows : 1024; }

// Launchers over `rows` work items. `log_suffix_sum` holds plackett_luce_cuda_blocks(rows) * n doubles; `ranked` is
// not used.
int plackett_luce_cuda(const PlackettLuceArgs<float>& args, int64_t rows, void* stream);
int plackett_luce_cuda(const PlackettLuceArgs<double>& args, int64_t rows, void* stream);

}  // namespace drpm
