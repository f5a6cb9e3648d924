// Measures the maximum error of every function in lanes/lane_math.h against long double; the bounds below are the
// contract that the header states.
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "lanes/lane_math.h"
#include "noise/philox.h"
#include "special/log_factorial.h"
#include "tests/check.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class T>
double ulp_error(T got, long double want) {
  if (std::isnan(want)) return std::isnan(got) ? 0 : 1e9;
  const T rounded = static_cast<T>(want);
  if (std::isinf(rounded) || std::isinf(got)) return got == rounded ? 0 : 1e9;
  T next = std::nextafter(std::fabs(rounded), std::numeric_limits<T>::infinity());
  const long double ulp = static_cast<long double>(next) - std::fabs(rounded);
  return static_cast<double>(std::fabs(static_cast<long double>(got) - want) / ulp);
}

double unit_random() {  // deterministic, in [0, 1)
  static uint64_t state = 0x9E3779B97F4A7C15ull;
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return static_cast<double>(state >> 11) * 0x1p-53;
}

template <class V, class F, class G, class Draw>
void check_errors(const char* name, double bound, F lane_function, G exact, Draw draw) {
  using T = ScalarOf<V>;
  constexpr int kWidth = Lane<V>::kWidth;
  double worst = 0;
  T worst_at = 0;
  for (int trial = 0; trial < 200000 / kWidth; ++trial) {
    T in[kWidth], out[kWidth];
    for (int i = 0; i < kWidth; ++i) in[i] = static_cast<T>(draw());
    store<V>(out, lane_function(load<V>(in)));
    for (int i = 0; i < kWidth; ++i) {
      const double error = ulp_error<T>(out[i], exact(static_cast<long double>(in[i])));
      if (error > worst) worst = error, worst_at = in[i];
    }
  }
  std::printf("%-6s %zu bytes x %d: max error %.3f ulp at %.9g (bound %.1f)\n", name, sizeof(T), kWidth, worst,
              static_cast<double>(worst_at), bound);
  EXPECT(worst <= bound, "%s: %.3f ulp at %.17g", name, worst, static_cast<double>(worst_at));
}

// The same, in units of the last place of 1: for functions with zeros that no argument hits.
template <class V, class F, class G, class Draw>
void check_absolute_errors(const char* name, double bound, F lane_function, G exact, Draw draw) {
  using T = ScalarOf<V>;
  constexpr int kWidth = Lane<V>::kWidth;
  double worst = 0, worst_at = 0;
  for (int trial = 0; trial < 200000 / kWidth; ++trial) {
    T in[kWidth], out[kWidth];
    for (int i = 0; i < kWidth; ++i) in[i] = static_cast<T>(draw());
    store<V>(out, lane_function(load<V>(in)));
    for (int i = 0; i < kWidth; ++i) {
      const long double error = std::fabs(static_cast<long double>(out[i]) - exact(static_cast<long double>(in[i])));
      const double ulps = static_cast<double>(error / std::numeric_limits<T>::epsilon());
      if (!(ulps <= worst)) worst = ulps, worst_at = in[i];
    }
  }
  std::printf("%-6s %zu bytes x %d: max error %.3f ulp of 1 at %.9g (bound %.1f)\n", name, sizeof(T), kWidth, worst,
              worst_at, bound);
  EXPECT(worst <= bound, "%s: %.3f ulp of 1 at %.17g", name, worst, worst_at);
}

template <class V>
void check_functions() {
  using T = ScalarOf<V>;
  const double exp_low = FloatFormat<T>::kExpMin, exp_high = FloatFormat<T>::kExpMax;
  auto between = [](double a, double b) { return [=] { return a + (b - a) * unit_random(); }; };
  auto any_positive = [&] { return std::exp(0.98 * (exp_low + (exp_high - exp_low) * unit_random())); };

  auto exp_fn = [](V x) { return exp_lane<V>(x); };
  auto exp_exact = [](long double x) { return std::exp(x); };
  check_errors<V>("exp", 1.5, exp_fn, exp_exact, between(exp_low * 0.999, exp_high * 0.999));
  check_errors<V>("exp", 1.5, exp_fn, exp_exact, between(-2, 2));
  auto exp2_fn = [](V x) { return exp2_lane<V>(x); };
  auto exp2_exact = [](long double x) { return std::exp2(x); };
  const double exp2_low = Exp2Coefficients<T>::kLowest + 1;
  check_errors<V>("exp2", 1.3, exp2_fn, exp2_exact, between(exp2_low * 0.999, 10));
  check_errors<V>("exp2", 1.3, exp2_fn, exp2_exact, between(-20, 10));
  auto log_fn = [](V x) { return log_lane<V>(x); };
  auto log_exact = [](long double x) { return std::log(x); };
  check_errors<V>("log", 1.5, log_fn, log_exact, any_positive);
  check_errors<V>("log", 1.5, log_fn, log_exact, between(0.5, 2));
  auto log1p_fn = [](V x) { return log1p_lane<V>(x); };
  auto log1p_exact = [](long double x) { return std::log1p(x); };
  check_errors<V>("log1p", 2.5, log1p_fn, log1p_exact, between(-0.9999, 3));
  check_errors<V>("log1p", 2.5, log1p_fn, log1p_exact, [&] { return any_positive() * 1e-3; });
  auto expm1_fn = [](V x) { return expm1_lane<V>(x); };
  auto expm1_exact = [](long double x) { return std::expm1(x); };
  check_errors<V>("expm1", 4.5, expm1_fn, expm1_exact, between(-80, 80));
  check_errors<V>("expm1", 4.5, expm1_fn, expm1_exact, between(-1, 1));

  auto sin_fn = [](V x) { return sin_lane<V>(x); };
  auto sin_exact = [](long double x) { return std::sin(x); };
  auto cos_fn = [](V x) { return cos_lane<V>(x); };
  auto cos_exact = [](long double x) { return std::cos(x); };
  const double circle = sizeof(T) == 4 ? 8192 : 1e5;
  check_absolute_errors<V>("sin", 1.0, sin_fn, sin_exact, between(-circle, circle));
  check_absolute_errors<V>("sin", 1.0, sin_fn, sin_exact, between(-4, 4));
  check_absolute_errors<V>("cos", 1.0, cos_fn, cos_exact, between(-circle, circle));
  check_absolute_errors<V>("cos", 1.0, cos_fn, cos_exact, between(-4, 4));
  auto atan_fn = [](V x) { return atan_lane<V>(x); };
  auto atan_exact = [](long double x) { return std::atan(x); };
  check_errors<V>("atan", 3.0, atan_fn, atan_exact, between(-1.5, 1.5));
  check_errors<V>("atan", 3.0, atan_fn, atan_exact, any_positive);

  const T infinity = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  auto at = [](auto f, T x) {
    T out[Lane<V>::kWidth];
    store<V>(out, f(splat<V>(x)));
    return out[Lane<V>::kWidth - 1];
  };
  EXPECT(at(exp_fn, -infinity) == 0 && at(exp_fn, static_cast<T>(-1e30)) == 0, "exp of very negative");
  EXPECT(at(exp_fn, infinity) == infinity && at(exp_fn, static_cast<T>(1e30)) == infinity, "exp overflow");
  EXPECT(std::isnan(at(exp_fn, nan)) && std::isnan(at(log_fn, nan)) && std::isnan(at(log_fn, -1)), "NaN is kept");
  EXPECT(at(exp_fn, 0) == 1 && at(log_fn, 1) == 0, "exact points");
  EXPECT(at(exp2_fn, 0) == 1 && at(exp2_fn, 1) == 2 && at(exp2_fn, -3) == T(0.125), "whole powers");
  EXPECT(at(exp2_fn, static_cast<T>(-1e9)) == 0 && at(exp2_fn, static_cast<T>(exp2_low)) == 0, "exp2 of very negative");
  EXPECT(at(log_fn, 0) == -infinity && at(log_fn, infinity) == infinity, "log at 0 and infinity");
  EXPECT(at(sin_fn, 0) == 0 && at(cos_fn, 0) == 1 && at(atan_fn, 0) == 0, "circle functions at 0");
  EXPECT(at(atan_fn, infinity) == static_cast<T>(std::acos(0.0L)) && std::isnan(at(atan_fn, nan)), "atan at infinity");
  EXPECT(at(log1p_fn, -1) == -infinity && at(log1p_fn, 0) == 0, "log1p at -1 and 0");
}

void check_log_factorials() {
  const LogFactorialTable table = log_factorial_table(5000);
  EXPECT(table.size >= 5000, "table of %lld", static_cast<long long>(table.size));
  double worst = 0;
  for (int x = 0; x < 5000; ++x) {
    const double want = static_cast<double>(lgammal(x + 1.0L));
    worst = std::fmax(worst, std::fabs(table.value[x] - want) / std::fmax(1.0, want));
    if (x >= 16) worst = std::fmax(worst, std::fabs(log_factorial_stirling(x) - want) / want);
  }
  EXPECT(worst <= 6e-16, "log factorial relative error %.3g", worst);
}

PhiloxBlock philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t seed) {
  uint32_t c[4][1] = {{c0}, {c1}, {c2}, {c3}};
  philox4x32_10(c, seed);
  return {{c[0][0], c[1][0], c[2][0], c[3][0]}};
}

// Known-answer vectors of Philox4x32-10, from the Random123 distribution's kat_vectors.
void check_philox() {
  const PhiloxBlock zero = philox(0, 0, 0, 0, 0);
  EXPECT(zero.word[0] == 0x6627e8d5u && zero.word[1] == 0xe169c58du && zero.word[2] == 0xbc57ac4cu &&
             zero.word[3] == 0x9b00dbd8u,
         "zero vector");
  const PhiloxBlock ones = philox(~0u, ~0u, ~0u, ~0u, ~uint64_t{0});
  EXPECT(ones.word[0] == 0x408f276du && ones.word[1] == 0x41c83b0eu && ones.word[2] == 0xa20bc7c6u &&
             ones.word[3] == 0x6d5451fdu,
         "ones vector");
  const PhiloxBlock pi = philox(0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u, 0x299f31d0a4093822ull);
  EXPECT(
      pi.word[0] == 0xd16cfe09u && pi.word[1] == 0x94fdccebu && pi.word[2] == 0x5001e420u && pi.word[3] == 0x24126ea1u,
      "pi vector");
}

void check_gumbel_range() {
  for (uint32_t bits : {0u, ~0u}) {
    const PhiloxBlock block{{bits, bits, bits, bits}};
    const float g = gumbel_of_uniform<float>(uniform_of(block, 0, 0.0f));
    const double h = gumbel_of_uniform<double>(uniform_of(block, 0, 0.0));
    EXPECT(std::isfinite(g) && std::isfinite(h), "extreme bits give %g and %g", static_cast<double>(g), h);
    EXPECT(g > -2.82f && g < 22.9f && h > -3.63 && h < 37.5, "stated range: %g and %g", static_cast<double>(g), h);
  }
}

void run() {
  check_functions<float>();
  check_functions<double>();
  check_functions<VecF>();
  check_functions<VecD>();
  check_log_factorials();
  check_philox();
  check_gumbel_range();
}

}  // namespace
}  // namespace DRPM_ISA
}  // namespace drpm

DRPM_TEST_MAIN(drpm::DRPM_ISA::run)
