// The scratch of one task of the quadrature on the CPU.
#pragma once

#include "lanes/carver.h"

namespace drpm {
namespace DRPM_ISA {

constexpr int64_t kMarginalSubsets = 12;  // whose gradients are summed at a time

// One node of the quadrature: the elements' arrivals and the law of their number.
struct ArrivalNode {
  double *z, *p, *q, *weight;  // (n, padded) s_i t, 1 - e^{-z}, e^{-z}, z e^{-z} dy
  double* f;                   // Pr[r elements have arrived], lo <= r <= hi
  int64_t lo, hi;
  int64_t begin, end;  // whole packs of the elements on their way; the others make no difference
};

struct NodeScratch {
  ArrivalNode node;
  double *others, *adjoint, *back;  // packs of lanes by rank
  double* total;                    // sum of `back` over elements
  double* sums;                     // packs of lanes by rank, for kMarginalSubsets subsets
  int64_t* active;                  // (K) the subsets that matter
};

inline void take_node_scratch(Carver& c, int64_t n, int64_t subsets, NodeScratch* s) {
  constexpr int64_t kWidest = 8;  // doubles of the widest pack
  const int64_t padded = n + 16;
  s->node.z = c.take<double>(padded);
  s->node.p = c.take<double>(padded);
  s->node.q = c.take<double>(padded);
  s->node.weight = c.take<double>(padded);
  c.take<double>(4);  // spare entries below rank 0
  s->node.f = c.take<double>(padded);
  s->total = c.take<double>(padded);
  s->others = c.take<double>(kWidest * padded);
  s->adjoint = c.take<double>(kWidest * padded);
  s->back = c.take<double>(kWidest * padded);
  s->sums = c.take<double>(kWidest * kMarginalSubsets * padded);
  s->active = c.take<int64_t>(subsets);
}

inline NodeScratch node_scratch(double* block, int64_t n, int64_t subsets) {
  Carver c(block);
  NodeScratch s{};
  take_node_scratch(c, n, subsets, &s);
  return s;
}

inline int64_t node_scratch_doubles(int64_t n, int64_t subsets) {
  Carver measure(nullptr);
  NodeScratch s;
  take_node_scratch(measure, n, subsets, &s);
  return measure.size() / static_cast<int64_t>(sizeof(double));
}

}  // namespace DRPM_ISA
}  // namespace drpm
