// 1 - e^{-z} and e^{-z} together, for the probability that something has arrived. No torch headers.
// Both within 3 units of the type's epsilon for 0 <= z <= kLargestZ: csrc/tests/special/test_decay.cpp.
#pragma once

#include "lanes/lane_math.h"

namespace drpm {
namespace DRPM_ISA {

// z is cut here: 1 - exp(-z) is 1 to any precision, and exp(-z) stays a normal float.
constexpr float kLargestZ = 80.0f;

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

// e^{-z} = 2^k (1 + r p), p = (e^r - 1) / r, for 0 <= z <= kLargestZ. For k = 0, r = -z.
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
  return min_lane<V>(z, splat<V>(static_cast<ScalarOf<V>>(kLargestZ)));
}

// log(1 - exp(-e^a)) for any a; `scale` = e^a, or any positive number where that under- or overflows.
template <class V>
DRPM_HD inline V log_complement(V a, V scale) {
  const Decay<V> d = decay<V>(cut_z<V>(scale));
  const auto small = d.k == IntOf<V>{};
  return log_lane<V>(small ? d.ratio : d.complement) + (small ? a : splat<V>(0));
}

// g(z) = z / (e^z - 1), the derivative of log(1 - e^{-z}) by log z.
template <class V>
DRPM_HD inline V decay_slope(V z, const Decay<V>& d) {
  return z * d.exponential / d.complement;
}

// z g'(z) / g(z)
template <class V>
DRPM_HD inline V decay_curvature(V z, V slope) {
  return ScalarOf<V>(1) - z - slope;
}

}  // namespace DRPM_ISA
}  // namespace drpm
