// Numerics of the tree (docs/math/k_subset.md, section 2), shared by both backends.
#pragma once

#include "mvhg/tables/size_tables.h"
#include "mvhg/tree/tree.h"
#include "noise/philox.h"

namespace drpm {
namespace DRPM_ISA {

// Values that the law of a total of `elements` Bernoulli variables keeps at most: what lies within kPlainCut of the
// largest. Its variance is at most a quarter of the elements, and at most the mean of all that are drawn.
DRPM_HD inline int64_t tree_stride(int64_t elements, int64_t drawn) {
  const double quarter = 0.25 * static_cast<double>(elements), all = static_cast<double>(drawn);
  const double variance = quarter < all ? quarter : all;
  const double width = 2 * farthest(variance, kPlainCut + peak_loss(variance)) + 4;
  const int64_t most = elements + 1;
  return width < static_cast<double>(most) ? static_cast<int64_t>(width) : most;
}

// `drawn`: a bound on min(k, n - k) over the rows that share the shape.
inline TreeShape tree_shape(int64_t n, int64_t drawn) {
  TreeShape shape{};
  shape.n = n;
  int64_t elements = kTreeLeaf, nodes = (n + kTreeLeaf - 1) / kTreeLeaf;
  for (;;) {
    const int level = shape.levels++;
    shape.nodes[level] = nodes;
    shape.first[level] = shape.all_nodes;
    shape.stride[level] = level == 0 ? kTreeLeaf + 1 : tree_stride(elements < n ? elements : n, drawn);
    shape.at[level] = shape.all_values;
    shape.all_nodes += nodes;
    shape.all_values += nodes * shape.stride[level];
    if (nodes == 1) return shape;
    nodes = (nodes + 1) / 2;
    elements *= 2;
  }
}

// The law of one node's total.
struct TreeLaw {
  int64_t low, size;
  const double* value;
};

DRPM_HD inline TreeLaw tree_law(const TreeShape& shape, const TreeTables& tables, int level, int64_t node) {
  const int64_t at = shape.first[level] + node;
  return {tables.low[at], tables.size[at], tables.values + shape.at[level] + node * shape.stride[level]};
}

// Left counts that both children know; whichever keeps both nearest to their windows where there is none.
DRPM_HD inline OutcomeWindow split_support(const TreeLaw& left, const TreeLaw& right, int64_t count) {
  return split_support(CountWindow{left.low, left.size}, CountWindow{right.low, right.size}, count);
}
DRPM_HD inline int64_t negligible_split(const TreeLaw& left, const TreeLaw& right, int64_t count) {
  return negligible_split(CountWindow{left.low, left.size}, CountWindow{right.low, right.size}, count);
}

// The uniform of a decision: the leaves' elements are level 0, 32 to a leaf.
DRPM_HD inline double tree_uniform(const NoiseRow& at, int level, int64_t element) {
  return uniform_at<double>(at, kStreamTree, static_cast<uint32_t>(level), static_cast<uint64_t>(element));
}

// Whether an element of odds p : q is taken, where r of `rest` elements (this one included) are to be; later(x) is the
// law of the total of the elements after it.                                                           (Eq. 7)
template <class Law>
DRPM_HD inline bool takes_element(double p, double q, int64_t r, int64_t rest, double u, const Law& later) {
  if (r <= 0 || r >= rest) return r > 0;
  const double take = p * later(r - 1), leave = q * later(r);
  return u * (take + leave) < take;
}

}  // namespace DRPM_ISA
}  // namespace drpm
