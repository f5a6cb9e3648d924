// Numerics of one factor of the exact partition likelihood (docs/math/partition_log_prob.md).
//
//   I = int exp(h(y)) dy,  h(y) = y - e^y + sum_i w_i log(1 - exp(-z_i)),  z_i = A_i e^y,  A_i = s_i / Z        (Eq. 4)
//
// over weighted points: the elements of the subset (all w = 1), or Chebyshev points that stand for many of them.
#pragma once

#include "partition_log_prob/partition_log_prob.h"
#include "special/decay.h"
#include "special/log_add.h"

namespace drpm {
namespace DRPM_ISA {

// Terms of a product of ratios before its logarithm is taken: it stays within e^{+-60}, see Eq. 9.
constexpr int kFactorProduct = 16;

// Points in float, for the search of the panel: 2 % of the peak's width are enough there. `count` is padded to whole
// lanes with points of scale kLargestZ, which contribute nothing.
struct FactorSearch {
  const float* scale;   // (count) A_i
  const float* weight;  // (count) w_i; null: all 1
  float* inverse;       // (count) 1 / (1 - exp(-z_i)) at the mode
  int64_t count;
  double elements;  // sum of w_i and of `linear`
  double linear;    // elements of z so small that log(1 - exp(-z)) = log z; they are not among the points
};

struct FactorMode {
  double y;
  double curvature;  // -h''(y)
};

struct FactorSums {
  double g;      // sum_i w_i g(z_i), g(z) = z / (e^z - 1)
  double slope;  // sum_i w_i z_i g'(z_i) = sum_i w_i g(z_i) (1 - z_i - g(z_i))
};

template <class V>
DRPM_HD inline FactorSums factor_sums(const FactorSearch& points, double y) {
  const float scale = static_cast<float>(exp_lane<double>(y));
  V total = splat<V>(0), slope = splat<V>(0);
  for (int64_t i = 0; i < points.count; i += Lane<V>::kWidth) {
    const V z = cut_z<V>(load<V>(points.scale + i) * scale);
    const Decay<V> d = decay<V>(z);
    V g = decay_slope<V>(z, d);
    const V change = decay_curvature<V>(z, g);
    if (points.weight != nullptr) g = g * load<V>(points.weight + i);
    total = total + g;
    slope = fmadd<V>(g, change, slope);
  }
  return {sum_lanes<V>(total) + points.linear, sum_lanes<V>(slope)};
}

// A_i = e^{a_i}. The clamps change no g and no ratio: see section 3 of the document.
template <class V>
DRPM_HD inline V factor_scale(V a) {
  return exp_lane<V>(max_lane<V>(min_lane<V>(a, splat<V>(80)), splat<V>(-60)));
}

// log(1 - e^{-z}) at z = e^a in double, for any a.
template <class V>
DRPM_HD inline V factor_log_complement(V a) {
  return log_complement<V>(a, exp_lane<V>(min_lane<V>(a, splat<V>(80))));
}

// Root of y - log(1 + sum g) on [0, log(1 + elements)]: where h' = 0. Bracketed Newton.                      (Eq. 6)
// `sums_at(y)` is factor_sums() over all points.
template <class Sums>
DRPM_HD inline FactorMode factor_mode(double elements, const Sums& sums_at) {
  double low = 0, high = log1p_lane<double>(elements), y = 0.5 * high, last = high, curvature = 1;
  for (int step = 0; step < 80; ++step) {
    const FactorSums sums = sums_at(y);
    const double one_and_g = 1 + (sums.g > 0 ? sums.g : 0);
    const double f = y - log_lane<double>(one_and_g);
    (f > 0 ? high : low) = y;
    const double change = -f / (1 - sums.slope / one_and_g);
    double next = y + change;
    if (!(next > low && next < high) || abs_lane<double>(change) > 0.5 * last) next = 0.5 * (low + high);
    last = abs_lane<double>(next - y);
    curvature = exp_lane<double>(y) - sums.slope;
    y = next;
    if (last * last * curvature < 4e-4 || high - low < 1e-7) break;
  }
  return {y, curvature > 1e-3 ? curvature : 1e-3};
}

template <class V>
DRPM_HD inline void factor_set_inverse(const FactorSearch& points, double y) {
  const float scale = static_cast<float>(exp_lane<double>(y));
  for (int64_t i = 0; i < points.count; i += Lane<V>::kWidth)
    store<V>(points.inverse + i, 1.0f / decay<V>(cut_z<V>(load<V>(points.scale + i) * scale)).complement);
}

// h(mode) - h(y), from the sum of log(1 - e^{-z_i}) at y less that at the mode.                              (Eq. 7)
DRPM_HD inline double factor_drop(double mode, double y, double linear, double log_ratios) {
  const double away = y - mode;
  return exp_lane<double>(mode) * expm1_lane<double>(away) - away * (1 + linear) - log_ratios;
}

// The same after factor_set_inverse(points, mode).
template <class V>
DRPM_HD inline double factor_drop(const FactorSearch& points, double mode, double y) {
  constexpr int kWidth = Lane<V>::kWidth;
  const float scale = static_cast<float>(exp_lane<double>(y));
  V total = splat<V>(0);
  if (points.weight != nullptr) {
    for (int64_t i = 0; i < points.count; i += kWidth) {
      const V u = decay<V>(cut_z<V>(load<V>(points.scale + i) * scale)).complement;
      total = fmadd<V>(load<V>(points.weight + i), log_lane<V>(u * load<V>(points.inverse + i)), total);
    }
  } else {
    V product = splat<V>(1);
    int terms = 0;
    for (int64_t i = 0; i < points.count; i += kWidth) {
      const V u = decay<V>(cut_z<V>(load<V>(points.scale + i) * scale)).complement;
      product = product * (u * load<V>(points.inverse + i));
      if (++terms == kFactorProduct) {
        total = total + log_lane<V>(product);
        product = splat<V>(1);
        terms = 0;
      }
    }
    total = total + log_lane<V>(product);
  }
  return factor_drop(mode, y, points.linear, sum_lanes<V>(total));
}

// Distance from the mode, on one side (+1 or -1), at which h has dropped by T within 7 %.                    (Eq. 8)
// `drop_at(y)` is factor_drop() over all points.
template <class Drop>
DRPM_HD inline double factor_edge(const FactorMode& mode, double drop, int side, const Drop& drop_at) {
  double distance = __builtin_sqrt(2 * drop / mode.curvature);
  if (side > 0) {  // the drop of y - e^y alone bounds it
    const double t = (drop + 1) * exp_lane<double>(-mode.y);
    const double bound = log1p_lane<double>(t + __builtin_sqrt(2 * t));
    distance = distance < bound ? distance : bound;
  } else if (distance > drop) {
    distance = drop;
  }
  double low = 0, high = -1;
  for (int step = 0; step < 40; ++step) {
    const double got = drop_at(mode.y + side * distance);
    if (abs_lane<double>(got - drop) < 0.07 * drop) break;
    (got > drop ? high : low) = distance;
    double next = 2 * distance;
    if (got > 0) {
      const double power = got > drop ? 0.6 : 0.7;
      next = distance * exp_lane<double>(power * log_lane<double>(drop / got));
    }
    if (high > 0 ? !(next > low && next < high) : next <= low) next = high > 0 ? 0.5 * (low + high) : 2 * distance;
    distance = next;
  }
  return distance;
}

// Gauss-Legendre nodes on the panel; their number is a multiple of 16, whole lanes of any type.
struct FactorNodes {
  double scale[kFactorNodesMax];  // Y_j = e^{y_j}, exactly a T: then the points see the same y_j as everything else
  double h[kFactorNodesMax];      // (y_j - y_m) (1 + linear) - (Y_j - Y_m); then h_j - h_m; then the normalised weight
  double measure[kFactorNodesMax];  // quadrature weight
};

// Nodes begin ... end - 1 of a panel from `centre - half` to `centre + half`; `mode` = e^{y_m}, exactly a T. The
// rounding to T has a loop of its own: within a pack's few lanes GCC 12 drops it at -O3.
template <class V, class T>
DRPM_HD inline void factor_set_nodes(double centre, double half, double mode, double linear, const double* legendre,
                                     const double* legendre_weight, int begin, int end, FactorNodes* nodes) {
  constexpr int kWidth = Lane<V>::kWidth;
  for (int j = begin; j < end; j += kWidth)
    store<V>(nodes->scale + j, exp_lane<V>(centre + half * load<V>(legendre + j)));
  for (int j = begin; j < end; ++j) nodes->scale[j] = static_cast<double>(static_cast<T>(nodes->scale[j]));
  for (int j = begin; j < end; j += kWidth) {
    const V scale = load<V>(nodes->scale + j);
    store<V>(nodes->measure + j, half * load<V>(legendre_weight + j));
    store<V>(nodes->h + j, log_lane<V>(scale / mode) * (1 + linear) - (scale - mode));
  }
}

// The value of the quadrature from the nodes' h: log int exp(h - h_m), and the normalised weights in `h`.   (Eq. 10)
template <class V>
DRPM_HD inline double factor_normalise(FactorNodes* nodes, int count) {
  constexpr int kWidth = Lane<V>::kWidth;
  V highest = load<V>(nodes->h);
  for (int j = kWidth; j < count; j += kWidth) highest = max_lane<V>(highest, load<V>(nodes->h + j));
  const double largest = max_over_lanes<V>(highest);
  V sum = splat<V>(0);
  for (int j = 0; j < count; j += kWidth) {
    const V value = load<V>(nodes->measure + j) * exp_lane<V>(load<V>(nodes->h + j) - largest);
    store<V>(nodes->h + j, value);
    sum = sum + value;
  }
  const double total = sum_lanes<V>(sum);
  for (int j = 0; j < count; ++j) nodes->h[j] /= total;
  return largest + log_lane<double>(total);
}

// As factor_evaluate for at most kFactorProduct points of weight 1, with lanes over nodes: no lane is idle
// however few points there are. g is laid out points by nodes.
template <class V>
DRPM_HD inline void factor_evaluate_few(const ScalarOf<V>* scale, const ScalarOf<V>* inverse, int64_t count,
                                        FactorNodes* nodes, int node_count, ScalarOf<V>* g) {
  using T = ScalarOf<V>;
  constexpr int kWidth = Lane<V>::kWidth;
  T node_scale[kFactorNodesMax], ratio[kFactorNodesMax];
  for (int j = 0; j < node_count; ++j) node_scale[j] = static_cast<T>(nodes->scale[j]);
  for (int j = 0; j < node_count; j += kWidth) {
    const V at_node = load<V>(node_scale + j);
    V product = splat<V>(1);
    for (int64_t i = 0; i < count; ++i) {
      const V z = cut_z<V>(at_node * scale[i]);
      const Decay<V> d = decay<V>(z);
      if (g != nullptr) store<V>(g + i * node_count + j, decay_slope<V>(z, d));
      product = product * (d.complement * inverse[i]);
    }
    store<V>(ratio + j, log_lane<V>(product));
  }
  for (int j = 0; j < node_count; ++j) nodes->h[j] += static_cast<double>(ratio[j]);
}

// Adds sum_i w_i [log(1 - e^{-z_ij}) - log(1 - e^{-z_im})] to every node's h, and keeps g(z_ij) (blocks of lanes by
// nodes) for the derivative. `ratio` and `total` are scratch of nodes * width each.                          (Eq. 9)
template <class V>
DRPM_HD inline void factor_evaluate(const ScalarOf<V>* scale, const ScalarOf<V>* weight, const ScalarOf<V>* inverse,
                                    int64_t count, FactorNodes* node, int nodes, ScalarOf<V>* g, ScalarOf<V>* ratio,
                                    ScalarOf<V>* total) {
  using T = ScalarOf<V>;
  constexpr int kWidth = Lane<V>::kWidth;
  T node_scale[kFactorNodesMax];
  for (int j = 0; j < nodes; ++j) node_scale[j] = static_cast<T>(node->scale[j]);
  for (int j = 0; j < nodes * kWidth; ++j) ratio[j] = 1, total[j] = 0;
  int terms = 0;
  for (int64_t i = 0; i < count; i += kWidth) {
    const V point = load<V>(scale + i), at_mode = load<V>(inverse + i);
    const V multiplicity = weight == nullptr ? splat<V>(1) : load<V>(weight + i);
    T* out = g == nullptr ? nullptr : g + i * nodes;
    const bool flush = weight == nullptr && (++terms == kFactorProduct || i + kWidth >= count);
    if (flush) terms = 0;
    for (int j = 0; j < nodes; ++j) {
      const V z = cut_z<V>(point * node_scale[j]);
      const Decay<V> d = decay<V>(z);
      if (out != nullptr) store<V>(out + j * kWidth, decay_slope<V>(z, d));
      const V term = d.complement * at_mode;
      if (weight != nullptr) {
        store<V>(total + j * kWidth, fmadd<V>(multiplicity, log_lane<V>(term), load<V>(total + j * kWidth)));
      } else {
        store<V>(ratio + j * kWidth, load<V>(ratio + j * kWidth) * term);
      }
    }
    if (flush) {
      for (int j = 0; j < nodes; ++j) {
        store<V>(total + j * kWidth, load<V>(total + j * kWidth) + log_lane<V>(load<V>(ratio + j * kWidth)));
        store<V>(ratio + j * kWidth, splat<V>(1));
      }
    }
  }
  for (int j = 0; j < nodes; ++j) node->h[j] += sum_lanes<V>(load<V>(total + j * kWidth));
}

// One element: I = s / (s + Z).  log I = -log(1 + e^{-a}), d log I / d a = 1 / (1 + e^a)                     (Eq. 5)
DRPM_HD inline double factor_single(double a, double* derivative) {
  const double t = exp_lane<double>(-abs_lane<double>(a));
  *derivative = a > 0 ? t / (1 + t) : 1 / (1 + t);
  return (a > 0 ? 0 : a) - log1p_lane<double>(t);
}

// log sum_{j<=k} Gamma_j / Z_j from that of the earlier subsets.
DRPM_HD inline double add_taken(double earlier, double gamma, double log_remainder) {
  return gamma > 0 ? log_add(earlier, log_lane<double>(gamma) - log_remainder) : earlier;
}

// d log p / d log s_i = G_i - s_i sum_{j<k} Gamma_j / Z_j for i in subset k                                  (Eq. 15)
DRPM_HD inline double score_gradient(double derivative, double log_score, double earlier) {
  return derivative - exp_lane<double>(log_score + earlier);
}

}  // namespace DRPM_ISA
}  // namespace drpm
