// A balanced binary tree over n independent Bernoulli variables, for draws of exactly k of them: each node keeps the
// law of its total on a window, a draw splits the count from the root down (docs/math/k_subset.md, section 2). O(n)
// memory.
//
// Level 0 are the leaves, of kTreeLeaf elements each; node i of level l + 1 has the children 2 i and 2 i + 1 of level l
// (the last may have one). A row passes through phases; a phase's items may be spread over threads in any way.
//
//   phase        items                      what
//   tilt_part    stretches of kTiltStretch  one stretch's part of the sums of the tilt's equation
//   leaves       leaves                     probabilities, and the laws of the leaves' totals
//   merge        nodes of a level > 0       law of the sum of the children's totals
//   split        nodes of a level > 0       the node's count, split between its children
//   leaf_draw    leaves                     the leaf's elements, one after the other
#pragma once

#include <cstdint>

#include "lanes/host_device.h"
#include "lanes/simd.h"
#include "noise/seeds.h"

namespace drpm {

constexpr int kTreeLeaf = 31;  // counts 0 ... 31: the lanes of a warp
constexpr int kTreeLevels = 32;
constexpr int64_t kTiltStretch = 4096;

// Where the nodes of each level stand in the arrays of a row.
struct TreeShape {
  int64_t n;
  int levels;
  int64_t nodes[kTreeLevels];   // of the level
  int64_t first[kTreeLevels];   // index of its first node in low and size
  int64_t stride[kTreeLevels];  // values that each of its nodes may have
  int64_t at[kTreeLevels];      // of its first node's values
  int64_t all_nodes, all_values;
};

// What a stretch of elements adds to the equation of the tilt, and what bounds the solution.
struct TiltPart {
  double small, variance;  // sum of p (a < 0) and -q (a >= 0); sum of p q
  double highest, lowest;  // of the finite log-weights
  int64_t whole, finite;   // elements with a >= 0; with a finite weight
  int64_t invalid;         // NaN or +inf

  void operator+=(const TiltPart& other) {
    small += other.small;
    variance += other.variance;
    highest = highest > other.highest ? highest : other.highest;
    lowest = lowest < other.lowest ? lowest : other.lowest;
    whole += other.whole;
    finite += other.finite;
    invalid += other.invalid;
  }
};

// Of one row.
struct TreeTables {
  int64_t *low, *size;  // (all_nodes) of each node's window
  double* values;       // (all_values) Pr[total = low + i], up to a factor
};

template <class T>
struct TreeArgs {
  TreeShape shape;
  const T* log_weights;  // (n) of one row
  double tilt;
  TreeTables tables;
  TiltPart* parts;  // (stretches)
  int level;        // of merge and split
  double* scratch;  // of one task, tree_scratch(shape), aligned to 64 bytes
  // drawing
  Seeds seeds;
  int64_t batch, parameters;  // parameter rows of the call, and which of them this is
  int64_t first_sample, samples;
  int32_t* counts;        // (samples, nodes of the level)
  int32_t* child_counts;  // (samples, nodes of the level below)
  T* mask;                // (all samples, B, n)
};

// The same on a device, all rows of a wave at once.
enum class TreeRow : int64_t { kDraw, kInvalid, kNone, kAll };  // kNone, kAll: nothing is left to chance

template <class T>
struct TreeCudaArgs {
  TreeShape shape;
  int64_t rows;          // of the wave, from `parameters` on
  const T* log_weights;  // (rows, n)
  const int64_t* k;      // (rows) or (1)
  int64_t k_stride;
  const int64_t* order;  // (rows, n) by decreasing weight; null: the draw is random
  double* tilt;          // (rows)
  TreeRow* kind;         // (rows)
  int64_t *low, *size;   // (rows, all_nodes)
  double* values;        // (rows, all_values)
  double* sums;          // (rows, row_sums) convolutions of one level before they are cut
  int64_t row_sums;      // tree_sums(shape)
  Seeds seeds;
  int64_t batch, parameters, first_sample, samples;
  int32_t *counts, *child_counts;  // (rows, samples, nodes of level 0) by turns
  T* mask;                         // (all samples, B, n)
};

#define DRPM_DECLARE_TREE_PHASE(Name)        \
  DRPM_DECLARE_KERNEL(Name, TreeArgs<float>) \
  DRPM_DECLARE_KERNEL(Name, TreeArgs<double>)

DRPM_DECLARE_TREE_PHASE(tree_tilt_part)
DRPM_DECLARE_TREE_PHASE(tree_leaves)
DRPM_DECLARE_TREE_PHASE(tree_merge)
DRPM_DECLARE_TREE_PHASE(tree_split)
DRPM_DECLARE_TREE_PHASE(tree_leaf_draw)

// Doubles of `scratch`: a law reversed, one between zeros, and their sum's; or the laws of the rests of as many leaves
// as the longest pack has lanes.
inline int64_t tree_scratch(const TreeShape& shape) {
  const int64_t stride = shape.stride[shape.levels - 1], merge = 6 * stride + 128;
  const int64_t leaves = 8 * (kTreeLeaf + 1) * (kTreeLeaf + 1);
  return merge > leaves ? merge : leaves;
}

// Doubles of `sums` that a row needs.
inline int64_t tree_sums(const TreeShape& shape) {
  int64_t most = 0;
  for (int level = 1; level < shape.levels; ++level) {
    const int64_t values = shape.nodes[level] * 2 * shape.stride[level - 1];
    most = most > values ? most : values;
  }
  return most;
}

// Tilts and laws; then draws of `samples` from `first_sample` on. Return the first CUDA error code.
int tree_build_cuda(const TreeCudaArgs<float>& args, void* stream);
int tree_build_cuda(const TreeCudaArgs<double>& args, void* stream);
int tree_draw_cuda(const TreeCudaArgs<float>& args, void* stream);
int tree_draw_cuda(const TreeCudaArgs<double>& args, void* stream);

}  // namespace drpm
