// Numerics of the contour sum (docs/math/mvhg.md, section 4). Packs, and the members of a team, run over the nodes:
// each member keeps to its own.
#pragma once

#include "mvhg/contour/contour.h"
#include "mvhg/tilt.h"
#include "special/log_binomial.h"

namespace drpm {
namespace DRPM_ISA {

constexpr double kPi = 3.14159265358979323846;

// What one row's nodes know. Arrays are padded with nodes of weight 0 to whole packs.
struct Contour : ContourArrays {
  MvhgRow row;
  double tilt, log_total;  // log P_S
  bool point;              // nothing is random
  bool narrow;             // |theta| <= 2 kNarrow at all nodes
  int64_t nodes;           // padded
};

// `scratch` holds contour_scratch(K) doubles.
DRPM_HD inline Contour place_contour(const MvhgRow& row, double* scratch) {
  Carver carver(scratch);
  Contour c{};
  static_cast<ContourArrays&>(c) = place_contour_arrays(&carver, row.classes);
  c.row = row;
  c.point = is_extreme(row);
  return c;
}

// arcsin on [0, 1)
DRPM_HD inline double arcsine(double x) { return atan_lane<double>(x / __builtin_sqrt((1 - x) * (1 + x))); }

// N points, of which nodes 0 ... last carry weight above e^-L.                                      (Eq. 11)
struct ContourGrid {
  int64_t points, last;
  double step;  // of theta
};

DRPM_HD inline ContourGrid contour_grid(double variance, int64_t total, double cut) {
  const double deviation = __builtin_sqrt(variance);
  const double count = __builtin_ceil(__builtin_sqrt(2 * cut) * deviation + 0.5 * cut + 8);
  const double largest = static_cast<double>(total) + 1;
  const int64_t points = static_cast<int64_t>(count < largest ? count : largest) | 1;  // odd: theta never is pi
  const double step = 2 * kPi / static_cast<double>(points);
  const double reach = __builtin_sqrt(0.5 * cut);
  const double farthest = reach < deviation ? 2 * arcsine(reach / deviation) : kPi;
  int64_t last = static_cast<int64_t>(farthest / step) + 1;
  last = last < points / 2 ? last : points / 2;
  last = last < kContourNodes - 1 ? last : kContourNodes - 1;
  return {points, last, step};
}

// Calls each(j, slot) for the team member's own packs of nodes j ... j + width - 1; slot counts them.
template <class V, class Team, class Each>
DRPM_DEVICE inline void for_nodes(const Team& team, int64_t nodes, const Each& each) {
  constexpr int64_t kStep = Lane<V>::kWidth * Team::kSize;
  for (int64_t slot = 0; slot < (kContourNodes + kStep - 1) / kStep; ++slot) {
    const int64_t j = slot * kStep + team.rank() * Lane<V>::kWidth;
    if (j >= nodes) break;
    each(j, slot);
  }
}
template <class V, class Team>
constexpr int kNodeSlots = (kContourNodes + Lane<V>::kWidth * Team::kSize - 1) / (Lane<V>::kWidth * Team::kSize);

// arg(q + p e^{i theta}) - p theta = atan(d t) - d h with h = theta / 2, t = tan h, d = p - q: of the order of
// p q theta^3, and accurate relative to p q however small that is.                                  (Eq. 12)
template <class V>
DRPM_HD inline V wide_binomial_phase(double p, double q, V half, V tangent) {
  const double small = p < q ? p : q, apart = 1 - 2 * small;
  const V square = tangent * tangent;
  const V phase = atan_lane<V>(tangent * (2 * small) / (square * apart + 1.0)) - half * (2 * small);
  return p < q ? phase : -phase;
}

// The same up to |h| = kNarrow, by the series 4 p q d t^3 (1/3 - t^2 (1 + d^2) / 5 + t^4 (1 + d^2 + d^4) / 7 - ...).
constexpr double kNarrow = 0.1;
template <class V>
DRPM_HD inline V narrow_binomial_phase(double p, double q, V tangent) {
  constexpr int kTerms = 8;
  const double d = p - q, d2 = d * d;
  const V square = tangent * tangent;
  double sums[kTerms];  // 1 + d^2 + ... + d^2j
  sums[0] = 1;
#pragma GCC unroll 8
  for (int j = 1; j < kTerms; ++j) sums[j] = sums[j - 1] * d2 + 1;
  V series{};
#pragma GCC unroll 8
  for (int j = kTerms - 1; j >= 0; --j) series = splat<V>(sums[j] / (2 * j + 3)) - series * square;
  return series * square * tangent * (4 * p * q * d);
}

template <class V>
DRPM_HD inline V binomial_phase(const Contour& c, int64_t k, V half, V tangent) {
  return c.narrow ? narrow_binomial_phase<V>(c.p[k], c.q[k], tangent)
                  : wide_binomial_phase<V>(c.p[k], c.q[k], half, tangent);
}

// Evaluates c_j e^psi at the nodes and normalises.                                                   (Eq. 12)
//   psi(theta) = sum_k m_k [ 1/2 log1p(-4 p_k q_k sin^2 h) + i (atan(d_k tan h) - d_k h) ] + i theta (sum m p - n),
// with h = theta / 2 and d_k = p_k - q_k, as arg den_k = h + atan(d_k tan h).
template <class V, class Team, class T>
DRPM_OUTLINED DRPM_DEVICE inline void solve_contour(const Team& team, Contour* c, const T* log_omega, double cut) {
  constexpr int64_t kWidth = Lane<V>::kWidth;
  const MvhgRow& row = c->row;
  c->tilt = solve_tilt(team, row, log_omega);
  team.sync();  // p and q may still be read for the row before
  for (int64_t k = team.rank(); k < row.classes; k += Team::kSize) {
    const Odds odds = odds_of(log_weight(row, log_omega, k) + c->tilt);
    c->p[k] = odds.p;
    c->q[k] = odds.q;
  }
  team.sync();
  const TiltSums sums = tilt_sums(team, row, log_omega, c->tilt);
  const ContourGrid grid = contour_grid(sums.variance, row.total, cut);
  c->nodes = (grid.last + kWidth) / kWidth * kWidth;
  c->narrow = 0.5 * grid.step * static_cast<double>(grid.last) <= kNarrow;

  double lane_index[kWidth];
  for (int64_t i = 0; i < kWidth; ++i) lane_index[i] = static_cast<double>(i);
  double total = 0;
  for_nodes<V>(team, c->nodes, [&](int64_t j, int64_t) {
    const V index = load<V>(lane_index) + static_cast<double>(j);
    const V live = index <= splat<V>(static_cast<double>(grid.last)) ? splat<V>(1) : splat<V>(0);
    const V half = index * live * (0.5 * grid.step);  // padding repeats node 0, at weight 0
    const SinCos<V> at_half = sincos_lane<V>(half);
    const V tangent = at_half.sin / at_half.cos, square = at_half.sin * at_half.sin * -4.0;
    V modulus{}, phase = half * (2 * sums.excess);
    for (int64_t k = 0; k < row.classes; ++k) {
      const double m = static_cast<double>(row.m[k]);
      modulus += log1p_lane<V>(square * (c->p[k] * c->q[k])) * (0.5 * m);
      phase += binomial_phase<V>(*c, k, half, tangent) * m;
    }
    const V weight = exp_lane<V>(modulus) * (index == splat<V>(0) ? splat<V>(1) : live * 2.0);
    const SinCos<V> turn = sincos_lane<V>(phase);
    store<V>(c->versine + j, square * 0.5);
    store<V>(c->sine + j, at_half.sin * at_half.cos * 2.0);
    store<V>(c->real + j, weight * turn.cos);
    store<V>(c->imag + j, weight * turn.sin);
    total += sum_lanes<V>(weight * turn.cos);
  });
  total = team.sum(total);
  c->log_total = log_lane<double>(total / static_cast<double>(grid.points));
  const double inverse = 1 / total;
  for_nodes<V>(team, c->nodes, [&](int64_t j, int64_t) {
    store<V>(c->real + j, load<V>(c->real + j) * inverse);
    store<V>(c->imag + j, load<V>(c->imag + j) * inverse);
  });
}

template <class V>
struct Complex {
  V re, im;
};

template <class V>
DRPM_HD inline Complex<V> times(Complex<V> a, Complex<V> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

template <class V>
DRPM_HD inline V real_of_product(Complex<V> a, Complex<V> b) {
  return a.re * b.re - a.im * b.im;
}

// rho_k = p_k q_k (e^{i theta} - 1) / den_k, the deviation of the class's complex probability r_k from p_k.
// As (e^{i theta} - 1) conj(den_k) = (cos theta - 1)(q_k - p_k) + i sin theta, both parts are accurate at any theta.
template <class V>
DRPM_HD inline Complex<V> rho_at(const Contour& c, int64_t k, int64_t j) {
  const V shift = load<V>(c.versine + j), e_im = load<V>(c.sine + j);
  const double p = c.p[k], q = c.q[k];
  const V den_re = shift * p + 1.0, den_im = e_im * p;
  const V scale = splat<V>(p * q) / (den_re * den_re + den_im * den_im);
  return {shift * (q - p) * scale, e_im * scale};
}

template <class V>
DRPM_HD inline Complex<V> weight_at(const Contour& c, int64_t j) {
  return {load<V>(c.real + j), load<V>(c.imag + j)};
}

// <rho_k>; E n_k = m_k (p_k + <rho_k>)                                                             (Eq. 13)
template <class V, class Team>
DRPM_OUTLINED DRPM_DEVICE inline double mean_rho(const Team& team, const Contour& c, int64_t k) {
  V sum{};
  for_nodes<V>(team, c.nodes,
               [&](int64_t j, int64_t) { sum += real_of_product<V>(weight_at<V>(c, j), rho_at<V>(c, k, j)); });
  return team.sum(sum_lanes<V>(sum));
}

// log P0 = log P_S + sum m_k softplus(log omega_k + T) - n T, n origin more for weights less the largest; whole
// multiples of T cancel before they are rounded.
//                                                                                                    (Eq. 12)
template <class Team, class T>
DRPM_DEVICE inline double log_normalizer_of(const Team& team, const Contour& c, const T* log_omega) {
  double sum = 0;
  int64_t whole = 0;
  for (int64_t k = team.rank(); k < c.row.classes; k += Team::kSize) {
    const double m = static_cast<double>(c.row.m[k]), w = log_weight(c.row, log_omega, k), a = w + c.tilt;
    sum += m * softplus(a > 0 ? -a : a);
    if (a > 0) {
      whole += c.row.m[k];
      sum += m * w;
    }
  }
  const double relative = team.sum(sum) + static_cast<double>(team.sum(whole) - c.row.n) * c.tilt;
  return c.log_total + (relative + static_cast<double>(c.row.n) * c.row.origin);
}

}  // namespace DRPM_ISA
}  // namespace drpm
