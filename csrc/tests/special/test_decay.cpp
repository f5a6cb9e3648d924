// 1 - e^{-z}, e^{-z} and log(1 - exp(-e^a)) against long double; sums of logarithms.
#include <cmath>
#include <initializer_list>

#include "special/decay.h"
#include "special/log_add.h"
#include "tests/check.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

double unit_random() {  // deterministic, in [0, 1)
  static uint64_t state = 0x2545F4914F6CDD1Dull;
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return static_cast<double>(state >> 11) * 0x1p-53;
}

// Relative errors, in units of the type's epsilon, over z from 1e-30 to the cut.
template <class V>
void check_decay() {
  using T = ScalarOf<V>;
  constexpr int kWidth = Lane<V>::kWidth;
  const double epsilon = sizeof(T) == 4 ? 0x1p-23 : 0x1p-52;
  double worst_complement = 0, worst_exponential = 0;
  for (int trial = 0; trial < 200000 / kWidth; ++trial) {
    T z[kWidth], exponential[kWidth], complement[kWidth];
    for (int i = 0; i < kWidth; ++i) {
      const double draw = unit_random();
      const bool small = unit_random() < 0.3;
      z[i] = static_cast<T>(small ? std::exp(-69 * draw) : static_cast<double>(kLargestZ) * draw * draw);
    }
    const Decay<V> d = decay<V>(load<V>(z));
    store<V>(exponential, d.exponential);
    store<V>(complement, d.complement);
    for (int i = 0; i < kWidth; ++i) {
      const long double exact = -std::expm1(-static_cast<long double>(z[i])),
                        e = std::exp(-static_cast<long double>(z[i]));
      const double c = static_cast<double>(std::fabs(complement[i] / exact - 1)) / epsilon;
      const double x = static_cast<double>(std::fabs(exponential[i] / e - 1)) / epsilon;
      worst_complement = c > worst_complement ? c : worst_complement;
      worst_exponential = x > worst_exponential ? x : worst_exponential;
    }
  }
  std::printf("decay %zu bytes x %d: 1 - e^-z %.2f, e^-z %.2f epsilon\n", sizeof(T), kWidth, worst_complement,
              worst_exponential);
  EXPECT(worst_complement < 3, "%g", worst_complement);
  EXPECT(worst_exponential < 3, "%g", worst_exponential);
}

void check_log_complement() {
  for (double a : {-1e4, -700.0, -100.0, -30.0, -3.0, -1.1, -1.0, 0.0, 1.0, 3.0, 4.0}) {
    const long double z = std::exp(static_cast<long double>(a));
    const long double exact = a < -60 ? a : std::log(-std::expm1(-z));
    const double got = log_complement<double>(a, exp_lane<double>(a));
    EXPECT(std::fabs(got - static_cast<double>(exact)) <= 1e-15 * std::fabs(static_cast<double>(exact)) + 1e-16,
           "a = %g: %.17g, not %.17Lg", a, got, exact);
  }
  EXPECT(log_complement<double>(100, exp_lane<double>(80)) == 0, "large a");
}

void check_log_add() {
  const double infinity = __builtin_huge_val();
  EXPECT(log_add(-infinity, -infinity) == -infinity && log_add(-infinity, 3) == 3, "empty sums");
}

void run() {
  check_decay<float>();
  check_decay<double>();
  check_decay<VecF>();
  check_decay<VecD>();
  check_log_complement();
  check_log_add();
}

}  // namespace
}  // namespace DRPM_ISA
}  // namespace drpm

DRPM_TEST_MAIN(drpm::DRPM_ISA::run)
