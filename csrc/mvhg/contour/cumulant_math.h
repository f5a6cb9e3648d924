// What cumulants of the MVHG are made of, at the nodes of its contour (docs/math/mvhg.md, section 4). Given a node, the
// classes are independent binomials of complex probability r_k = p_k + rho_k.
#pragma once

#include "lanes/team.h"
#include "mvhg/contour/contour_math.h"

namespace drpm {
namespace DRPM_ISA {

template <class V>
DRPM_HD inline Complex<V> plus(Complex<V> a, Complex<V> b) {
  return {a.re + b.re, a.im + b.im};
}

template <class V>
DRPM_HD inline Complex<V> scaled(Complex<V> a, double factor) {
  return {a.re * factor, a.im * factor};
}

// A complex value at each of the member's own nodes.
template <class V, class Team>
struct NodeValues {
  V re[kNodeSlots<V, Team>], im[kNodeSlots<V, Team>];

  DRPM_HD Complex<V> at(int64_t slot) const { return {re[slot], im[slot]}; }
  DRPM_HD void set(int64_t slot, Complex<V> x) {
    re[slot] = x.re;
    im[slot] = x.im;
  }
};

// Class k at a pack of nodes: r, s = r (1 - r), and the binomial's third and fourth cumulant per item.
template <class V>
struct BinomialAt {
  Complex<V> rho, r, s;

  DRPM_HD Complex<V> third() const { return times<V>(s, {1.0 - 2.0 * r.re, -2.0 * r.im}); }
  DRPM_HD Complex<V> fourth() const { return times<V>(s, {1.0 - 6.0 * s.re, -6.0 * s.im}); }
};

template <class V>
DRPM_HD inline BinomialAt<V> binomial_at(const Contour& c, int64_t k, int64_t j) {
  const Complex<V> rho = rho_at<V>(c, k, j), r = {rho.re + c.p[k], rho.im};
  return {rho, r, times<V>(r, {c.q[k] - rho.re, -rho.im})};  // 1 - r = q - rho
}

// < f >, the mean over the nodes.
template <class V, class Team>
DRPM_DEVICE inline double node_mean(const Team& team, const Contour& c, const NodeValues<V, Team>& f) {
  V sum{};
  for_nodes<V>(team, c.nodes,
               [&](int64_t j, int64_t slot) { sum += real_of_product<V>(weight_at<V>(c, j), f.at(slot)); });
  return team.sum(sum_lanes<V>(sum));
}

template <class V, class Team>
DRPM_DEVICE inline void subtract_mean(const Team& team, const Contour& c, NodeValues<V, Team>* f) {
  const double mean = node_mean(team, c, *f);
  for_nodes<V>(team, c.nodes, [&](int64_t, int64_t slot) { f->re[slot] -= mean; });
}

// A_v = sum m_k v_k rho~_k
template <class V, class Team, class T>
DRPM_DEVICE inline void total_along(const Team& team, const Contour& c, const double* rho_mean, const T* v,
                                    NodeValues<V, Team>* out) {
  for_nodes<V>(team, c.nodes, [&](int64_t j, int64_t slot) {
    Complex<V> sum{};
    for (int64_t k = 0; k < c.row.classes; ++k) {
      const Complex<V> rho = rho_at<V>(c, k, j);
      const double factor = static_cast<double>(c.row.m[k]) * v[k];
      sum.re += (rho.re - rho_mean[k]) * factor;
      sum.im += rho.im * factor;
    }
    out->set(slot, sum);
  });
}

// R_vw = A_v A_w + sum m_k v_k w_k s_k
template <class V, class Team, class T>
DRPM_DEVICE inline void pair_along(const Team& team, const Contour& c, const NodeValues<V, Team>& a_v, const T* v,
                                   const NodeValues<V, Team>& a_w, const T* w, NodeValues<V, Team>* out) {
  for_nodes<V>(team, c.nodes, [&](int64_t j, int64_t slot) {
    Complex<V> sum = times<V>(a_v.at(slot), a_w.at(slot));
    for (int64_t k = 0; k < c.row.classes; ++k)
      sum = plus<V>(sum, scaled<V>(binomial_at<V>(c, k, j).s, static_cast<double>(c.row.m[k]) * v[k] * w[k]));
    out->set(slot, sum);
  });
}

}  // namespace DRPM_ISA
}  // namespace drpm
