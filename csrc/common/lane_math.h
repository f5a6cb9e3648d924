// Elementary functions over lane types. No libm call, no -ffast-math: the same text runs in one CUDA thread, in a
// scalar tail and in a SIMD pack. Maximum errors are measured by csrc/tests/test_lane_math.cpp against long double
// over the stated ranges; the table there is the contract.
//
//   function   range                          float (ulp)   double (ulp)
//   exp        all; below underflow gives 0   1.5           1.5
//   log        x > 0, normal; 0 -> -inf       1.5           1.5
//   log1p      x > -1                         2.5           2.5
//   expm1      |x| < 80                       4.5           4.5
#pragma once

#include "common/lane.h"

namespace drpm {
namespace DRPM_ISA {

template <class T>
struct FloatFormat;

template <>
struct FloatFormat<float> {
  using Int = int32_t;
  static constexpr int kMantissaBits = 23;
  static constexpr Int kBias = 127;
  static constexpr Int kMantissaMask = 0x007fffff;
  static constexpr Int kSqrtHalf = 0x3f3504f3;       // bits of sqrt(1/2), rounded down
  static constexpr float kRoundMagic = 12582912.0f;  // 1.5 * 2^23
  static constexpr float kExpMin = -87.33654f;       // log of the smallest normal number
  static constexpr float kExpMax = 88.72283f;
  static constexpr float kLn2High = 0.693145751953125f;  // 12 leading bits short of full, products with k are exact
  static constexpr float kLn2Low = 1.42860682030941723212e-6f;
  static constexpr int kExpTerms = 7;
  static constexpr int kLogTerms = 5;
};

template <>
struct FloatFormat<double> {
  using Int = int64_t;
  static constexpr int kMantissaBits = 52;
  static constexpr Int kBias = 1023;
  static constexpr Int kMantissaMask = 0x000fffffffffffffLL;
  static constexpr Int kSqrtHalf = 0x3fe6a09e667f3bccLL;
  static constexpr double kRoundMagic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kExpMin = -708.3964185322641;
  static constexpr double kExpMax = 709.782712893384;
  static constexpr double kLn2High = 0.693147180369123816490;  // 33 leading bits
  static constexpr double kLn2Low = 1.90821492927058770002e-10;
  static constexpr int kExpTerms = 13;
  static constexpr int kLogTerms = 12;
};

// 1 / i!, as a compile-time constant of type T.
template <class T>
DRPM_HD constexpr T inverse_factorial(int i) {
  double f = 1;
  for (int k = 2; k <= i; ++k) f *= k;
  return static_cast<T>(1 / f);
}

// Splits x = k ln 2 + r with |r| <= ln(2)/2; k as a float and as an integer.
template <class V>
DRPM_HD inline V reduce_by_ln2(V x, IntOf<V>* k) {
  using Format = FloatFormat<ScalarOf<V>>;
  const V shifted = x * static_cast<ScalarOf<V>>(1.4426950408889634) + Format::kRoundMagic;
  const V kf = shifted - Format::kRoundMagic;
  *k = bits_as<IntOf<V>>(shifted) - bits_as<IntOf<V>>(splat<V>(Format::kRoundMagic));
  return fmadd<V>(kf, splat<V>(-Format::kLn2Low), fmadd<V>(kf, splat<V>(-Format::kLn2High), x));
}

// 2^k for integers k within the normal exponents.
template <class V>
DRPM_HD inline V power_of_two(IntOf<V> k) {
  using Format = FloatFormat<ScalarOf<V>>;
  return bits_as<V>((k + Format::kBias) << Format::kMantissaBits);
}

template <class V>
DRPM_HD inline V exp_lane(V x) {
  using T = ScalarOf<V>;
  using Format = FloatFormat<T>;
  const V clamped = max_lane<V>(min_lane<V>(x, splat<V>(Format::kExpMax + 1)), splat<V>(Format::kExpMin - 1));
  IntOf<V> k;
  const V r = reduce_by_ln2<V>(clamped, &k);
  V p = splat<V>(inverse_factorial<T>(Format::kExpTerms));
#pragma GCC unroll 16
  for (int i = Format::kExpTerms - 1; i >= 0; --i) p = fmadd<V>(p, r, splat<V>(inverse_factorial<T>(i)));
  const IntOf<V> half = k >> 1;  // in two steps: 2^k itself may lie above the largest finite power
  V y = p * power_of_two<V>(half) * power_of_two<V>(k - half);
  y = x < splat<V>(Format::kExpMin) ? splat<V>(0) : y;
  return x != x ? x : y;
}

// log of a positive normal number; 0 gives -inf, negative numbers and NaN give NaN, +inf gives +inf.
template <class V>
DRPM_HD inline V log_lane(V x) {
  using T = ScalarOf<V>;
  using Format = FloatFormat<T>;
  using Int = IntOf<V>;
  const Int bits = bits_as<Int>(x);
  const Int k = (bits - Format::kSqrtHalf) >> Format::kMantissaBits;
  const V m = bits_as<V>(bits - ((bits - Format::kSqrtHalf) & ~Format::kMantissaMask));  // in [sqrt(1/2), sqrt(2))
  const V f = m - T(1);
  const V s = f / (f + T(2));
  const V z = s * s;
  // log m = 2 atanh(s) = f - s (f - 2 z (1/3 + z/5 + ...)), the form that keeps the leading term exact
  V p = splat<V>(T(1) / T(2 * Format::kLogTerms + 1));
#pragma GCC unroll 16
  for (int i = Format::kLogTerms - 1; i >= 1; --i) p = fmadd<V>(p, z, splat<V>(T(1) / T(2 * i + 1)));
  V kf;
  if constexpr (Lane<V>::kWidth == 1) {
    kf = static_cast<T>(k);
  } else {
    // k is small: adding it to the bits of the magic number and subtracting that again converts it exactly
    kf = bits_as<V>(k + bits_as<Int>(splat<V>(Format::kRoundMagic))) - Format::kRoundMagic;
  }
  const V correction = fmadd<V>(kf, splat<V>(Format::kLn2Low), -(s * (f - T(2) * z * p)));
  V y = fmadd<V>(kf, splat<V>(Format::kLn2High), f + correction);
  const T infinity = static_cast<T>(__builtin_huge_val());
  y = x == splat<V>(0) ? splat<V>(-infinity) : y;
  y = x == splat<V>(infinity) ? splat<V>(infinity) : y;
  return x >= splat<V>(0) ? y : splat<V>(static_cast<T>(__builtin_nan("")));
}

// log(1 + x), accurate near 0.
template <class V>
DRPM_HD inline V log1p_lane(V x) {
  using T = ScalarOf<V>;
  const V u = x + T(1);
  const V lost = x - (u - T(1));  // what the sum rounded away
  const V y = log_lane<V>(u);
  const T infinity = static_cast<T>(__builtin_huge_val());
  const V finite = u == splat<V>(0) ? splat<V>(0) : (u == splat<V>(infinity) ? splat<V>(0) : lost / u);
  return y + finite;
}

// exp(x) - 1, accurate near 0.
template <class V>
DRPM_HD inline V expm1_lane(V x) {
  using T = ScalarOf<V>;
  const V y = exp_lane<V>(x) - T(1);
  // Near 0: the Taylor series, long enough for |x| <= 0.35.
  using Format = FloatFormat<T>;
  V p = splat<V>(inverse_factorial<T>(Format::kExpTerms + 1));
#pragma GCC unroll 16
  for (int i = Format::kExpTerms; i >= 1; --i) p = fmadd<V>(p, x, splat<V>(inverse_factorial<T>(i)));
  return abs_lane<V>(x) < splat<V>(T(0.35)) ? p * x : y;
}

}  // namespace DRPM_ISA
}  // namespace drpm
