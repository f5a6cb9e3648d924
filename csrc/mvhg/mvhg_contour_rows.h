// What the contour kernels do with one row, for a team of the CPU or the device (docs/math/mvhg.md, section 4).
#pragma once

#include "common/team.h"
#include "mvhg/mvhg_contour_math.h"
#include "mvhg/mvhg_support.h"

namespace drpm {
namespace DRPM_ISA {

// Truncation of the contour, log(1 / eps).
template <class T>
constexpr double kCut = sizeof(T) == 4 ? 20 : 38;

template <class T>
DRPM_HD inline MvhgRow row_of(const MvhgCounts& counts, const T* log_omega, int64_t row) {
  return mvhg_row(counts.m + row * counts.m_stride, counts.n[row * counts.n_stride], counts.classes, log_omega);
}

template <class V, class Team, class T>
DRPM_DEVICE inline void write_mean(const Team& team, const Contour& c, T* mean) {
  for (int64_t k = 0; k < c.row.classes; ++k) {
    const double m = static_cast<double>(c.row.m[k]);
    const double expected = c.point ? (c.row.n == 0 ? 0 : m) : m * (c.p[k] + mean_rho<V>(team, c, k));
    if (team.first()) mean[k] = static_cast<T>(expected);
  }
}

template <class V, class Team, class T>
DRPM_DEVICE inline void normalizer_row(const Team& team, const MvhgNormalizerArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  const MvhgRow parameters = row_of(args.counts, log_omega, row);
  T* mean = args.mean == nullptr ? nullptr : args.mean + row * classes;
  if (!parameters.valid) {
    if (team.first()) args.log_normalizer[row] = static_cast<T>(__builtin_nan(""));
    if (mean != nullptr) team_fill(team, mean, classes, __builtin_nan(""));
    return;
  }
  Contour c = place_contour(parameters, args.scratch);
  double log_normalizer = 0;
  if (!c.point) {
    solve_contour<V>(team, &c, log_omega, kCut<T>);
    log_normalizer = log_normalizer_of(team, c, log_omega);
  } else if (parameters.n > 0) {
    for (int64_t k = 0; k < classes; ++k) log_normalizer += static_cast<double>(parameters.m[k]) * log_omega[k];
  }
  if (team.first()) args.log_normalizer[row] = static_cast<T>(log_normalizer);
  if (mean != nullptr) write_mean<V>(team, c, mean);
}

template <class V, class Team, class T>
DRPM_DEVICE inline void log_prob_row(const Team& team, const MvhgLogProbArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  const T* sizes = args.sizes + row * classes;
  const MvhgRow parameters = row_of(args.counts, log_omega, row);
  T* mean = args.mean == nullptr ? nullptr : args.mean + row * classes;
  if (!parameters.valid) {
    if (team.first()) args.log_prob[row] = static_cast<T>(__builtin_nan(""));
    if (mean != nullptr) team_fill(team, mean, classes, __builtin_nan(""));
    return;
  }
  Contour c = place_contour(parameters, args.scratch);
  if (!c.point) solve_contour<V>(team, &c, log_omega, kCut<T>);
  if (mean != nullptr) write_mean<V>(team, c, mean);
  if (!sizes_are_possible(parameters.m, parameters.n, classes, sizes)) {
    if (team.first()) args.log_prob[row] = static_cast<T>(-__builtin_huge_val());
    return;
  }
  double log_prob = 0;
  for (int64_t k = team.rank(); k < classes && !c.point; k += Team::kSize) {
    const double a = static_cast<double>(log_omega[k]) + c.tilt;
    log_prob += log_binomial_probability(sizes[k], static_cast<double>(parameters.m[k]), c.p[k], c.q[k], -softplus(-a),
                                         -softplus(a));
  }
  log_prob = team.sum(log_prob) - (c.point ? 0 : c.log_total);
  if (team.first()) args.log_prob[row] = static_cast<T>(log_prob);
}

// With rho~ = rho - <rho>, s_k = r_k (1 - r_k), r_k = p_k + rho_k, and sums over classes at each node
//   A_v = sum m_k v_k rho~_k,  C = sum m_k v_k w_k s_k:
// (Cov v)_k = m_k < rho~_k A_v > + m_k v_k < s_k >                                                  (Eq. 15)
// kappa(k, v, w) = m_k < rho~_k (A_v A_w + C~) > + m_k v_k < s~_k A_w > + m_k w_k < s~_k A_v >
//                  + m_k v_k w_k < s_k (1 - 2 r_k) >                                                (Eq. 16)
// as the classes are independent binomials given the node (law of total cumulance); < rho~ > = 0 absorbs the tildes.
template <class V, class Team>
struct Direction {  // of the member's own nodes
  V re[kNodeSlots<V, Team>], im[kNodeSlots<V, Team>];
};

template <class V, class Team, class T>
DRPM_DEVICE inline void direction_sum(const Team& team, const Contour& c, const double* rho_mean, const T* v,
                                      Direction<V, Team>* out) {
  for_nodes<V>(team, c.nodes, [&](int64_t j, int64_t slot) {
    V re{}, im{};
    for (int64_t k = 0; k < c.row.classes; ++k) {
      const Complex<V> rho = rho_at<V>(c, k, j);
      const double factor = static_cast<double>(c.row.m[k]) * v[k];
      re += (rho.re - rho_mean[k]) * factor;
      im += rho.im * factor;
    }
    out->re[slot] = re;
    out->im[slot] = im;
  });
}

template <class V>
DRPM_HD inline Complex<V> success(const Contour& c, int64_t k, Complex<V> rho) {
  return {rho.re + c.p[k], rho.im};
}

template <class V>
DRPM_HD inline Complex<V> spread(Complex<V> r, double q, Complex<V> rho) {  // r (1 - r), with 1 - r = q - rho
  return times<V>(r, {splat<V>(q) - rho.re, -rho.im});
}

template <class V, class Team, class T>
DRPM_DEVICE inline void cumulant_row(const Team& team, const MvhgCumulantArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  const T* v = args.v + row * classes;
  const T* w = args.w == nullptr ? nullptr : args.w + row * classes;
  T* out = args.out + row * classes;
  const MvhgRow parameters = row_of(args.counts, log_omega, row);
  Contour c = place_contour(parameters, args.scratch);
  if (!parameters.valid || c.point) return team_fill(team, out, classes, parameters.valid ? 0 : __builtin_nan(""));
  solve_contour<V>(team, &c, log_omega, kCut<T>);
  double* rho_mean = args.scratch + contour_scratch(classes);
  for (int64_t k = 0; k < classes; ++k) {
    const double mean = mean_rho<V>(team, c, k);
    if (team.first()) rho_mean[k] = mean;
  }
  team.sync();

  Direction<V, Team> a_v, a_w, q;  // q = A_v, or A_v A_w + C
  direction_sum(team, c, rho_mean, v, &a_v);
  if (w != nullptr) direction_sum(team, c, rho_mean, w, &a_w);
  for_nodes<V>(team, c.nodes, [&](int64_t j, int64_t i) {
    Complex<V> sum{a_v.re[i], a_v.im[i]};
    if (w != nullptr) {
      sum = times<V>(sum, {a_w.re[i], a_w.im[i]});
      for (int64_t k = 0; k < classes; ++k) {
        const Complex<V> rho = rho_at<V>(c, k, j), s = spread<V>(success<V>(c, k, rho), c.q[k], rho);
        const double factor = static_cast<double>(parameters.m[k]) * v[k] * w[k];
        sum.re += s.re * factor;
        sum.im += s.im * factor;
      }
    }
    q.re[i] = sum.re;
    q.im[i] = sum.im;
  });
  for (int64_t k = 0; k < classes; ++k) {
    V between{}, within{}, with_v{}, with_w{};
    for_nodes<V>(team, c.nodes, [&](int64_t j, int64_t i) {
      const Complex<V> weight = weight_at<V>(c, j), rho = rho_at<V>(c, k, j);
      const Complex<V> r = success<V>(c, k, rho), s = spread<V>(r, c.q[k], rho);
      const Complex<V> centred = times<V>(weight, {rho.re - rho_mean[k], rho.im});
      const Complex<V> weighted = times<V>(weight, s);
      between += real_of_product<V>(centred, {q.re[i], q.im[i]});
      if (w == nullptr) {
        within += weighted.re;
      } else {
        with_v += real_of_product<V>(weighted, {a_v.re[i], a_v.im[i]});
        with_w += real_of_product<V>(weighted, {a_w.re[i], a_w.im[i]});
        within += real_of_product<V>(weighted, {splat<V>(1) - r.re * 2.0, r.im * -2.0});
      }
    });
    double sum = sum_lanes<V>(between);
    if (w == nullptr)
      sum += v[k] * sum_lanes<V>(within);
    else
      sum += v[k] * sum_lanes<V>(with_w) + w[k] * sum_lanes<V>(with_v) + v[k] * w[k] * sum_lanes<V>(within);
    sum = team.sum(sum);
    if (team.first()) out[k] = static_cast<T>(static_cast<double>(parameters.m[k]) * sum);
  }
}

// Divergence of Bernoulli(a) from Bernoulli(b), times nothing; both sides from p and q, no cancellation.
DRPM_HD inline double bernoulli_kl(Odds a, Odds b, double log_odds_a, double log_odds_b) {
  if (b.p < 1e-290 || b.q < 1e-290 || a.p < 1e-290 || a.q < 1e-290)
    return a.p * (log_odds_a - log_odds_b) - (softplus(log_odds_a) - softplus(log_odds_b));
  return deviance(a.p, b.p) + deviance(a.q, b.q);
}

// KL = sum_k m_k [ KL(Bernoulli p_k(q) || Bernoulli p_k(p)) + <rho_k>_q delta_k ] - log P_S(q) + log P_S(p),
// delta_k the difference of the tilted log odds: the large terms of Eq. 12 cancel before they are rounded.  (Eq. 17)
template <class V, class Team, class T>
DRPM_DEVICE inline void kl_row(const Team& team, const MvhgKlArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_q = args.log_omega_q + row * classes;
  const T* log_p = args.log_omega_p + row * classes;
  const MvhgRow row_q = row_of(args.counts, log_q, row), row_p = row_of(args.counts, log_p, row);
  if (!row_q.valid || !row_p.valid) {
    if (team.first()) args.kl[row] = static_cast<T>(__builtin_nan(""));
    team_fill(team, args.mean_q + row * classes, classes, __builtin_nan(""));
    team_fill(team, args.mean_p + row * classes, classes, __builtin_nan(""));
    return;
  }
  Contour q = place_contour(row_q, args.scratch);
  Contour p = place_contour(row_p, args.scratch + contour_scratch(classes));
  double kl = 0;
  if (!q.point) {
    solve_contour<V>(team, &q, log_q, kCut<double>);  // a small divergence is a difference: always float64's precision
    solve_contour<V>(team, &p, log_p, kCut<double>);
    for (int64_t k = 0; k < classes; ++k) {
      const double a = log_q[k] + q.tilt, b = log_p[k] + p.tilt, rho = mean_rho<V>(team, q, k);
      if (k % Team::kSize != team.rank()) continue;
      kl += static_cast<double>(row_q.m[k]) * (bernoulli_kl({q.p[k], q.q[k]}, {p.p[k], p.q[k]}, a, b) + rho * (a - b));
    }
    kl = team.sum(kl) + (p.log_total - q.log_total);
  }
  if (team.first()) args.kl[row] = static_cast<T>(kl < 0 ? 0 : kl);
  write_mean<V>(team, q, args.mean_q + row * classes);
  write_mean<V>(team, p, args.mean_p + row * classes);
}

}  // namespace DRPM_ISA
}  // namespace drpm
