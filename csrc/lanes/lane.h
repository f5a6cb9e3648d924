// Lane types: the numerics are templates over V, which is one scalar (float, double; what CUDA uses) or a SIMD pack
// (VecF, VecD: GCC vector extensions, as wide as the instruction set of this compilation). Arithmetic operators,
// comparisons and `mask ? a : b` read the same for both; the functions here cover the rest.
#pragma once

#include <cstdint>
#include <cstring>

#include "lanes/host_device.h"

namespace drpm {
namespace DRPM_ISA {

template <class V>
struct Lane;

template <>
struct Lane<float> {
  using Scalar = float;
  using Int = int32_t;
  static constexpr int kWidth = 1;
};

template <>
struct Lane<double> {
  using Scalar = double;
  using Int = int64_t;
  static constexpr int kWidth = 1;
};

#if !defined(__CUDACC__)
// A wider lane for the few rows that need one; slow.
template <>
struct Lane<long double> {
  using Scalar = long double;
  static constexpr int kWidth = 1;
};

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

typedef float VecF __attribute__((vector_size(kVectorBytes)));
typedef double VecD __attribute__((vector_size(kVectorBytes)));
typedef int32_t VecI32 __attribute__((vector_size(kVectorBytes)));
typedef int64_t VecI64 __attribute__((vector_size(kVectorBytes)));

template <>
struct Lane<VecF> {
  using Scalar = float;
  using Int = VecI32;
  static constexpr int kWidth = kVectorBytes / 4;
};

template <>
struct Lane<VecD> {
  using Scalar = double;
  using Int = VecI64;
  static constexpr int kWidth = kVectorBytes / 8;
};

// The pack type of a scalar type.
template <class T>
struct PackOf;
template <>
struct PackOf<float> {
  using type = VecF;
};
template <>
struct PackOf<double> {
  using type = VecD;
};
template <class T>
using Pack = typename PackOf<T>::type;
#endif

template <class V>
using ScalarOf = typename Lane<V>::Scalar;
template <class V>
using IntOf = typename Lane<V>::Int;

// The unsigned integers of a lane type: their shifts may drop bits.
template <class V>
struct UnsignedLane;
template <>
struct UnsignedLane<float> {
  using type = uint32_t;
};
template <>
struct UnsignedLane<double> {
  using type = uint64_t;
};
#if !defined(__CUDACC__)
template <>
struct UnsignedLane<VecF> {
  typedef uint32_t type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct UnsignedLane<VecD> {
  typedef uint64_t type __attribute__((vector_size(kVectorBytes)));
};
#endif

// The same scalar in every lane.
template <class V>
DRPM_HD inline V splat(ScalarOf<V> x) {
  return V{} + x;
}

template <class V>
DRPM_HD inline V load(const ScalarOf<V>* p) {  // unaligned
  V v;
  memcpy(&v, p, sizeof(V));
  return v;
}

template <class V>
DRPM_HD inline void store(ScalarOf<V>* p, V v) {
  memcpy(p, &v, sizeof(V));
}

// Reinterprets the bits.
template <class To, class From>
DRPM_HD inline To bits_as(From x) {
  static_assert(sizeof(To) == sizeof(From), "bits_as needs equal sizes");
  To y;
  memcpy(&y, &x, sizeof(To));
  return y;
}

// a * b + c; contracted to one rounding where the target has fused multiply-add.
template <class V>
DRPM_HD inline V fmadd(V a, V b, V c) {
  return a * b + c;
}

template <class V>
DRPM_HD inline V min_lane(V a, V b) {  // b where either is NaN
  return a < b ? a : b;
}

template <class V>
DRPM_HD inline V max_lane(V a, V b) {  // b where either is NaN
  return a > b ? a : b;
}

template <class V>
DRPM_HD inline V abs_lane(V a) {
  return a < splat<V>(0) ? -a : a;
}

template <class T>
DRPM_HD inline bool is_finite(T x) {
  return x - x == 0;  // inf - inf is NaN
}

// Sum over the lanes, in a fixed order.
template <class V>
DRPM_HD inline ScalarOf<V> sum_lanes(V v) {
  constexpr int kWidth = Lane<V>::kWidth;
  if constexpr (kWidth == 1) {
    return v;
  } else {
    ScalarOf<V> part[kWidth];
    store<V>(part, v);
    for (int half = kWidth / 2; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) part[i] += part[i + half];
    return part[0];
  }
}

template <class V>
DRPM_HD inline ScalarOf<V> max_over_lanes(V v) {
  constexpr int kWidth = Lane<V>::kWidth;
  if constexpr (kWidth == 1) {
    return v;
  } else {
    ScalarOf<V> part[kWidth];
    store<V>(part, v);
    ScalarOf<V> best = part[0];
    for (int i = 1; i < kWidth; ++i) best = part[i] > best ? part[i] : best;
    return best;
  }
}

}  // namespace DRPM_ISA
}  // namespace drpm
