// The quadrature rule and the Chebyshev values of the exact partition likelihood; host code, for the glue.
#pragma once

#include <cmath>
#include <vector>

#include "partition_log_prob/partition_log_prob.h"

namespace drpm {

// Gauss-Legendre nodes and Chebyshev values of one dtype.
struct QuadratureTables {
  std::vector<double> node, weight, chebyshev;
  QuadratureRule rule;

  QuadratureTables(int nodes, double drop, int degree) : node(nodes), weight(nodes), chebyshev(degree * degree) {
    constexpr double pi = 3.14159265358979323846;
    for (int j = 0; j < nodes; ++j) {  // Newton on P_nodes, from the usual cosine
      long double x = -std::cos(pi * (j + 0.75) / (nodes + 0.5)), slope = 1;
      for (int step = 0; step < 10; ++step) {
        long double before = 1, now = x;
        for (int r = 2; r <= nodes; ++r) {
          const long double next = ((2 * r - 1) * x * now - (r - 1) * before) / r;
          before = now;
          now = next;
        }
        slope = nodes * (x * now - before) / (x * x - 1);
        x -= now / slope;
      }
      node[j] = static_cast<double>(x);
      weight[j] = static_cast<double>(2 / ((1 - x * x) * slope * slope));
    }
    for (int c = 0; c < degree; ++c)
      for (int r = 0; r < degree; ++r)
        chebyshev[c * degree + r] =
            static_cast<double>(std::cos(static_cast<long double>(pi) * r * (c + 0.5L) / degree));
    rule = {nodes, degree, drop, node.data(), weight.data(), chebyshev.data()};
  }
};

template <class T>
inline const QuadratureRule& quadrature_rule() {
  static const QuadratureTables tables =
      sizeof(T) == 8 ? QuadratureTables(80, 31, kPanelDegreeMax) : QuadratureTables(32, 16, 12);
  return tables.rule;
}

}  // namespace drpm
