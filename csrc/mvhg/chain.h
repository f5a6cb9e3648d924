// Sizes drawn class by class along one row, and the reverse mode of that chain, for a team of the CPU or the device
// (docs/math/mvhg.md, section 2). What one conditional is, the caller says.
#pragma once

#include "lanes/team.h"
#include "mvhg/law.h"
#include "mvhg/outcome.h"

namespace drpm {
namespace DRPM_ISA {

// What the chain leaves of one row.
template <class T>
struct ChainOutput {
  T* sizes;            // (K), by class; NaN where the row is not valid
  double* statistics;  // (K, columns) or null: Var(x) / tau, Cov(x, d) / tau and, in a third column, the hard size
  int columns;
  bool hard;
  double tau;
};

// `draw(p, remaining, k)` draws from the conditional at position p, of class k, the same for every member of the team;
// it is called for p = 0 .. K - 2 in turn. The last class takes what remains.
template <class Team, class T, class Draw>
DRPM_DEVICE inline void sample_chain(const Team& team, const MvhgRow& row, const ChainOutput<T>& out,
                                     const Draw& draw) {
  if (!row.valid) {
    team_fill(team, out.sizes, row.classes, kNaN);
    if (out.statistics != nullptr) team_fill(team, out.statistics, out.columns * row.classes, kNaN);
    return;
  }
  int64_t remaining = row.n;
  double relaxed_remaining = static_cast<double>(row.n);
  for (int64_t p = 0; p < row.classes; ++p) {
    const int64_t k = class_at(row, p);
    RelaxedOutcome outcome{remaining, relaxed_remaining, 0, 0};
    if (p < row.classes - 1) outcome = draw(p, remaining, k);
    if (team.first()) {
      out.sizes[k] = out.hard ? static_cast<T>(outcome.hard) : static_cast<T>(outcome.mean);
      if (out.statistics != nullptr) {
        double* statistics = out.statistics + k * out.columns;
        statistics[0] = outcome.variance / out.tau;
        statistics[1] = outcome.slope / out.tau;
        if (out.columns > 2) statistics[2] = static_cast<double>(outcome.hard);
      }
    }
    remaining -= outcome.hard;
    relaxed_remaining -= outcome.mean;
  }
}

// With A_p = dL/dn_p - dL/dr_{p+1}, calls visit(p, k, A_p, statistics of class k) for p = K - 2 .. 0;
// dL/dr_p = dL/dr_{p+1} + A_p D_p, D = Cov(x, d) / tau.                                             (Eq. 7)
template <class T, class Visit>
DRPM_HD inline void reverse_chain(const MvhgRow& row, const T* grad_sizes, const double* statistics, int columns,
                                  const Visit& visit) {
  double grad_remaining = grad_sizes[class_at(row, row.classes - 1)];
  for (int64_t p = row.classes - 2; p >= 0; --p) {
    const int64_t k = class_at(row, p);
    const double a = grad_sizes[k] - grad_remaining;
    visit(p, k, a, statistics + k * columns);
    grad_remaining += a * statistics[k * columns + 1];
  }
}

}  // namespace DRPM_ISA
}  // namespace drpm
