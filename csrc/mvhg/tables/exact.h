// MVHG sizes by their exact conditionals: suffix tables, the chain of draws, and its reverse mode.
// All arrays are row-major and contiguous; B parameter rows, S samples, R = S B rows (row = sample * B + parameter
// row), K classes.
#pragma once

#include "lanes/simd.h"
#include "noise/seeds.h"
#include "special/log_factorial.h"

namespace drpm {

// Memory of one task; the tables of one parameter row live in it at a time.
struct ExactScratch {
  int64_t* windows;   // (8, K)
  double* classes;    // (2, K)
  double *f, *log_f;  // f_capacity each: outcomes of single classes
  double *b, *log_b;  // b_capacity each: totals of the later classes
  double* h;          // b_capacity; cotangents of log b, backward only
  double* work;       // 4 (widest + kTablePadding)
  int64_t widest;     // values that a table may hold
};

constexpr int64_t kTablePadding = 64;  // whole tiles beyond the end of a table

// What the tables are for decides how far they reach.
enum class TableUse { kSample, kRelaxedSample, kPlain, kEntropy };

template <class T>
struct MvhgExactArgs {
  const int64_t* m;      // (B, K) or (1, K)
  const int64_t* n;      // (B) or (1)
  const int64_t* order;  // (R, K), (1, K) or null: natural class order
  int64_t batch, samples, classes;
  int64_t m_stride, n_stride, order_stride;  // elements from row to row; 0 where shared
  const T* log_omega;                        // (B, K)
  Seeds seeds;
  double tau;
  bool hard, noise;
  TableUse use;
  LogFactorialTable log_factorials;
  ExactScratch scratch;
  T* outcomes;  // scratch of one task: (2, outcome_width)
  int64_t outcome_width;
};

// Bounds over parameter rows. A work item is a parameter row.
struct TableSizes {
  int64_t max_m, max_n, max_total;
  int64_t outcomes;  // sum over the classes of what one of them may draw, at most
  int64_t widest;    // values of one table, at most
};

template <class T>
struct MvhgTableSizesArgs {
  MvhgExactArgs<T> common;
  int64_t largest_n;  // rows that draw more have no tables
  TableSizes* sizes;
};

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

// Sizes without a relaxation. A work item is b * S + s.
template <class T>
struct MvhgDrawArgs {
  MvhgExactArgs<T> common;
  T* sizes;               // (R, K)
  double* contours;       // scratch of one task: contour_scratch(K)
  int64_t largest_table;  // up to this n by inversion of the tables, above by rejection with contour probabilities
};

// Entropy with its gradient, or the product of its Hessian with v. A work item is a parameter row.
template <class T>
struct MvhgEntropyArgs {
  MvhgExactArgs<T> common;  // scratch: f and log_f of one class
  const T* v;               // (B, K) or null
  T* entropy;               // (B), or null with v
  T* by_class;              // (B, K): gradient or product
  double* contours;         // scratch of one task: contour_scratch(K) + 2 K
};

DRPM_DECLARE_KERNEL(mvhg_table_sizes, MvhgTableSizesArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_table_sizes, MvhgTableSizesArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_draw_rows, MvhgDrawArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_draw_rows, MvhgDrawArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_entropy_rows, MvhgEntropyArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_entropy_rows, MvhgEntropyArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_sample_exact_rows, MvhgSampleExactArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_sample_exact_rows, MvhgSampleExactArgs<double>)
DRPM_DECLARE_KERNEL(mvhg_sample_exact_backward_groups, MvhgSampleExactBackwardArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_sample_exact_backward_groups, MvhgSampleExactBackwardArgs<double>)

}  // namespace drpm
