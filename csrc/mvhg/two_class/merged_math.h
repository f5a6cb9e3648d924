// Numerics of the merged chain that do not concern single outcomes (docs/math/mvhg.md, sections 2 and 3).
#pragma once

#include "mvhg/chain.h"
#include "mvhg/two_class/merged.h"
#include "mvhg/two_class/two_class.h"
#include "special/log_add.h"

namespace drpm {
namespace DRPM_ISA {

// By position: log_mass[p] = log(m omega) of the class at p, log_later[p] = log of the sum of m omega over the later
// classes, both by log_weight().                                               (Eq. 5, thesis Eq. 5.3, 5.5)
template <class T>
DRPM_HD inline void merged_masses(const MvhgRow& row, const T* log_omega, double* log_mass, double* log_later) {
  const double none = -__builtin_huge_val();
  double later = none;
  for (int64_t p = row.classes - 1; p >= 0; --p) {
    const int64_t k = class_at(row, p);
    const int64_t m = possible_items(row.m, log_omega, k);
    log_mass[p] = m == 0 ? none : log_lane<double>(static_cast<double>(m)) + log_weight(row, log_omega, k);
    log_later[p] = later;
    later = log_add(later, log_mass[p]);
  }
}

// Log mean weight of the later classes, as log_weight(); nothing can be drawn from an empty one, whose log omega is 0.
DRPM_HD inline double merged_log_omega(const MvhgRow& row, double log_later, int64_t m_right) {
  return m_right == 0 ? -row.origin : log_later - log_lane<double>(static_cast<double>(m_right));
}

// Spreads cotangents c[p] of the merged log omega after position p over the later classes, adding to grad:
// d log omega_R(p) / d log omega_l = m_l omega_l / sum of the later ones. With W_p that sum, the shares telescope:
// s_p = c_{p-1} + s_{p-1} W_{p-1} / W_{p-2}, grad_p += s_p m_p omega_p / W_{p-1}: every ratio is at most 1.    (Eq. 8)
template <class T>
DRPM_HD inline void spread_merged_gradient(const MvhgRow& row, const double* log_mass, const double* log_later,
                                           const double* c, T* grad) {
  double spread = 0;
  for (int64_t p = 1; p < row.classes; ++p) {
    const int64_t k = class_at(row, p);
    const double carried = p == 1 || spread == 0 ? 0 : exp_lane<double>(log_later[p - 1] - log_later[p - 2]);
    spread = c[p - 1] + spread * carried;
    if (log_mass[p] == -__builtin_huge_val()) continue;  // nothing can be drawn
    grad[k] = static_cast<T>(grad[k] + spread * exp_lane<double>(log_mass[p] - log_later[p - 1]));
  }
}

// dL/dlog omega_p += A_p V_p,  dL/dlog omega_R = -A_p V_p,  V = Var(x) / tau.                        (Eq. 7)
template <class T>
DRPM_HD inline void sample_backward_row(const MvhgSampleMergedBackwardArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row % args.counts.batch * classes;
  const T* grad_sizes = args.grad_sizes + row * classes;
  const double* statistics = args.statistics + row * classes * 2;
  T* grad = args.grad_log_omega + row * classes;
  const MvhgRow parameters = mvhg_row(args.counts, row, log_omega);
  for (int64_t k = 0; k < classes; ++k) grad[k] = static_cast<T>(parameters.valid ? 0 : kNaN);
  if (!parameters.valid) return;

  double *log_mass = args.classes, *log_later = args.classes + classes, *c = args.classes + 2 * classes;
  merged_masses(parameters, log_omega, log_mass, log_later);
  reverse_chain(parameters, grad_sizes, statistics, 2, [&](int64_t p, int64_t k, double a, const double* of_class) {
    const double direct = a * of_class[0];
    grad[k] = static_cast<T>(direct);
    c[p] = -direct;
  });
  spread_merged_gradient(parameters, log_mass, log_later, c, grad);
}

// d/dlog omega_k = x - E x, d/dlog omega_R = -(x - E x); with u = log omega_R + d(x), the slope of the chosen term in
// what it leaves, and a its slope in x:  d/dn_k = a - (R_{k+1} + u),  R_k = R_{k+1} + u - (log omega_R + E d).  (Eq. 9)
template <class T>
DRPM_HD inline void log_prob_backward_row(const MvhgLogProbMergedBackwardArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  const T* sizes = args.sizes + row * classes;
  const double* statistics = args.statistics + row * classes * 2;
  T* grad_sizes = args.grad_sizes + row * classes;
  T* grad = args.grad_log_omega + row * classes;
  const MvhgRow parameters = mvhg_row(args.counts, row, log_omega);
  const double log_prob = args.log_prob[row];
  for (int64_t k = 0; k < classes; ++k)
    grad[k] = grad_sizes[k] = static_cast<T>(is_finite(log_prob) ? 0 : exp_lane<double>(log_prob));
  if (!is_finite(log_prob)) return;

  double *log_mass = args.classes, *log_later = args.classes + classes, *c = args.classes + 2 * classes;
  merged_masses(parameters, log_omega, log_mass, log_later);
  const double upstream = args.grad_log_prob[row];
  double remaining = static_cast<double>(parameters.n);
  for (int64_t k = 0; k < classes - 1; ++k) remaining -= sizes[k];
  int64_t m_right = 0;
  double grad_remaining = 0;
  for (int64_t k = classes - 2; k >= 0; --k) {
    m_right += possible_items(parameters.m, log_omega, k + 1);
    const double x = sizes[k], merged = merged_log_omega(parameters, log_later[k], m_right);
    const double slope = digamma1p(static_cast<double>(m_right) - remaining) - digamma1p(remaining);  // d at x
    const double direct = upstream * (x - statistics[2 * k]);
    grad[k] = static_cast<T>(direct);
    c[k] = -direct;
    const int64_t m = possible_items(parameters.m, log_omega, k);
    const double weight = log_omega[k] > -__builtin_huge_val() ? log_weight(parameters, log_omega, k) : 0;
    const double own = weight + digamma1p(static_cast<double>(m) - x) - digamma1p(x);
    grad_sizes[k] = static_cast<T>(upstream * (own - (grad_remaining + merged + slope)));
    grad_remaining += slope - statistics[2 * k + 1];
    remaining += x;
  }
  spread_merged_gradient(parameters, log_mass, log_later, c, grad);
}

}  // namespace DRPM_ISA
}  // namespace drpm
