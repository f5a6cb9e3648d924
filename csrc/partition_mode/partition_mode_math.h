// Numerics of the most probable partition (docs/math/partition_log_prob.md, section on the mode). No torch headers.
#pragma once

#include "lanes/team.h"
#include "partition_mode/partition_mode.h"
#include "special/decay.h"
#include "special/log_add.h"
#include "special/log_binomial.h"
#include "special/score_rows.h"

namespace drpm {
namespace DRPM_ISA {

constexpr int kModeFlush = 16;  // elements between two renormalisations; their product stays within range, see below

// ---- trapezoid nodes of x(y) = int sqrt(25 + e^y / 0.64) dy: steps of 0.2, or 0.8 peak widths where that is less ----
constexpr double kModeLeft = -34;

DRPM_HD inline double mode_right(int64_t n) {
  const double size = static_cast<double>(n);
  return log_lane<double>(size + 40 + 9 * __builtin_sqrt(size));
}

DRPM_HD inline double mode_density(double y) { return __builtin_sqrt(25 + exp_lane<double>(y) / 0.64); }

DRPM_HD inline double mode_position(double y) {  // Eq. 16
  const double u = mode_density(y);
  // log((u - c) / (u + c)) without cancellation
  return 2 * u + 5 * (log_lane<double>(1 / 0.64) + y - 2 * log_lane<double>(u + 5));
}

inline int64_t mode_node_count(int64_t n) {
  return static_cast<int64_t>(mode_position(mode_right(n)) - mode_position(kModeLeft)) + 1;
}

// y of node j. The position is convex, so Newton's steps from the right end only ever go left.
DRPM_HD inline double mode_node(int64_t j, int64_t n) {
  const double wanted = mode_position(kModeLeft) + static_cast<double>(j);
  double y = mode_right(n);
  for (int step = 0; step < 50; ++step) {
    const double change = (wanted - mode_position(y)) / mode_density(y);
    y += change;
    if (abs_lane<double>(change) < 1e-14 * (1 + abs_lane<double>(y))) break;
  }
  return y;
}

DRPM_HD inline double mode_node_scale(double y) { return exp_lane<double>(y); }

DRPM_HD inline double mode_node_base(double y) { return y - exp_lane<double>(y) - log_lane<double>(mode_density(y)); }

// e^{a}, the element's score over the sum of the rest; z is that times the node's scale. The scores are sorted, so
// every z is at least e^y / n.                                                                              (Eq. 17)
DRPM_HD inline double mode_point(double ratio) { return exp_lane<double>(min_lane<double>(ratio, 100)); }

template <class V>
DRPM_HD inline V mode_factor(V scale, double point) {
  return decay<V>(cut_z<V>(scale * point)).complement;
}

// Position of [0, b) in a row of `interval`.
DRPM_HD inline int64_t interval_begin(int64_t b) { return b * (b - 1) / 2; }

// The largest log omega, against which all are taken; -inf is a weight of 0. NaN where one of them is NaN or +inf, or a
// score of the row is not finite: then nothing is most probable.
template <class Team, class T>
DRPM_DEVICE inline double mode_top(const Team& team, const PartitionModeArgs<T>& args, int64_t row) {
  const T* log_omega = args.log_omega + row * args.num_subsets;
  const double scores = finite_largest(team, args.log_scores + row * args.n, args.n);
  double top = -__builtin_huge_val();
  for (int64_t k = 0; k < args.num_subsets; ++k) {
    const double here = log_omega[k];
    if (!(here < __builtin_huge_val())) return __builtin_nan("");
    top = here > top ? here : top;
  }
  return scores == scores ? top : scores;
}

template <class T>
DRPM_HD inline double mode_log_omega(const PartitionModeArgs<T>& args, int64_t subset) {
  const T log_omega = args.log_omega[subset];
  return log_omega > -__builtin_huge_val() ? reduced(log_omega, args.top[subset / args.num_subsets])
                                           : -__builtin_huge_val();
}

// log C(m, x) + x log omega: what x elements in a subset weigh                                              (Eq. 18)
DRPM_HD inline double mode_weight(int64_t m, int64_t x, double log_omega, const LogFactorialTable& table) {
  if (x > m) return -__builtin_huge_val();
  const double items = static_cast<double>(m), chosen = static_cast<double>(x);
  const double own = x == 0 ? 0 : chosen * log_omega;
  if (m > kPartitionModeLimit) return own + log_binomial_coefficient(items, chosen);
  return own + log_factorial(items, table) - log_factorial(chosen, table) - log_factorial(items - chosen, table);
}

// best_k(b) = max_a best_{k-1}(a) + interval(a, b) + log C(m_k, b - a) + (b - a) log omega_k for one b, by a team; of
// equal values the empty subset wins, then the smallest a.                                                  (Eq. 18)
template <class Team, class T>
DRPM_DEVICE inline void mode_boundary(const Team& team, const PartitionModeArgs<T>& args, int64_t row, int64_t k,
                                      int64_t b) {
  const int64_t n = args.n, width = n + 1, subset = row * args.num_subsets + k;
  const double* before = args.best + (2 * row + k % 2) * width;
  const double* ending = args.interval + row * interval_begin(width) + interval_begin(b);
  const double* weight = args.weight + subset * width;
  const int64_t most = args.m[subset] < n ? args.m[subset] : n;
  double best = -__builtin_huge_val();
  int64_t from = b;
  for (int64_t a = (b > most ? b - most : 0) + team.rank(); a < b; a += team.size()) {
    const double value = before[a] + ending[a] + weight[b - a];
    if (value > best) best = value, from = a;
  }
  team.first_largest(&best, &from);
  if (!team.first()) return;
  const double empty = most >= 0 ? before[b] + weight[0] : -__builtin_huge_val();
  args.best[(2 * row + (k + 1) % 2) * width + b] = best > empty ? best : empty;
  args.start[subset * width + b] = static_cast<int32_t>(best > empty ? from : b);
}

// Back from the last boundary by one, then labels by all.
template <class Team, class T>
DRPM_DEVICE inline void mode_labels(const Team& team, const PartitionModeArgs<T>& args, int64_t row) {
  const int64_t n = args.n, width = n + 1, subsets = args.num_subsets;
  const int64_t* order = args.order + row * n;
  int64_t *cut = args.cut + row * (subsets + 1), *labels = args.labels + row * n;
  if (team.first()) {
    cut[subsets] = n;
    for (int64_t k = subsets - 1; k >= 0; --k) cut[k] = args.start[(row * subsets + k) * width + cut[k + 1]];
  }
  team.sync();
  const bool possible =
      args.top[row] == args.top[row] && args.best[(2 * row + subsets % 2) * width + n] > -__builtin_huge_val();
  for (int64_t k = 0; k < subsets; ++k)
    for (int64_t i = cut[k] + team.rank(); i < cut[k + 1]; i += team.size()) labels[order[i]] = possible ? k : -1;
  for (int64_t i = team.rank(); i < cut[0]; i += team.size()) labels[order[i]] = -1;
}

}  // namespace DRPM_ISA
}  // namespace drpm
