// Numerics of the subset weights alpha_k[i] = f_k(i) - f_{k-1}(i) (docs/math/partition.md); positions i are 0-based.
#pragma once

#include "band/band_math.h"

namespace drpm {
namespace DRPM_ISA {

// Boundaries of one row: f_k(i) = sigmoid((nu_k - (i + 1) + eps) / tau), hard: 1[i < cut_k]; f_{-1} = 0, f_{K-1} = 1.
struct SubsetWeights {
  const double* boundary;  // (K) nu_k
  const double* rest;      // (K) what the rounding of nu_k left, or null
  const int64_t* cut;      // (K)
  int64_t n, classes;
  double tau, eps, saturation;
  bool hard;
};

// Where a sigmoid counts as constant, in units of tau. Sharp boundaries are followed further.
template <class T>
DRPM_HD inline double boundary_reach(double tau) {
  return tau < 0.2 ? BandConstants<double>::kSaturation : BandConstants<T>::kSaturation;
}

// How far from boundary k its sigmoid counts as varying. The positions next to it always do, even where the boundary
// lies outside of all positions: the gradient of a sharp boundary consists of nothing but their tails.
DRPM_HD inline double boundary_reach(const SubsetWeights& w, int64_t k) {
  const double x = w.boundary[k] + w.eps, end = static_cast<double>(w.n);
  const double outside = x < 1 ? 1 - x : x > end ? x - end : 0;
  return w.saturation * w.tau + outside + 1;
}

struct ClassRange {
  int64_t low, high;  // inclusive
};

// Positions i (0-based) with 1[nu - (i + 1) + eps > 0] = 1, the first ones.                                 (Eq. 2)
DRPM_HD inline int64_t hard_cut(double nu, double eps, int64_t n) {
  const double x = nu + eps;  // i + 1 < x
  if (x > static_cast<double>(n)) return n;
  if (!(x > 1)) return 0;
  const int64_t whole = static_cast<int64_t>(x);
  return static_cast<double>(whole) < x ? whole : whole - 1;
}

// Where a class ends: nu, what the rounding of its sum left, and the cut, which never lies before that of an earlier
// class; the last one is n.
struct SubsetBoundary {
  double nu, rest;
  int64_t cut;
};
DRPM_HD inline SubsetBoundary next_boundary(const SubsetBoundary& before, double size, bool last, int64_t n,
                                            double eps) {
  const double nu = before.nu + size, back = nu - before.nu;
  const double rest = before.rest + ((before.nu - (nu - back)) + (size - back));
  const int64_t cut = last ? n : hard_cut(nu, eps, n);
  return {nu, rest, cut > before.cut ? cut : before.cut};
}

template <class T>
DRPM_HD inline void subset_boundaries(const T* sizes, int64_t n, int64_t classes, double eps, double* boundary,
                                      int64_t* cut, double* rest) {
  SubsetBoundary here{};
  for (int64_t k = 0; k < classes; ++k) {
    here = next_boundary(here, static_cast<double>(sizes[k]), k + 1 == classes, n, eps);
    boundary[k] = here.nu;
    rest[k] = here.rest;
    cut[k] = here.cut;
  }
}

// f_k at a position and its derivative w.r.t. nu_k.
template <class V>
struct BoundaryValue {
  V value, slope;
};

// f = sigmoid(x), f' = sigmoid(x) sigmoid(-x) / tau, x = (nu_k - (i + 1) + eps) / tau; nothing cancels in the tails,
// where x is large and what nu_k lost to rounding counts.
template <class V>
DRPM_HD inline BoundaryValue<V> boundary_value(const SubsetWeights& w, int64_t k, V position) {
  if (k < 0) return {splat<V>(0), splat<V>(0)};
  if (k + 1 >= w.classes) return {splat<V>(1), splat<V>(0)};
  using T = ScalarOf<V>;
  const T rest = static_cast<T>(w.eps - 1) + static_cast<T>(w.rest != nullptr ? w.rest[k] : 0);
  const T scale = 1 / static_cast<T>(w.tau);
  const V x = ((splat<V>(static_cast<T>(w.boundary[k])) - position) + rest) * scale;
  const V e = exp_lane<V>(-abs_lane<V>(x));
  const V above = splat<V>(1) / (1 + e), below = e * above;
  return {x < splat<V>(0) ? below : above, above * below * scale};
}

DRPM_HD inline int64_t hard_label(const SubsetWeights& w, int64_t position) {
  int64_t k = 0;
  while (k + 1 < w.classes && position >= w.cut[k]) ++k;
  return k;
}

// Classes that weigh at positions [first, last]: all others are 0 there to working precision.
DRPM_HD inline ClassRange active_classes(const SubsetWeights& w, int64_t first, int64_t last) {
  if (w.hard) return {hard_label(w, first), hard_label(w, last)};
  auto zero = [&](int64_t k) {  // f_k = 0 on all of them
    return k < 0 ||
           (k + 1 < w.classes && w.boundary[k] + w.eps < static_cast<double>(first + 1) - boundary_reach(w, k));
  };
  auto one = [&](int64_t k) {
    return k + 1 >= w.classes ||
           (k >= 0 && w.boundary[k] + w.eps > static_cast<double>(last + 1) + boundary_reach(w, k));
  };
  auto idle = [&](int64_t k) { return (zero(k) && zero(k - 1)) || (one(k) && one(k - 1)); };
  ClassRange range{0, w.classes - 1};
  while (range.low < range.high && idle(range.low)) ++range.low;
  while (range.high > range.low && idle(range.high)) --range.high;
  return range;
}

// Positions where class k may be active; all of them where boundaries are not in order.
DRPM_HD inline ClassRange active_positions(const SubsetWeights& w, int64_t k) {
  if (w.hard) {
    const int64_t low = k > 0 ? w.cut[k - 1] : 0;
    const int64_t first = low < w.n ? low : w.n - 1;
    return {first, w.cut[k] > first + 1 ? w.cut[k] - 1 : first};
  }
  for (int64_t l = 1; l + 1 < w.classes; ++l)
    if (!(w.boundary[l] >= w.boundary[l - 1])) return {0, w.n - 1};
  const double end = static_cast<double>(w.n - 1);
  const double from = k > 0 ? w.boundary[k - 1] + w.eps - boundary_reach(w, k - 1) - 2 : 0;
  const double to = k + 1 < w.classes ? w.boundary[k] + w.eps + boundary_reach(w, k) + 2 : end;
  const int64_t low = !(from > 0) ? 0 : from < end ? static_cast<int64_t>(from) : w.n - 1;
  const int64_t high = !(to < end) ? w.n - 1 : to > 0 ? static_cast<int64_t>(to) : 0;
  return {low, high > low ? high : low};
}

}  // namespace DRPM_ISA
}  // namespace drpm
