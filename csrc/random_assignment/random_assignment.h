// Subsets filled in turn, each by its own row of scores and noise (docs/math/assignment.md): the draw, and its
// straight-through gradient. All arrays are row-major and contiguous; B rows, K classes, n elements.
#pragma once

#include "lanes/simd.h"
#include "noise/seeds.h"
#include "sort/sort.h"

namespace drpm {

// The noisy scores of a row: log_scores; with `noise` less their largest, plus the Gumbel variates of (class, element).
template <class T>
struct NoisyScores {
  const T* log_scores;  // (B, K, n)
  Seeds seeds;
  bool noise;
  int64_t n, classes;
};

template <class T>
struct RandomAssignmentArgs {
  NoisyScores<T> scores;
  const T* sizes;   // (B, K) whole numbers
  T* assignment;    // (B, K, n) one-hot; NaN in a row with a size or a score that is not finite, but for the last class
  int64_t* order;   // (B, n) the subsets in turn, each by decreasing noisy score of its own row, ties by index
  int64_t* labels;  // (B, n)
  // scratch of a task
  SortItem* items;       // (2 n)
  uint64_t* keys;        // (n) of the remaining elements
  uint64_t* candidates;  // (n)
  T* noise;              // (n and a tile)
  int32_t* elements;     // (n) taken by the subset
  int32_t* left;         // (n) elements that no subset has taken yet, by index
};

// Work items: rows.
DRPM_DECLARE_KERNELS(random_assignment_rows, RandomAssignmentArgs)

// The gradient of one row, a step after the other from the last to the first. In each the glue runs the backward of
// `partition` on what random_assignment_rank leaves: the best elements of those that remained, in order.
template <class T>
struct RandomAssignmentBackwardArgs {
  NoisyScores<T> scores;
  int64_t row;
  double tau;
  const T* sizes;         // (K)
  const T* grad;          // (K, n)
  const int64_t* labels;  // (n)
  T* grad_scores;         // (K, n)
  T* grad_sizes;          // (K)
  // scratch
  double* largest;      // (K) score of its row, NaN where one is not finite
  SortItem* items;      // (2 n)
  T* noisy;             // (n) scores of the step
  double* grad_rest;    // (n) gradient of rho_{k+1}, then of rho_k
  int32_t* element;     // (n) of each rank
  T* ranked;            // (n) its score
  int64_t* rank;        // (n) 0, 1, 2, ...
  T* grad_planes;       // (2, n) gradient of the step's planes, by rank
  T* grad_ranked;       // (n) gradient of `ranked`
  T* plane_sizes;       // (2)
  T* grad_plane_sizes;  // (2)
  int64_t* used;        // (1) ranks that the step's gradient can reach; 0: nothing remained
  bool* finite;         // (1)
};

DRPM_DECLARE_KERNELS(random_assignment_begin, RandomAssignmentBackwardArgs)   // any one item: before all steps
DRPM_DECLARE_KERNELS(random_assignment_rank, RandomAssignmentBackwardArgs)    // item: the step
DRPM_DECLARE_KERNELS(random_assignment_settle, RandomAssignmentBackwardArgs)  // item: the step, after its backward

// ---- CUDA ----
template <class T>
struct RandomAssignmentCudaArgs {
  NoisyScores<T> scores;
  int64_t rows;
  const T* sizes;   // (B, K) whole numbers
  int64_t* labels;  // (B, n)
  T* own;           // (B, n) noisy score of each element for its subset
  T* assignment;    // (B, K, n) as on the CPU
};

// A step of all rows: a partition of all n elements into two, in which those that are gone lie far below the others.
template <class T>
struct RandomAssignmentStepCudaArgs {
  NoisyScores<T> scores;
  int64_t rows, step;
  double tau;
  const T* sizes;         // (B, K)
  const T* grad;          // (B, K, n)
  const int64_t* labels;  // (B, n)
  T* grad_scores;         // (B, K, n)
  T* grad_sizes;          // (B, K)
  // scratch
  T* ranked;                  // (B, n) scores of the partition
  T* grad_planes;             // (B, 2, n) gradient of its planes
  T* plane_sizes;             // (B, 2)
  const T* grad_ranked;       // (B, n)
  const T* grad_plane_sizes;  // (B, 2)
  double* grad_rest;          // (B, n) gradient of rho_{k+1}, then of rho_k
  T* origin;                  // (B) what was taken off the scores of the step
  double* least;              // (B) smallest selected score
  T* invalid;                 // (B) 0, or NaN
};

#define DRPM_DECLARE_ASSIGNMENT(T)                                                               \
  int random_assignment_labels_cuda(const RandomAssignmentCudaArgs<T>& args, void* stream);      \
  int random_assignment_begin_cuda(const RandomAssignmentStepCudaArgs<T>& args, void* stream);   \
  int random_assignment_prepare_cuda(const RandomAssignmentStepCudaArgs<T>& args, void* stream); \
  int random_assignment_settle_cuda(const RandomAssignmentStepCudaArgs<T>& args, void* stream);
DRPM_DECLARE_ASSIGNMENT(float)
DRPM_DECLARE_ASSIGNMENT(double)
#undef DRPM_DECLARE_ASSIGNMENT

// value[row, i] = table[row, index[row, i]]
int gather_rows_cuda(const int64_t* table, const int64_t* index, int64_t rows, int64_t n, int64_t* value, void* stream);

}  // namespace drpm
