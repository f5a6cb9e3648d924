// One factor on the CPU: its points with their scratch, and the quadrature over them.
#pragma once

#include "lanes/carver.h"
#include "partition_log_prob/partition_log_prob_math.h"

namespace drpm {
namespace DRPM_ISA {

// The points of one factor and the scratch to evaluate them.
template <class T>
struct FactorPoints {
  int64_t count, lanes;  // points; padded to whole lanes of any type
  double* a;
  T *scale, *weight, *inverse, *g, *ratio, *total;
  float *search_scale, *search_weight, *search_inverse;
  bool weighted;
  double elements, linear, linear_sum;

  bool few() const { return count <= kFactorProduct && !weighted; }
};

// The scratch of `count` points; measured for the widest lanes, as the instruction set is chosen at run time.
template <class T>
void take_points(Carver& c, int64_t count, int nodes, FactorPoints<T>* points) {
  constexpr int64_t kWidest = 64;  // bytes of the widest pack
  const int64_t lanes = (count + kWidest / 4 - 1) / (kWidest / 4) * (kWidest / 4);
  points->a = c.take<double>(lanes);
  points->ratio = c.take<T>(kFactorNodesMax * (kWidest / sizeof(T)));
  points->total = c.take<T>(kFactorNodesMax * (kWidest / sizeof(T)));
  points->scale = c.take<T>(lanes);
  points->weight = c.take<T>(lanes);
  points->inverse = c.take<T>(lanes);
  points->g = c.take<T>(lanes * nodes);
  points->search_scale = c.take<float>(lanes);
  points->search_weight = c.take<float>(lanes);
  points->search_inverse = c.take<float>(lanes);
}

// Doubles of PartitionLogProbArgs::factor_scratch for rows of n elements.
inline int64_t factor_scratch_doubles(int64_t n, int nodes) {
  Carver measure(nullptr);
  FactorPoints<double> points;
  take_points(measure, n < kDirectMax ? n : kDirectMax, nodes, &points);
  return measure.size() / static_cast<int64_t>(sizeof(double));
}

template <class T>
FactorPoints<T> factor_points(double* scratch, int64_t count, int nodes, bool weighted) {
  FactorPoints<T> points{};
  points.count = count;
  points.lanes = (count + kVectorBytes / 4 - 1) / (kVectorBytes / 4) * (kVectorBytes / 4);
  points.weighted = weighted;
  Carver c(scratch);
  take_points(c, count, nodes, &points);
  return points;
}

// a and the weights are set; the rest follows.
template <class T>
void prepare(FactorPoints<T>& points) {
  constexpr int kWidth = Lane<VecD>::kWidth;
  for (int64_t i = points.count; i < points.lanes; ++i) {
    points.a[i] = 80;
    points.weight[i] = 0;
  }
  double scale[kWidth];
  for (int64_t i = 0; i < points.lanes; i += kWidth) {
    store<VecD>(scale, factor_scale<VecD>(load<VecD>(points.a + i)));
    for (int lane = 0; lane < kWidth; ++lane) {
      points.scale[i + lane] = static_cast<T>(scale[lane]);
      points.search_scale[i + lane] = static_cast<float>(scale[lane]);
    }
  }
  if (points.weighted)
    for (int64_t i = 0; i < points.lanes; ++i) points.search_weight[i] = static_cast<float>(points.weight[i]);
}

// sum_i w_i log(1 - exp(-e^{a_i + y})) in double
template <class T>
double log_complements(const FactorPoints<T>& points, double y) {
  constexpr int kWidth = Lane<VecD>::kWidth;
  VecD total = splat<VecD>(0);
  for (int64_t i = 0; i < points.lanes; i += kWidth) {
    VecD term = factor_log_complement<VecD>(load<VecD>(points.a + i) + y);
    if (points.weighted) {
      double weight[kWidth];
      for (int lane = 0; lane < kWidth; ++lane) weight[lane] = points.weight[i + lane];
      term = term * load<VecD>(weight);
    }
    total = total + term;
  }
  return sum_lanes<VecD>(total) + points.linear * y + points.linear_sum;
}

// log I by Gauss-Legendre quadrature on the panel around the mode; the nodes keep the normalised weights, and
// points.g the derivatives at every point and node.                                                   (Eq. 6 to 10)
template <class T>
double integrate(FactorPoints<T>& points, const QuadratureRule& rule, bool with_gradient, FactorNodes* nodes) {
  using V = Pack<T>;
  const FactorSearch search{points.search_scale,   points.weighted ? points.search_weight : nullptr,
                            points.search_inverse, points.lanes,
                            points.elements,       points.linear};
  const FactorMode mode = factor_mode(points.elements, [&](double y) { return factor_sums<VecF>(search, y); });
  factor_set_inverse<VecF>(search, mode.y);
  const auto drop_at = [&](double y) { return factor_drop<VecF>(search, mode.y, y); };
  const double right = factor_edge(mode, rule.drop, 1, drop_at);
  const double left = factor_edge(mode, rule.drop, -1, drop_at);

  const double scale_mode = static_cast<T>(exp_lane<double>(mode.y));
  const double y_mode = log_lane<double>(scale_mode);
  const double centre = mode.y + 0.5 * (right - left), half = 0.5 * (right + left);
  factor_set_nodes<VecD, T>(centre, half, scale_mode, points.linear, rule.node, rule.node_weight, 0, rule.nodes, nodes);
  constexpr int kWidth = Lane<V>::kWidth;
  for (int64_t i = 0; i < points.lanes; i += kWidth) {
    const V z = cut_z<V>(load<V>(points.scale + i) * static_cast<T>(scale_mode));
    store<V>(points.inverse + i, T(1) / decay<V>(z).complement);
  }
  T* g = with_gradient ? points.g : nullptr;
  if (points.few()) {
    factor_evaluate_few<V>(points.scale, points.inverse, points.count, nodes, rule.nodes, g);
  } else {
    factor_evaluate<V>(points.scale, points.weighted ? points.weight : nullptr, points.inverse, points.lanes, nodes,
                       rule.nodes, g, points.ratio, points.total);
  }
  return y_mode - scale_mode + log_complements(points, y_mode) + factor_normalise<VecD>(nodes, rule.nodes);
}

// sum_j w_j g(z_ij) for the lanes of points from i on.                                                      (Eq. 11)
template <class T>
Pack<T> derivative(const FactorPoints<T>& points, const T* node_weight, int nodes, int64_t i) {
  using V = Pack<T>;
  const T* g = points.g + i * nodes;
  V sum = splat<V>(0);
  for (int j = 0; j < nodes; ++j) sum = fmadd<V>(load<V>(g + j * Lane<V>::kWidth), splat<V>(node_weight[j]), sum);
  return sum;
}

}  // namespace DRPM_ISA
}  // namespace drpm
