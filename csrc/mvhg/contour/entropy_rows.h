// Entropy of the MVHG and its derivatives along one row, for a team of the CPU or the device (docs/math/mvhg.md,
// section 4).
#pragma once

#include "mvhg/contour/cumulant_math.h"
#include "mvhg/contour/entropy.h"

namespace drpm {
namespace DRPM_ISA {

// Given a node, of one class with y = x - mode and phi(x) = log f(x):
template <class V, class Team>
struct OutcomeMoments {
  NodeValues<V, Team> phi;   // E phi
  NodeValues<V, Team> with;  // Cov(y, phi)
  NodeValues<V, Team> pair;  // cumulant of y, y, phi
};

// Sums over the outcomes of f(x) e^{i theta y} phi(x) y^a, divided by the class's characteristic function, which is
// known without cancellation: phase m [atan(d tan h) - d h] + theta E y as in Eq. 12.                   (Eq. 23)
// Where there are many outcomes, every stride-th stands for all: sums over a smooth bell are as good, to any accuracy
// of use, from a few points per standard deviation on (concave_window.h). `outcomes` holds low, stride, size, mode,
// mass (the sum of f) and centre (its mean of y); its enter(i) is called by the whole team, then at(t) gives f phi at
// outcome low + (i + t) stride for t < kTurns.
constexpr int64_t kTurns = 32;  // steps of the recurrence for e^{i theta y} between two evaluations
template <class V, class Team, class Outcomes>
DRPM_DEVICE inline void outcome_moments(const Team& team, const Contour& c, int64_t k, Outcomes& outcomes,
                                        OutcomeMoments<V, Team>* out) {
  constexpr int64_t kStep = Lane<V>::kWidth * Team::kSize;
  const double m = static_cast<double>(c.row.m[k]), p = c.p[k], q = c.q[k];
  const double shift = outcomes.centre, stride = static_cast<double>(outcomes.stride);
  for (int64_t slot = 0; slot * kStep < c.nodes; ++slot) {
    const int64_t own = slot * kStep + team.rank() * Lane<V>::kWidth;
    const int64_t j = own < c.nodes ? own : 0;  // members beyond the last node help with the outcomes
    const V tangent = load<V>(c.sine + j) / (load<V>(c.versine + j) + 2.0), half = atan_lane<V>(tangent);
    const SinCos<V> step = sincos_lane<V>(half * (2.0 * stride));
    const Complex<V> turn = {step.cos, step.sin};
    Complex<V> sum0{}, sum1{}, sum2{};
    for (int64_t i = 0; i < outcomes.size; i += kTurns) {
      outcomes.enter(i);
      const double first = static_cast<double>(outcomes.low - outcomes.mode + i * outcomes.stride);
      const SinCos<V> at = sincos_lane<V>(half * (2.0 * first));
      Complex<V> e = {at.cos, at.sin};
      const int64_t turns = outcomes.size - i < kTurns ? outcomes.size - i : kTurns;
      for (int64_t t = 0; t < turns; ++t) {
        const double y = first + static_cast<double>(t) * stride;
        const Complex<V> term = scaled<V>(e, outcomes.at(t));
        sum0 = plus<V>(sum0, term);
        sum1 = plus<V>(sum1, scaled<V>(term, y));
        sum2 = plus<V>(sum2, scaled<V>(term, y * y));
        e = times<V>(e, turn);
      }
    }
    const V square = tangent * tangent, sine_squared = square / (square + 1.0);  // sin^2 h
    const V modulus = log1p_lane<V>(sine_squared * (-4 * p * q)) * (0.5 * m);
    const V phase = binomial_phase<V>(c, k, half, tangent) * m + half * (2 * shift);
    const V scale = exp_lane<V>(-modulus) * (1 / outcomes.mass);
    const SinCos<V> back = sincos_lane<V>(phase);
    const Complex<V> inverse = {back.cos * scale, -back.sin * scale};
    const Complex<V> e0 = times<V>(sum0, inverse), e1 = times<V>(sum1, inverse);
    const Complex<V> e2 = times<V>(sum2, inverse);
    const BinomialAt<V> x = binomial_at<V>(c, k, j);
    const Complex<V> y = {x.rho.re * m + shift, x.rho.im * m};  // E y
    const Complex<V> y2 = times<V>(y, y);
    const Complex<V> rest = {y2.re - x.s.re * m, y2.im - x.s.im * m};  // 2 (E y)^2 - E y^2
    out->phi.set(slot, e0);
    out->with.set(slot, plus<V>(e1, scaled<V>(times<V>(y, e0), -1)));
    out->pair.set(slot, plus<V>(e2, plus<V>(times<V>(rest, e0), scaled<V>(times<V>(y, e1), -2))));
  }
}

template <class V, class Team>
DRPM_DEVICE inline double weighted_mean(const Team& team, const Contour& c, const NodeValues<V, Team>& a,
                                        const NodeValues<V, Team>& b) {
  V sum{};
  for_nodes<V>(team, c.nodes, [&](int64_t j, int64_t slot) {
    sum += real_of_product<V>(weight_at<V>(c, j), times<V>(a.at(slot), b.at(slot)));
  });
  return team.sum(sum_lanes<V>(sum));
}

// With Phi = sum_k log f_k(n_k), log p up to a constant:  H = log Z - E Phi,  dH/dlog omega_l = -Cov(n_l, Phi),
// (d2H/dlog omega2 v)_l = -kappa(n_l, v.n, Phi) - (Cov v)_l, by the law of total cumulance.          (Eq. 22)
// `open(k, m, a)` gives the outcomes of class k, of tilted log odds a.
template <class V, class Team, class T, class Open>
DRPM_DEVICE inline void entropy_row(const Team& team, const MvhgEntropyArgs<T>& args, int64_t parameters,
                                    const Open& open) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + parameters * classes;
  const MvhgRow row = mvhg_row(args.counts, parameters, log_omega);
  const T* v = args.v == nullptr ? nullptr : args.v + parameters * classes;
  T* out = args.by_class + parameters * classes;
  Contour c = place_contour(row, args.contours);
  if (!row.valid || is_point(row)) {
    const double value = row.valid ? 0 : kNaN;
    team_fill(team, out, classes, value);
    if (args.entropy != nullptr && team.first()) args.entropy[parameters] = static_cast<T>(value);
    return;
  }
  solve_contour<V>(team, &c, log_omega, 38);
  double *rho_mean = args.contours + contour_scratch(classes), *per_class = rho_mean + classes;
  for (int64_t k = 0; k < classes; ++k) {
    const double mean = mean_rho<V>(team, c, k);
    if (team.first()) rho_mean[k] = mean;
  }
  team.sync();

  NodeValues<V, Team> along{}, phi{}, with_v{};
  if (v != nullptr) total_along(team, c, rho_mean, v, &along);
  double log_z = c.log_total;
  for (int64_t k = 0; k < classes; ++k) {
    const double a = log_weight(c.row, log_omega, k) + c.tilt;
    auto outcomes = open(k, possible_items(row.m, log_omega, k), a);
    log_z += log_lane<double>(outcomes.mass * static_cast<double>(outcomes.stride));
    OutcomeMoments<V, Team> x;
    outcome_moments<V>(team, c, k, outcomes, &x);
    for_nodes<V>(team, c.nodes, [&](int64_t, int64_t slot) {
      phi.set(slot, plus<V>(phi.at(slot), x.phi.at(slot)));
      if (v != nullptr) with_v.set(slot, plus<V>(with_v.at(slot), scaled<V>(x.with.at(slot), v[k])));
    });
    const double own = v == nullptr ? node_mean(team, c, x.with)
                                    : weighted_mean(team, c, x.with, along) + v[k] * node_mean(team, c, x.pair);
    if (team.first()) per_class[k] = own;
  }
  const double expected_phi = node_mean(team, c, phi);
  if (args.entropy != nullptr && team.first()) args.entropy[parameters] = static_cast<T>(log_z - expected_phi);
  subtract_mean(team, c, &phi);
  for (int64_t k = 0; k < classes; ++k) {
    V sum{};
    for_nodes<V>(team, c.nodes, [&](int64_t j, int64_t slot) {
      const BinomialAt<V> x = binomial_at<V>(c, k, j);
      const Complex<V> rho = {x.rho.re - rho_mean[k], x.rho.im}, here = phi.at(slot);
      Complex<V> value = times<V>(rho, here);
      if (v != nullptr) {
        const Complex<V> a = along.at(slot);
        value = times<V>(rho, plus<V>(plus<V>(times<V>(a, here), with_v.at(slot)), a));
        value = plus<V>(value, scaled<V>(times<V>(x.s, {here.re + 1.0, here.im}), v[k]));
      }
      sum += real_of_product<V>(weight_at<V>(c, j), value);
    });
    const double total = team.sum(sum_lanes<V>(sum));
    if (team.first()) out[k] = static_cast<T>(-(static_cast<double>(row.m[k]) * total + per_class[k]));
  }
}

}  // namespace DRPM_ISA
}  // namespace drpm
