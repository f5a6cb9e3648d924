// Numerics of one factor of the exact partition likelihood (docs/math/partition_likelihood.md).
//
//   I = int exp(h(y)) dy,  h(y) = y - e^y + sum_i w_i log(1 - exp(-z_i)),  z_i = A_i e^y,  A_i = s_i / Z        (Eq. 4)
//
// over weighted points: the elements of the subset (all w = 1), or Chebyshev points that stand for many of them.
#pragma once

#include "lanes/lane_math.h"

namespace drpm {
namespace DRPM_ISA {

// z is cut here: 1 - exp(-z) is 1 to any precision, and exp(-z) stays a normal float.
constexpr float kPartitionLargestZ = 80.0f;
// Terms of a product of ratios before its logarithm is taken: it stays within e^{+-60}, see Eq. 9.
constexpr int kPartitionProduct = 16;

template <class T>
struct ExpSeries;
template <>
struct ExpSeries<float> {
  static constexpr int kTerms = 7;  // of (e^r - 1) / r for |r| <= ln(2)/2
};
template <>
struct ExpSeries<double> {
  static constexpr int kTerms = 13;
};

// e^{-z} = 2^k (1 + r p), p = (e^r - 1) / r, for 0 <= z <= kPartitionLargestZ. For k = 0, r = -z.
template <class V>
struct Decay {
  V exponential;  // e^{-z}
  V complement;   // 1 - e^{-z}, with a relative error of a few ulp however small z is
  V ratio;        // p; (1 - e^{-z}) / z where `small`
  IntOf<V> k;     // 0: z is small (below ln(2)/2)
};

template <class V>
DRPM_HD inline Decay<V> decay(V z) {
  using T = ScalarOf<V>;
  Decay<V> d;
  const V r = reduce_by_ln2<V>(-z, &d.k);
  V p = splat<V>(inverse_factorial<T>(ExpSeries<T>::kTerms));
#pragma GCC unroll 16
  for (int i = ExpSeries<T>::kTerms - 1; i >= 1; --i) p = fmadd<V>(p, r, splat<V>(inverse_factorial<T>(i)));
  const V scale = power_of_two<V>(d.k);
  const V growth = scale * r * p;
  d.exponential = scale + growth;
  d.complement = (T(1) - scale) - growth;
  d.ratio = p;
  return d;
}

template <class V>
DRPM_HD inline V cut_z(V z) {
  return min_lane<V>(z, splat<V>(static_cast<ScalarOf<V>>(kPartitionLargestZ)));
}

// log(1 - exp(-e^a)) for any a; `scale` = e^a, or any positive number where that under- or overflows.
template <class V>
DRPM_HD inline V log_complement(V a, V scale) {
  const Decay<V> d = decay<V>(cut_z<V>(scale));
  const auto small = d.k == IntOf<V>{};
  return log_lane<V>(small ? d.ratio : d.complement) + (small ? a : splat<V>(0));
}

// Points in float, for the search of the panel: 2 % of the peak's width are enough there. `count` is padded to whole
// lanes with points of scale kPartitionLargestZ, which contribute nothing.
struct PartitionSearch {
  const float* scale;   // (count) A_i
  const float* weight;  // (count) w_i; null: all 1
  float* inverse;       // (count) 1 / (1 - exp(-z_i)) at the mode
  int64_t count;
  double elements;  // sum of w_i and of `linear`
  double linear;    // elements of z so small that log(1 - exp(-z)) = log z; they are not among the points
};

struct PartitionMode {
  double y;
  double curvature;  // -h''(y)
};

struct PartitionSums {
  double g;      // sum_i w_i g(z_i), g(z) = z / (e^z - 1)
  double slope;  // sum_i w_i z_i g'(z_i) = sum_i w_i g(z_i) (1 - z_i - g(z_i))
};

template <class V>
DRPM_HD inline PartitionSums partition_sums(const PartitionSearch& points, double y) {
  const float scale = static_cast<float>(exp_lane<double>(y));
  V total = splat<V>(0), slope = splat<V>(0);
  for (int64_t i = 0; i < points.count; i += Lane<V>::kWidth) {
    const V z = cut_z<V>(load<V>(points.scale + i) * scale);
    const Decay<V> d = decay<V>(z);
    V g = z * d.exponential / d.complement;
    const V change = 1.0f - z - g;
    if (points.weight != nullptr) g = g * load<V>(points.weight + i);
    total = total + g;
    slope = fmadd<V>(g, change, slope);
  }
  return {sum_lanes<V>(total) + points.linear, sum_lanes<V>(slope)};
}

// Root of y - log(1 + sum g) on [0, log(1 + elements)]: where h' = 0. Bracketed Newton.                      (Eq. 6)
// `sums_at(y)` is partition_sums() over all points.
template <class Sums>
DRPM_HD inline PartitionMode partition_mode(double elements, const Sums& sums_at) {
  double low = 0, high = log1p_lane<double>(elements), y = 0.5 * high, last = high, curvature = 1;
  for (int step = 0; step < 80; ++step) {
    const PartitionSums sums = sums_at(y);
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
DRPM_HD inline void partition_set_inverse(const PartitionSearch& points, double y) {
  const float scale = static_cast<float>(exp_lane<double>(y));
  for (int64_t i = 0; i < points.count; i += Lane<V>::kWidth)
    store<V>(points.inverse + i, 1.0f / decay<V>(cut_z<V>(load<V>(points.scale + i) * scale)).complement);
}

// h(mode) - h(y), after partition_set_inverse(points, mode).                                                 (Eq. 7)
template <class V>
DRPM_HD inline double partition_drop(const PartitionSearch& points, double mode, double y) {
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
      if (++terms == kPartitionProduct) {
        total = total + log_lane<V>(product);
        product = splat<V>(1);
        terms = 0;
      }
    }
    total = total + log_lane<V>(product);
  }
  const double away = y - mode;
  return exp_lane<double>(mode) * expm1_lane<double>(away) - away * (1 + points.linear) - sum_lanes<V>(total);
}

// Distance from the mode, on one side (+1 or -1), at which h has dropped by T within 7 %.                    (Eq. 8)
// `drop_at(y)` is partition_drop() over all points.
template <class Drop>
DRPM_HD inline double partition_edge(const PartitionMode& mode, double drop, int side, const Drop& drop_at) {
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
struct PartitionNodes {
  double scale[80];    // Y_j = e^{y_j}, exactly a T: then the points see the same y_j as everything else
  double h[80];        // (y_j - y_m) (1 + linear) - (Y_j - Y_m); then h_j - h_m; then the normalised weight
  double measure[80];  // quadrature weight
};

// Nodes for a panel from `centre - half` to `centre + half`; `mode` = e^{y_m}, exactly a T.
template <class V, class T>
DRPM_HD inline void partition_set_nodes(double centre, double half, double mode, double linear, const double* legendre,
                                        const double* legendre_weight, int count, PartitionNodes* nodes) {
  constexpr int kWidth = Lane<V>::kWidth;
  for (int j = 0; j < count; j += kWidth)
    store<V>(nodes->scale + j, exp_lane<V>(centre + half * load<V>(legendre + j)));
  for (int j = 0; j < count; ++j) nodes->scale[j] = static_cast<double>(static_cast<T>(nodes->scale[j]));
  for (int j = 0; j < count; j += kWidth) {
    const V scale = load<V>(nodes->scale + j);
    store<V>(nodes->measure + j, half * load<V>(legendre_weight + j));
    store<V>(nodes->h + j, log_lane<V>(scale / mode) * (1 + linear) - (scale - mode));
  }
}

// The value of the quadrature from the nodes' h: log int exp(h - h_m), and the normalised weights in `h`.   (Eq. 10)
template <class V>
DRPM_HD inline double partition_normalise(PartitionNodes* nodes, int count) {
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

// As partition_evaluate for at most kPartitionProduct points of weight 1, with lanes over nodes: no lane is idle
// however few points there are. g is laid out points by nodes.
template <class V>
DRPM_HD inline void partition_evaluate_few(const ScalarOf<V>* scale, const ScalarOf<V>* inverse, int64_t count,
                                           PartitionNodes* nodes, int node_count, ScalarOf<V>* g) {
  using T = ScalarOf<V>;
  constexpr int kWidth = Lane<V>::kWidth;
  T node_scale[80], ratio[80];
  for (int j = 0; j < node_count; ++j) node_scale[j] = static_cast<T>(nodes->scale[j]);
  for (int j = 0; j < node_count; j += kWidth) {
    const V at_node = load<V>(node_scale + j);
    V product = splat<V>(1);
    for (int64_t i = 0; i < count; ++i) {
      const V z = cut_z<V>(at_node * scale[i]);
      const Decay<V> d = decay<V>(z);
      if (g != nullptr) store<V>(g + i * node_count + j, z * d.exponential / d.complement);
      product = product * (d.complement * inverse[i]);
    }
    store<V>(ratio + j, log_lane<V>(product));
  }
  for (int j = 0; j < node_count; ++j) nodes->h[j] += static_cast<double>(ratio[j]);
}

// Adds sum_i w_i [log(1 - e^{-z_ij}) - log(1 - e^{-z_im})] to every node's h, and keeps g(z_ij) (blocks of lanes by
// nodes) for the derivative. `ratio` and `total` are scratch of nodes * width each.                          (Eq. 9)
template <class V>
DRPM_HD inline void partition_evaluate(const ScalarOf<V>* scale, const ScalarOf<V>* weight, const ScalarOf<V>* inverse,
                                       int64_t count, PartitionNodes* node, int nodes, ScalarOf<V>* g,
                                       ScalarOf<V>* ratio, ScalarOf<V>* total) {
  using T = ScalarOf<V>;
  constexpr int kWidth = Lane<V>::kWidth;
  T node_scale[80];
  for (int j = 0; j < nodes; ++j) node_scale[j] = static_cast<T>(node->scale[j]);
  for (int j = 0; j < nodes * kWidth; ++j) ratio[j] = 1, total[j] = 0;
  int terms = 0;
  for (int64_t i = 0; i < count; i += kWidth) {
    const V point = load<V>(scale + i), at_mode = load<V>(inverse + i);
    const V multiplicity = weight == nullptr ? splat<V>(1) : load<V>(weight + i);
    T* out = g == nullptr ? nullptr : g + i * nodes;
    const bool flush = weight == nullptr && (++terms == kPartitionProduct || i + kWidth >= count);
    if (flush) terms = 0;
    for (int j = 0; j < nodes; ++j) {
      const V z = cut_z<V>(point * node_scale[j]);
      const Decay<V> d = decay<V>(z);
      if (out != nullptr) store<V>(out + j * kWidth, z * d.exponential / d.complement);
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
DRPM_HD inline double partition_single(double a, double* derivative) {
  const double t = exp_lane<double>(-abs_lane<double>(a));
  *derivative = a > 0 ? t / (1 + t) : 1 / (1 + t);
  return (a > 0 ? 0 : a) - log1p_lane<double>(t);
}

DRPM_HD inline double log_add(double a, double b) {  // log(e^a + e^b); either may be -inf
  const double high = a > b ? a : b, low = a > b ? b : a;
  return low == -__builtin_huge_val() ? high : high + log1p_lane<double>(exp_lane<double>(low - high));
}

}  // namespace DRPM_ISA
}  // namespace drpm
