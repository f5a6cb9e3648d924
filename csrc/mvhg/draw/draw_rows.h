// Sizes without a relaxation, along one row, for a team of the CPU or the device (docs/math/mvhg.md, section 6).
#pragma once

#include "lanes/team.h"
#include "mvhg/contour/contour_math.h"
#include "mvhg/draw/draw.h"
#include "noise/philox.h"

namespace drpm {
namespace DRPM_ISA {

DRPM_HD inline double draw_uniform(const NoiseRow& at, int64_t klass, int64_t trial) {
  return uniform_at<double>(at, kStreamDraw, static_cast<uint32_t>(klass), static_cast<uint64_t>(trial));
}

// log Pr[X_0 + ... = total] for independent X_l ~ Binomial(m_l, sigmoid(log_omega_l - origin + tilt)), by a contour
// that is tilted to this total; the difference of the tilts enters through log1p, not as a difference of large terms.
template <class V, class Team, class T>
DRPM_OUTLINED DRPM_DEVICE inline double log_total_probability(const Team& team, const int64_t* m, const T* log_omega,
                                                              int64_t classes, int64_t total, double tilt,
                                                              double origin, double* scratch) {
  MvhgRow row = mvhg_row(m, total, classes, log_omega);
  if (!row.valid) return -__builtin_huge_val();
  row.origin = origin;
  Contour c = place_contour(row, scratch);
  double sum = 0;
  if (c.point) {
    for (int64_t l = 0; l < classes; ++l) {
      const double a = log_weight(row, log_omega, l) + tilt,
                   items = static_cast<double>(possible_items(m, log_omega, l));
      sum -= items == 0 ? 0 : items * softplus(total == 0 ? a : -a);
    }
    return sum;
  }
  solve_contour<V>(team, &c, log_omega, 38);
  const double shift = c.tilt - tilt;
  for (int64_t l = 0; l < classes; ++l) {
    const double p = odds_of(log_weight(row, log_omega, l) + tilt).p;
    sum += static_cast<double>(m[l]) * log1p_lane<double>(p * expm1_lane<double>(shift));
  }
  return c.log_total + (sum - static_cast<double>(total) * shift);
}

// Rejection for a log-concave law whose mode and its probability are known (Devroye 1987): about 4 trials.
template <class V, class Team, class T>
DRPM_OUTLINED DRPM_DEVICE inline int64_t reject(const Team& team, const MvhgDrawArgs<T>& args, const MvhgRow& row,
                                                const T* log_omega, int64_t k, int64_t r, double tilt,
                                                const NoiseRow& at) {
  const int64_t classes = row.classes - k;
  const int64_t* m = row.m + k;
  const T* weights = log_omega + k;
  double* scratch = args.contours;
  const MvhgRow here = mvhg_row(m, r, classes, weights);
  const int64_t own = possible_items(m, weights, 0);
  if (r == 0 || own == 0 || r == here.total) return r == 0 ? 0 : own;
  const double log_all = log_total_probability<V>(team, m, weights, classes, r, tilt, row.origin, scratch);
  const double a = log_weight(row, log_omega, k) + tilt;
  const Odds odds = odds_of(a);
  const double log_p = -softplus(-a), log_q = -softplus(a);
  auto log_prob = [&](int64_t x) {
    if (x < 0 || x > own || x > r) return -__builtin_huge_val();
    const double rest =
        log_total_probability<V>(team, m + 1, weights + 1, classes - 1, r - x, tilt, row.origin, scratch);
    return log_binomial_probability(static_cast<double>(x), static_cast<double>(own), odds.p, odds.q, log_p, log_q) +
           rest - log_all;
  };
  Contour c = place_contour(here, scratch);
  solve_contour<V>(team, &c, weights, 38);
  const double mean = static_cast<double>(own) * (c.p[0] + mean_rho<V>(team, c, 0));
  int64_t mode = static_cast<int64_t>(mean + 0.5);
  const int64_t later = here.total - own;
  const int64_t low = r > later ? r - later : 0, high = own < r ? own : r;
  mode = mode < low ? low : (mode > high ? high : mode);
  double at_mode = log_prob(mode);
  for (int64_t direction = -1; direction <= 1; direction += 2) {
    for (double next = log_prob(mode + direction); next > at_mode; next = log_prob(mode + direction)) {
      mode += direction;
      at_mode = next;
    }
  }
  const double peak = exp_lane<double>(at_mode), width = 1 + 0.5 * peak;
  for (int64_t element = 0;; element += 4) {
    const double u = draw_uniform(at, k, element), v = draw_uniform(at, k, element + 1);
    const double w = draw_uniform(at, k, element + 2), s = draw_uniform(at, k, element + 3);
    const bool body = u <= width / (1 + width);
    const double y = body ? v * width / peak : (width - log_lane<double>(v)) / peak;
    const double bound = body ? 0 : width - peak * y;
    if (y > 9e15) continue;
    const int64_t distance = static_cast<int64_t>(y + 0.5), x = s < 0.5 ? mode - distance : mode + distance;
    if (x < low || x > high) continue;
    if (log_lane<double>(w) + bound <= log_prob(x) - at_mode) return x;
  }
}

// `table_draw(k, remaining, u)` inverts the conditional in the tables; rows beyond them are drawn by rejection. `tilt`
// is that of the row.
template <class V, class Team, class T, class TableDraw>
DRPM_OUTLINED DRPM_DEVICE inline void draw_row(const Team& team, const MvhgDrawArgs<T>& args, const MvhgRow& group,
                                               double tilt, const T* log_omega, int64_t row,
                                               const TableDraw& table_draw) {
  const int64_t classes = group.classes;
  T* sizes = args.sizes + row * classes;
  if (!group.valid) return team_fill(team, sizes, classes, kNaN);
  const NoiseRow at = noise_row(args.common.seeds, row);
  int64_t remaining = group.n;
  for (int64_t k = 0; k < classes; ++k) {
    int64_t x = remaining;
    if (k < classes - 1) {
      if (is_point(group))
        x = group.n == 0 ? 0 : possible_items(group.m, log_omega, k);
      else if (group.n <= args.largest_table)
        x = table_draw(k, remaining, draw_uniform(at, k, 0));
      else
        x = reject<V>(team, args, group, log_omega, k, remaining, tilt, at);
    }
    if (team.first()) sizes[k] = static_cast<T>(x);
    remaining -= x;
  }
}

}  // namespace DRPM_ISA
}  // namespace drpm
