// The exponential tilt of the MVHG: independent binomials with success probabilities p_k = sigmoid(log omega_k + T),
// where sum m_k p_k = n, conditioned on their total (docs/math/mvhg.md, section 4). log omega is log_weight(): less the
// row's largest, so that T keeps its digits whatever the magnitude.
#pragma once

#include "lanes/lane_math.h"
#include "lanes/team.h"
#include "mvhg/law.h"

namespace drpm {
namespace DRPM_ISA {

// sigmoid(a), sigmoid(-a), both with full relative accuracy; a = -inf gives 0 and 1.
template <class V>
struct OddsOf {
  V p, q;
};
using Odds = OddsOf<double>;

template <class V>
DRPM_HD inline OddsOf<V> odds_lanes(V a) {
  const V e = exp_lane<V>(-abs_lane<V>(a)), big = 1.0 / (1.0 + e), small = e * big;
  return {a < 0 ? small : big, a < 0 ? big : small};
}

DRPM_HD inline Odds odds_of(double a) { return odds_lanes<double>(a); }

DRPM_HD inline double softplus(double a) {
  return (a > 0 ? a : 0) + log1p_lane<double>(exp_lane<double>(a < 0 ? a : -a));
}

struct TiltSums {
  double excess;    // sum m p - n, from the smaller of p and q so that large counts do not cancel
  double variance;  // sum m p q
};

template <class Team, class T>
DRPM_OUTLINED DRPM_DEVICE inline TiltSums tilt_sums(const Team& team, const MvhgRow& row, const T* log_omega,
                                                    double tilt) {
  double small = 0, variance = 0;
  int64_t whole = 0;
  for (int64_t k = team.rank(); k < row.classes; k += Team::kSize) {
    const double m = static_cast<double>(row.m[k]), a = log_weight(row, log_omega, k) + tilt;
    const Odds odds = odds_of(a);
    if (a > 0) {
      whole += row.m[k];
      small -= m * odds.q;
    } else {
      small += m * odds.p;
    }
    variance += m * odds.p * odds.q;
  }
  return {static_cast<double>(team.sum(whole) - row.n) + team.sum(small), team.sum(variance)};
}

// T with sum m_k sigmoid(log omega_k + T) = n for 0 < n < total = sum m: Newton's method inside a bracket. (Eq. 10)
// Eq. 12 holds for any T and the contour's phase carries the excess that is left, so T need not be exact.
// `highest`, `lowest`: of the log omega of classes that hold items; sums(T) gives the TiltSums.
template <class Sums>
DRPM_DEVICE inline double find_tilt(double n, double total, double highest, double lowest, const Sums& sums_at) {
  const double centre = log_lane<double>(n) - log_lane<double>(total - n);
  double low = centre - highest, high = centre - lowest, tilt = 0.5 * (low + high);
  for (int iteration = 0; iteration < 1200; ++iteration) {  // halves any interval down to neighbouring doubles
    const TiltSums sums = sums_at(tilt);
    // for large counts a small part of a standard deviation: rounded differences from the tilted means are to be small
    const double relative = 1e-8 * (1 + sums.variance), deviations = 1e-4 * __builtin_sqrt(1 + sums.variance);
    const double allowed = relative < deviations ? relative : deviations;
    if (sums.excess <= allowed && sums.excess >= -allowed) break;
    (sums.excess > 0 ? high : low) = tilt;
    double next = sums.variance > 0 ? tilt - sums.excess / sums.variance : low - 1;
    if (!(next > low && next < high)) next = 0.5 * (low + high);
    tilt = next;
    if (high - low < 1e-14 || !(tilt > low && tilt < high)) break;
  }
  return tilt;
}

template <class Team, class T>
DRPM_OUTLINED DRPM_DEVICE inline double solve_tilt(const Team& team, const MvhgRow& row, const T* log_omega) {
  double highest = -__builtin_huge_val(), lowest = __builtin_huge_val();
  for (int64_t k = 0; k < row.classes; ++k) {
    if (possible_items(row.m, log_omega, k) == 0) continue;
    const double a = log_weight(row, log_omega, k);
    highest = a > highest ? a : highest;
    lowest = a < lowest ? a : lowest;
  }
  return find_tilt(static_cast<double>(row.n), static_cast<double>(row.total), highest, lowest,
                   [&](double tilt) { return tilt_sums(team, row, log_omega, tilt); });
}

}  // namespace DRPM_ISA
}  // namespace drpm
