// A factor of one element against long double; point weights of the panels.
#include <cmath>
#include <initializer_list>

#include "partition_log_prob/panels.h"
#include "partition_log_prob/partition_log_prob_math.h"
#include "partition_log_prob/rule.h"
#include "tests/check.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

double unit_random() {  // deterministic, in [0, 1)
  static uint64_t state = 0x2545F4914F6CDD1Dull;
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return static_cast<double>(state >> 11) * 0x1p-53;
}

void check_single() {
  for (double a : {-800.0, -40.0, -1.0, 0.0, 2.0, 50.0, 800.0}) {
    double derivative = 0;
    const double got = factor_single(a, &derivative);
    const long double exact = -std::log1p(std::exp(-static_cast<long double>(a)));
    EXPECT(std::fabs(got - static_cast<double>(exact)) <= 4e-16 * std::fabs(static_cast<double>(exact)), "a = %g", a);
    const long double slope = 1 / (1 + std::exp(static_cast<long double>(a)));
    EXPECT(std::fabs(derivative - static_cast<double>(slope)) <= 4e-16 * static_cast<double>(slope) + 1e-300, "a = %g",
           a);
  }
}

// Weighted Chebyshev points integrate a function of a as the elements themselves do.
void check_panels() {
  constexpr int kDegree = kPanelDegreeMax;
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

// What a node stands for is a float in float: points, weights and exponents see the same y_j.
void check_nodes() {
  const QuadratureRule& rule = quadrature_rule<float>();
  FactorNodes nodes;
  factor_set_nodes<VecD, float>(1.5, 2.25, 4.5, 0, rule.node, rule.node_weight, 0, rule.nodes, &nodes);
  for (int j = 0; j < rule.nodes; ++j)
    EXPECT(nodes.scale[j] == static_cast<double>(static_cast<float>(nodes.scale[j])), "node %d: %a", j, nodes.scale[j]);
}

void run() {
  check_nodes();
  check_single();
  check_panels();
}

}  // namespace
}  // namespace DRPM_ISA
}  // namespace drpm

DRPM_TEST_MAIN(drpm::DRPM_ISA::run)
