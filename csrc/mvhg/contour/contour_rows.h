// What the contour kernels do with one row, for a team of the CPU or the device (docs/math/mvhg.md, section 4).
#pragma once

#include "lanes/team.h"
#include "mvhg/contour/cumulant_math.h"
#include "mvhg/support.h"

namespace drpm {
namespace DRPM_ISA {

// Truncation of the contour, log(1 / eps).
template <class T>
constexpr double kCut = sizeof(T) == 4 ? 20 : 38;

template <class V, class Team, class T>
DRPM_DEVICE inline void write_mean(const Team& team, const Contour& c, const T* log_omega, T* mean) {
  for (int64_t k = 0; k < c.row.classes; ++k) {
    const double m = static_cast<double>(possible_items(c.row.m, log_omega, k));
    const double expected = c.point ? (c.row.n == 0 ? 0 : m) : m * (c.p[k] + mean_rho<V>(team, c, k));
    if (team.first()) mean[k] = static_cast<T>(expected);
  }
}

template <class V, class Team, class T>
DRPM_DEVICE inline void normalizer_row(const Team& team, const MvhgNormalizerArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  const MvhgRow parameters = mvhg_row(args.counts, row, log_omega);
  T* mean = args.mean == nullptr ? nullptr : args.mean + row * classes;
  if (!parameters.valid) {
    if (team.first()) args.log_normalizer[row] = static_cast<T>(kNaN);
    if (mean != nullptr) team_fill(team, mean, classes, kNaN);
    return;
  }
  Contour c = place_contour(parameters, args.scratch);
  double log_normalizer = 0;
  if (!c.point) {
    solve_contour<V>(team, &c, log_omega, kCut<T>);
    log_normalizer = log_normalizer_of(team, c, log_omega);
  } else if (parameters.n > 0) {
    for (int64_t k = 0; k < classes; ++k)
      if (log_omega[k] > -__builtin_huge_val()) log_normalizer += static_cast<double>(parameters.m[k]) * log_omega[k];
  }
  if (team.first()) args.log_normalizer[row] = static_cast<T>(log_normalizer);
  if (mean != nullptr) write_mean<V>(team, c, log_omega, mean);
}

template <class V, class Team, class T>
DRPM_DEVICE inline void log_prob_row(const Team& team, const MvhgLogProbArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  const T* sizes = args.sizes + row * classes;
  const MvhgRow parameters = mvhg_row(args.counts, row, log_omega);
  T* mean = args.mean == nullptr ? nullptr : args.mean + row * classes;
  if (!parameters.valid) {
    if (team.first()) args.log_prob[row] = static_cast<T>(kNaN);
    if (mean != nullptr) team_fill(team, mean, classes, kNaN);
    return;
  }
  Contour c = place_contour(parameters, args.scratch);
  if (!c.point) solve_contour<V>(team, &c, log_omega, kCut<T>);
  if (mean != nullptr) write_mean<V>(team, c, log_omega, mean);
  const double support = log_support(parameters, log_omega, sizes);
  if (!(support == 0)) {
    if (team.first()) args.log_prob[row] = static_cast<T>(support);
    return;
  }
  double log_prob = 0;
  for (int64_t k = team.rank(); k < classes && !c.point; k += Team::kSize) {
    const double m = static_cast<double>(possible_items(parameters.m, log_omega, k));
    const double a = log_weight(c.row, log_omega, k) + c.tilt;
    if (m > 0) log_prob += log_binomial_probability(sizes[k], m, c.p[k], c.q[k], -softplus(-a), -softplus(a));
  }
  log_prob = team.sum(log_prob) - (c.point ? 0 : c.log_total);
  if (team.first()) args.log_prob[row] = static_cast<T>(log_prob);
}

// With rho~ = rho - <rho>, s_k = r_k (1 - r_k), t_k = s_k (1 - 2 r_k), r_k = p_k + rho_k, and sums over classes
//   A_v = sum m_k v_k rho~_k,  R_vw = A_v A_w + sum m_k v_k w_k s_k  (~: minus its mean over the nodes):
// (Cov v)_k = m_k [ < rho~_k A_v > + v_k < s_k > ]                                                  (Eq. 15)
// kappa(k, v, w) = m_k [ < rho~_k R_vw > + v_k < s_k A_w > + w_k < s_k A_v > + v_k w_k < t_k > ]    (Eq. 16)
// kappa(k, u, v, w) = m_k [ < rho~_k Q > + sum over u of (u_k < s_k R~_vw > + v_k w_k < t_k A_u >)
//                           + u_k v_k w_k < s_k (1 - 6 s_k) > ],
//   Q = sum over u of A_u R~_vw - 2 A_u A_v A_w + sum m_k u_k v_k w_k t_k                           (Eq. 16a)
// as the classes are independent binomials given the node (law of total cumulance).
template <class V, class Team, class T>
DRPM_DEVICE inline void cumulant_row(const Team& team, const MvhgCumulantArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  T* out = args.out + row * classes;
  const MvhgRow parameters = mvhg_row(args.counts, row, log_omega);
  Contour c = place_contour(parameters, args.scratch);
  if (!parameters.valid || c.point) return team_fill(team, out, classes, parameters.valid ? 0 : kNaN);
  solve_contour<V>(team, &c, log_omega, kCut<T>);
  double* rho_mean = args.scratch + contour_scratch(classes);
  for (int64_t k = 0; k < classes; ++k) {
    const double mean = mean_rho<V>(team, c, k);
    if (team.first()) rho_mean[k] = mean;
  }
  team.sync();

  const int count = args.v == nullptr ? 1 : (args.w == nullptr ? 2 : 3);
  const T* along[3] = {args.u, args.v, args.w};
  for (int i = 0; i < count; ++i) along[i] += row * classes;
  NodeValues<V, Team> a[3], pair[3], q;  // pair[i] leaves out direction i
  for (int i = 0; i < count; ++i) total_along(team, c, rho_mean, along[i], &a[i]);
  if (count == 1) {
    q = a[0];
  } else if (count == 2) {
    pair_along(team, c, a[0], along[0], a[1], along[1], &q);
  } else {
    for (int i = 0; i < 3; ++i) {
      const int one = (i + 1) % 3, other = (i + 2) % 3;
      pair_along(team, c, a[one], along[one], a[other], along[other], &pair[i]);
      subtract_mean(team, c, &pair[i]);
    }
    for_nodes<V>(team, c.nodes, [&](int64_t j, int64_t slot) {
      Complex<V> sum = scaled<V>(times<V>(times<V>(a[0].at(slot), a[1].at(slot)), a[2].at(slot)), -2);
      for (int i = 0; i < 3; ++i) sum = plus<V>(sum, times<V>(a[i].at(slot), pair[i].at(slot)));
      for (int64_t k = 0; k < classes; ++k) {
        const double factor = static_cast<double>(parameters.m[k]) * along[0][k] * along[1][k] * along[2][k];
        sum = plus<V>(sum, scaled<V>(binomial_at<V>(c, k, j).third(), factor));
      }
      q.set(slot, sum);
    });
  }
  for (int64_t k = 0; k < classes; ++k) {
    double v[3] = {1, 1, 1};
    for (int i = 0; i < count; ++i) v[i] = along[i][k];
    V sum{};
    for_nodes<V>(team, c.nodes, [&](int64_t j, int64_t slot) {
      const BinomialAt<V> x = binomial_at<V>(c, k, j);
      Complex<V> f = times<V>({x.rho.re - rho_mean[k], x.rho.im}, q.at(slot));
      if (count == 1) {
        f = plus<V>(f, scaled<V>(x.s, v[0]));
      } else if (count == 2) {
        f = plus<V>(f, times<V>(x.s, plus<V>(scaled<V>(a[0].at(slot), v[1]), scaled<V>(a[1].at(slot), v[0]))));
        f = plus<V>(f, scaled<V>(x.third(), v[0] * v[1]));
      } else {
        Complex<V> with_s{}, with_t{};
        for (int i = 0; i < 3; ++i) {
          with_s = plus<V>(with_s, scaled<V>(pair[i].at(slot), v[i]));
          with_t = plus<V>(with_t, scaled<V>(a[i].at(slot), v[(i + 1) % 3] * v[(i + 2) % 3]));
        }
        f = plus<V>(f, plus<V>(times<V>(x.s, with_s), times<V>(x.third(), with_t)));
        f = plus<V>(f, scaled<V>(x.fourth(), v[0] * v[1] * v[2]));
      }
      sum += real_of_product<V>(weight_at<V>(c, j), f);
    });
    const double value = team.sum(sum_lanes<V>(sum));
    if (team.first()) out[k] = static_cast<T>(static_cast<double>(parameters.m[k]) * value);
  }
}

// Divergence of Bernoulli(a) from Bernoulli(b), times nothing; both sides from p and q, no cancellation. Log odds of a
// may be infinite.
DRPM_HD inline double bernoulli_kl(Odds a, Odds b, double log_odds_a, double log_odds_b) {
  if (log_odds_a - log_odds_a != 0) return softplus(log_odds_a > 0 ? -log_odds_b : log_odds_b);
  if (b.p < 1e-290 || b.q < 1e-290 || a.p < 1e-290 || a.q < 1e-290)
    return a.p * (log_odds_a - log_odds_b) - (softplus(log_odds_a) - softplus(log_odds_b));
  return deviance(a.p, b.p) + deviance(a.q, b.q);
}

// Whether q draws from a class that p cannot draw from.
template <class T>
DRPM_HD inline bool draws_beyond(const MvhgRow& row, const T* log_q, const T* log_p) {
  for (int64_t k = 0; k < row.classes && row.n > 0; ++k)
    if (possible_items(row.m, log_q, k) > 0 && possible_items(row.m, log_p, k) == 0) return true;
  return false;
}

// KL = sum_k m_k [ KL(Bernoulli p_k(q) || Bernoulli p_k(p)) + <rho_k>_q delta_k ] - log P_S(q) + log P_S(p),
// delta_k the difference of the tilted log odds: the large terms of Eq. 12 cancel before they are rounded.  (Eq. 17)
// A point mass q has infinite tilted log odds.
template <class V, class Team, class T>
DRPM_DEVICE inline void kl_row(const Team& team, const MvhgKlArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_q = args.log_omega_q + row * classes;
  const T* log_p = args.log_omega_p + row * classes;
  const MvhgRow row_q = mvhg_row(args.counts, row, log_q), row_p = mvhg_row(args.counts, row, log_p);
  if (!row_q.valid || !row_p.valid) {
    if (team.first()) args.kl[row] = static_cast<T>(kNaN);
    team_fill(team, args.mean_q + row * classes, classes, kNaN);
    team_fill(team, args.mean_p + row * classes, classes, kNaN);
    return;
  }
  Contour q = place_contour(row_q, args.scratch);
  Contour p = place_contour(row_p, args.scratch + contour_scratch(classes));
  const bool beyond = draws_beyond(row_q, log_q, log_p);
  double kl = 0;
  // a small divergence is a difference: always float64's precision
  if (!q.point) solve_contour<V>(team, &q, log_q, kCut<double>);
  if (!p.point) solve_contour<V>(team, &p, log_p, kCut<double>);
  if (!p.point && !beyond) {
    for (int64_t k = 0; k < classes; ++k) {
      const bool drawn = possible_items(row_q.m, log_q, k) > 0;
      const double certain = drawn ? __builtin_huge_val() : -__builtin_huge_val();
      const double a = q.point ? certain : log_weight(row_q, log_q, k) + q.tilt,
                   b = log_weight(row_p, log_p, k) + p.tilt;
      const double rho = q.point || !drawn ? 0 : mean_rho<V>(team, q, k);
      if (k % Team::kSize != team.rank() || possible_items(row_p.m, log_p, k) == 0) continue;
      const double own = bernoulli_kl(q.point ? Odds{} : Odds{q.p[k], q.q[k]}, {p.p[k], p.q[k]}, a, b);
      kl += static_cast<double>(row_p.m[k]) * (own + (rho == 0 ? 0 : rho * (a - b)));
    }
    kl = team.sum(kl) + (p.log_total - q.log_total);
  }
  if (beyond) kl = __builtin_huge_val();
  if (team.first()) args.kl[row] = static_cast<T>(kl < 0 ? 0 : kl);
  write_mean<V>(team, q, log_q, args.mean_q + row * classes);
  write_mean<V>(team, p, log_p, args.mean_p + row * classes);
}

}  // namespace DRPM_ISA
}  // namespace drpm
