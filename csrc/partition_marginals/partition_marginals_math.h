// Numerics of the exact marginals (docs/math/partition_marginals.md). No torch headers.
#pragma once

#include "common/lane_math.h"
#include "partition_likelihood/partition_likelihood_math.h"
#include "partition_marginals/partition_marginals.h"

namespace drpm {
namespace DRPM_ISA {

// ---- the law of the boundaries nu_k = n_1 + ... + n_k ----

// A table of non-negative numbers on lo ... hi, zero elsewhere; value[x - lo].
struct Window {
  double* value;
  int64_t lo, hi;
};

// T with sum_k m_k sigmoid(log omega_k + T) = n, by bisection: it only centres the tables and need not be exact.
DRPM_HD inline double tilt(const double* log_omega, const int64_t* m, int64_t subsets, int64_t n) {
  double low = 0, high = 0;
  for (int64_t k = 0; k < subsets; ++k) {
    low = k == 0 || -log_omega[k] < low ? -log_omega[k] : low;
    high = k == 0 || -log_omega[k] > high ? -log_omega[k] : high;
  }
  low -= 40, high += 40;
  for (int step = 0; step < 60; ++step) {
    const double middle = 0.5 * (low + high);
    double total = 0;
    for (int64_t k = 0; k < subsets; ++k)
      total += static_cast<double>(m[k]) / (1 + exp_lane<double>(-log_omega[k] - middle));
    (total > static_cast<double>(n) ? high : low) = middle;
  }
  return 0.5 * (low + high);
}

// Binomial(m, p) with odds p / (1 - p) on 0 ... min(m, n), by its ratios from the mode; what is below `cut` times
// the largest is dropped, the rest sums to 1.                                                               (Eq. 3)
DRPM_HD inline void binomial_window(int64_t m, double odds, int64_t n, double cut, Window* out) {
  const int64_t most = m < n ? m : n;
  const double centre = (static_cast<double>(m) + 1) * (odds / (1 + odds));
  int64_t mode = centre >= static_cast<double>(most) ? most : static_cast<int64_t>(centre);
  double* at = out->value;  // of size most + 1; x stands at at[x] until the end
  at[mode] = 1;
  double sum = 1;
  int64_t lo = mode, hi = mode;
  while (lo > 0 && at[lo] > cut) {
    at[lo - 1] = at[lo] * static_cast<double>(lo) / (static_cast<double>(m - lo + 1) * odds);
    sum += at[--lo];
  }
  while (hi < most && at[hi] > cut) {
    at[hi + 1] = at[hi] * static_cast<double>(m - hi) * odds / static_cast<double>(hi + 1);
    sum += at[++hi];
  }
  for (int64_t x = lo; x <= hi; ++x) at[x - lo] = at[x] / sum;
  out->lo = lo;
  out->hi = hi;
}

// out = a * b cut to 0 ... n. `out->value` has room for n + 1.
DRPM_HD inline void convolve(const Window& a, const Window& b, int64_t n, Window* out) {
  out->lo = a.lo + b.lo;
  out->hi = a.hi + b.hi < n ? a.hi + b.hi : n;
  for (int64_t x = out->lo; x <= out->hi; ++x) out->value[x - out->lo] = 0;
  for (int64_t x = a.lo; x <= a.hi; ++x) {
    const double weight = a.value[x - a.lo];
    const int64_t last = b.hi < out->hi - x ? b.hi : out->hi - x;
    double* to = out->value + (x + b.lo - out->lo);
    for (int64_t y = b.lo; y <= last; ++y) to[y - b.lo] += weight * b.value[y - b.lo];
  }
}

// Reverse mode of convolve: grad_a(x) += sum_y grad(x + y) b(y), laid out as a.
DRPM_HD inline void convolve_backward(const Window& grad, const Window& b, const Window& a, double* grad_a) {
  for (int64_t x = a.lo; x <= a.hi; ++x) {
    const int64_t first = grad.lo - x > b.lo ? grad.lo - x : b.lo;
    const int64_t last = grad.hi - x < b.hi ? grad.hi - x : b.hi;
    double sum = 0;
    for (int64_t y = first; y <= last; ++y) sum += grad.value[x + y - grad.lo] * b.value[y - b.lo];
    grad_a[x - a.lo] += sum;
  }
}

// ---- the nodes along y = log t ----

DRPM_HD inline double sigmoid(double x) {
  const double t = exp_lane<double>(-abs_lane<double>(x));
  return x > 0 ? 1 / (1 + t) : t / (1 + t);
}

DRPM_HD inline double map_density(const MarginalMap& map, double y) {
  double rho = map.density;
  for (int64_t b = 0; b < map.edges; ++b) rho += map.change[b] * sigmoid((y - map.edge[b]) / map.width);
  return rho;
}

// x(y) = int_left^y rho                                                                                     (Eq. 7)
DRPM_HD inline double map_position(const MarginalMap& map, double y) {
  const auto softplus = [&map](double v) {
    v /= map.width;
    return map.width * ((v > 0 ? v : 0) + log1p_lane<double>(exp_lane<double>(-abs_lane<double>(v))));
  };
  double x = map.density * (y - map.left);
  for (int64_t b = 0; b < map.edges; ++b)
    x += map.change[b] * (softplus(y - map.edge[b]) - softplus(map.left - map.edge[b]));
  return x;
}

// y with x(y) = x, by Newton from y (the previous node); the slope rho never falls below map.density.
DRPM_HD inline double map_inverse(const MarginalMap& map, double x, double y) {
  for (int step = 0; step < 50; ++step) {
    const double change = (x - map_position(map, y)) / map_density(map, y);
    y += change;
    if (abs_lane<double>(change) < 1e-13 * (1 + abs_lane<double>(y))) break;
  }
  return y;
}

// ---- the number of arrivals ----

// f <- q f + p shift(f), then both ends below `cut` are trimmed. `value` starts at rank 0 and holds 2 spare entries
// on either side of 0 ... n.                                                                                (Eq. 5)
template <class V>
DRPM_HD inline void add_arrival(double* f, int64_t* lo, int64_t* hi, double p, double q, double cut) {
  constexpr int kWidth = Lane<V>::kWidth;
  f[*hi + 1] = 0;
  f[*lo - 1] = 0;
  int64_t r = *hi + 1;
  for (; r - kWidth + 1 >= *lo; r -= kWidth) {
    double* at = f + r - kWidth + 1;
    store<V>(at, fmadd<V>(load<V>(at), splat<V>(q), load<V>(at - 1) * p));
  }
  for (; r >= *lo; --r) f[r] = q * f[r] + p * f[r - 1];
  ++*hi;
  while (*hi > *lo && f[*hi] < cut) --*hi;
  while (*lo < *hi && f[*lo] < cut) ++*lo;
}

// The law of the others, g = f / (q + p x), for a pack of elements: out[r - lo + 1], r = lo - 1 ... hi.
// Upwards where p <= 1/2, downwards elsewhere: both are stable there.                                       (Eq. 6)
template <class V>
DRPM_HD inline void remove_arrival(const double* f, int64_t lo, int64_t hi, V p, V q, bool some_up, bool some_down,
                                   double* out) {
  constexpr int kWidth = Lane<V>::kWidth;
  const V zero = splat<V>(0);
  if (some_up) {
    const V inverse = 1.0 / q, ratio = p * inverse;
    V g = zero;
    store<V>(out, zero);
    for (int64_t r = lo; r <= hi; ++r) {
      g = f[r] * inverse - ratio * g;
      store<V>(out + (r - lo + 1) * kWidth, g);
    }
  }
  if (some_down) {
    const V inverse = 1.0 / p, ratio = q * inverse;
    const auto down = p > 0.5;
    V g = zero;
    for (int64_t r = hi; r >= lo - 1; --r) {
      g = (r < hi ? f[r + 1] * inverse : zero) - ratio * g;
      double* at = out + (r - lo + 1) * kWidth;
      store<V>(at, some_up ? (down ? g : load<V>(at)) : g);
    }
  }
}

}  // namespace DRPM_ISA
}  // namespace drpm
