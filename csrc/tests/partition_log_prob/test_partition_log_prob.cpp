// 1 - e^{-z}, e^{-z} and log(1 - exp(-e^a)) against long double; the edges of a factor; point weights of the panels.
#include <cmath>
#include <initializer_list>

#include "partition_log_prob/panels.h"
#include "partition_log_prob/partition_log_prob_math.h"
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
      z[i] = static_cast<T>(small ? std::exp(-69 * draw) : static_cast<double>(kPartitionLargestZ) * draw * draw);
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

void check_single_and_log_add() {
  for (double a : {-800.0, -40.0, -1.0, 0.0, 2.0, 50.0, 800.0}) {
    double derivative = 0;
    const double got = partition_single(a, &derivative);
    const long double exact = -std::log1p(std::exp(-static_cast<long double>(a)));
    EXPECT(std::fabs(got - static_cast<double>(exact)) <= 4e-16 * std::fabs(static_cast<double>(exact)), "a = %g", a);
    const long double slope = 1 / (1 + std::exp(static_cast<long double>(a)));
    EXPECT(std::fabs(derivative - static_cast<double>(slope)) <= 4e-16 * static_cast<double>(slope) + 1e-300, "a = %g",
           a);
  }
  const double infinity = __builtin_huge_val();
  EXPECT(log_add(-infinity, -infinity) == -infinity && log_add(-infinity, 3) == 3, "empty sums");
}

// Weighted Chebyshev points integrate a function of a as the elements themselves do.
void check_panels() {
  constexpr int kDegree = kPartitionDegreeMax;
  double chebyshev[kDegree * kDegree];
  for (int c = 0; c < kDegree; ++c)
    for (int r = 0; r < kDegree; ++r)
      chebyshev[c * kDegree + r] = std::cos(3.14159265358979323846 * r * (c + 0.5) / kDegree);
  double position[1001], moments[kDegree] = {};
  const double low = -2;  // one panel: a = low + (t + 1) / 2
  double direct = 0;
  for (double& t : position) {
    t = 2 * unit_random() - 1;
    direct += log_complement<double>(low + 0.5 * (t + 1), std::exp(low + 0.5 * (t + 1)));
  }
  add_moments<VecD>(position, 1001, kDegree, moments);
  double by_points = 0;
  for (int c = 0; c < kDegree; ++c) {
    const double a = low + 0.5 * (chebyshev[c * kDegree + 1] + 1);
    by_points += point_weight(moments, chebyshev + c * kDegree, kDegree) * log_complement<double>(a, std::exp(a));
  }
  EXPECT(std::fabs(by_points / direct - 1) < 1e-13, "%.17g, not %.17g", by_points, direct);
  EXPECT(panel_of(-60, -59) == kLinearBucket && panel_of(40, -59) == kNothingBucket && panel_of(-58.5, -59) == 0,
         "panels");
}

void run() {
  check_decay<float>();
  check_decay<double>();
  check_decay<VecF>();
  check_decay<VecD>();
  check_log_complement();
  check_single_and_log_add();
  check_panels();
}

}  // namespace
}  // namespace DRPM_ISA
}  // namespace drpm

DRPM_TEST_MAIN(drpm::DRPM_ISA::run)
