// Elementary functions over lane types. No libm call, no -ffast-math: the same text runs in one CUDA thread, in a
// scalar tail and in a SIMD pack. Maximum errors are measured by csrc/tests/lanes/test_lane_math.cpp against long
// double over the stated ranges; the table there is the contract.
//
//   function   range                          float (ulp)   double (ulp)
//   exp        all; below underflow gives 0   1.5           1.5
//   exp2       x <= 100; below normal gives 0 1.3           1.3            1.0 with fused multiply-add
//   log        x > 0, normal; 0 -> -inf       1.5           1.5
//   log1p      x > -1                         2.5           2.5
//   expm1      |x| < 80                       4.5           4.5
//   sin, cos   |x| <= 8192 (float), 1e5       1.0 absolute  1.0 absolute   in ulp of 1 (2^-23, 2^-52)
//   atan       all                            3.0           3.0
#pragma once

#include "lanes/lane.h"

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

#if !defined(__CUDACC__)
template <>
inline long double exp_lane<long double>(long double x) {
  return __builtin_expl(x);
}
#endif

template <class T>
struct Exp2Coefficients;
template <>
struct Exp2Coefficients<float> {  // minimax on [-1/2, 1/2], relative error 1.9e-9
  static constexpr int kDegree = 6;
  static constexpr float kLowest = -126;
  DRPM_HD static constexpr float at(int i) {
    constexpr double c[] = {1.0000000005541663,   0.69314720573725267,  0.24022646890639572,   0.055503287769976638,
                            0.009618488956522792, 0.001339993120947414, 0.00015345812158740182};
    return static_cast<float>(c[i]);
  }
};
template <>
struct Exp2Coefficients<double> {  // relative error 3.1e-18
  static constexpr int kDegree = 11;
  static constexpr double kLowest = -1022;
  DRPM_HD static constexpr double at(int i) {
    constexpr double c[] = {1.0,
                            0.69314718055994533046,
                            0.24022650695910156205,
                            0.055504108664819921483,
                            0.0096181291075883350833,
                            0.0013333558146789950323,
                            0.00015403530462514613026,
                            1.52527334899608046e-5,
                            1.3215433089594629e-6,
                            1.0178198033328528e-7,
                            7.0741056262456594e-9,
                            4.4352809446103612e-10};
    return c[i];
  }
};

constexpr double kLog2E = 1.4426950408889634;

// 2^x for x <= 100; 0 below the smallest normal power.
template <class V>
DRPM_HD inline V exp2_lane(V x) {
  using T = ScalarOf<V>;
  using Format = FloatFormat<T>;
  using Coefficients = Exp2Coefficients<T>;
  const V clamped = max_lane<V>(x, splat<V>(Coefficients::kLowest));
  const V shifted = clamped + Format::kRoundMagic;
  const V r = clamped - (shifted - Format::kRoundMagic);
  V p = splat<V>(Coefficients::at(Coefficients::kDegree));
#pragma GCC unroll 12
  for (int i = Coefficients::kDegree - 1; i >= 0; --i) p = fmadd<V>(p, r, splat<V>(Coefficients::at(i)));
  // the low bits of `shifted` are the rounded x; those of the magic number itself fall off the left end
  using Unsigned = typename UnsignedLane<V>::type;
  const V y = bits_as<V>(bits_as<Unsigned>(p) + (bits_as<Unsigned>(shifted) << Format::kMantissaBits));
  return x > splat<V>(Coefficients::kLowest + 1) ? y : splat<V>(0);
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

// Splitting of pi/2 into parts whose products with small integers are exact, and polynomial sizes.
template <class T>
struct CircleFormat;

template <>
struct CircleFormat<float> {
  static constexpr float kHalfPi[3] = {1.5703125f, 4.837512969970703125e-4f, 7.549789415861596e-8f};
  static constexpr int kTerms = 5;
  // (atan(z)/z - 1)/z^2 in powers of z^2, interpolated at Chebyshev points of 0 <= z <= tan(pi/8): error 2e-9
  static constexpr int kAtanTerms = 5;
  DRPM_HD static constexpr float atan_term(int i) {
    constexpr float kTerm[kAtanTerms] = {-0.333333317538169689f, 0.199995387947719215f, -0.142638971125986755f,
                                         0.107430996676745703f, -0.0644983522459149592f};
    return kTerm[i];
  }
};

template <>
struct CircleFormat<double> {
  static constexpr double kHalfPi[3] = {0x1.921fb544p0, 0x1.0b4611a6p-34, 0x1.3198a2e037073p-69};
  static constexpr int kTerms = 9;
  static constexpr int kAtanTerms = 12;  // as above: error 2e-19
  DRPM_HD static constexpr double atan_term(int i) {
    constexpr double kTerm[kAtanTerms] = {-0.333333333333333332,  0.199999999999998025,   -0.142857142856593273,
                                          0.111111111051067051,   -0.0909090875107663588, 0.0769229630497447006,
                                          -0.0666642362806925758, 0.058789145444006217,   -0.0523034787301607418,
                                          0.0455110812632517188,  -0.0345580925514137961, 0.0162719447516240604};
    return kTerm[i];
  }
};

template <class V>
struct SinCos {
  V sin, cos;
};

// Both at once: reduction to |r| <= pi/4 by multiples of pi/2, then the Taylor series.
template <class V>
DRPM_HD inline SinCos<V> sincos_lane(V x) {
  using T = ScalarOf<V>;
  using Circle = CircleFormat<T>;
  const V shifted = x * static_cast<T>(0.63661977236758134308) + FloatFormat<T>::kRoundMagic;
  const V kf = shifted - FloatFormat<T>::kRoundMagic;
  const IntOf<V> k = bits_as<IntOf<V>>(shifted) - bits_as<IntOf<V>>(splat<V>(FloatFormat<T>::kRoundMagic));
  V r = fmadd<V>(kf, splat<V>(-Circle::kHalfPi[0]), x);
  r = fmadd<V>(kf, splat<V>(-Circle::kHalfPi[1]), r);
  r = fmadd<V>(kf, splat<V>(-Circle::kHalfPi[2]), r);
  const V z = -(r * r);
  V s = splat<V>(inverse_factorial<T>(2 * Circle::kTerms - 1)), c = splat<V>(inverse_factorial<T>(2 * Circle::kTerms));
#pragma GCC unroll 16
  for (int i = Circle::kTerms - 1; i >= 1; --i) {
    s = fmadd<V>(s, z, splat<V>(inverse_factorial<T>(2 * i - 1)));
    c = fmadd<V>(c, z, splat<V>(inverse_factorial<T>(2 * i)));
  }
  s = s * r;
  c = fmadd<V>(c, z, splat<V>(1));
  const V sin_part = (k & 1) == 0 ? s : c, cos_part = (k & 1) == 0 ? c : s;
  return {(k & 2) == 0 ? sin_part : -sin_part, ((k + 1) & 2) == 0 ? cos_part : -cos_part};
}

template <class V>
DRPM_HD inline V sin_lane(V x) {
  return sincos_lane<V>(x).sin;
}

template <class V>
DRPM_HD inline V cos_lane(V x) {
  return sincos_lane<V>(x).cos;
}

// |x| > 1 by the reciprocal, then |y| > tan(pi/8) by (y - 1)/(y + 1).
template <class V>
DRPM_HD inline V atan_lane(V x) {
  using T = ScalarOf<V>;
  using Circle = CircleFormat<T>;
  const V a = abs_lane<V>(x), one = splat<V>(1), zero = splat<V>(0);
  const auto large = a > one;
  const V y = large ? one / a : a;
  const auto middle = y > splat<V>(static_cast<T>(0.4142135623730950488));
  const V z = middle ? (y - one) / (y + one) : y;
  const V w = z * z;
  V p = splat<V>(Circle::atan_term(Circle::kAtanTerms - 1));
#pragma GCC unroll 16
  for (int i = Circle::kAtanTerms - 2; i >= 0; --i) p = fmadd<V>(p, w, splat<V>(Circle::atan_term(i)));
  V angle = fmadd<V>(p * w, z, z);
  angle = middle ? angle + static_cast<T>(0.78539816339744830962) : angle;
  angle = large ? static_cast<T>(1.57079632679489661923) - angle : angle;
  angle = x < zero ? -angle : angle;
  return x != x ? x : angle;
}

}  // namespace DRPM_ISA
}  // namespace drpm
