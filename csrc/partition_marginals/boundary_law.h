// The law of the boundaries nu_k = n_1 + ... + n_k, and its reverse mode; by one thread or a block
// (docs/math/partition_marginals.md, section 2).
#pragma once

#include "lanes/carver.h"
#include "lanes/lane_math.h"
#include "lanes/team.h"
#include "mvhg/tilt.h"
#include "partition_marginals/partition_marginals_math.h"

namespace drpm {
namespace DRPM_ISA {

// A table of non-negative numbers on lo ... hi, zero elsewhere; value[x - lo].
struct Window {
  double* value;
  int64_t lo, hi;
};

DRPM_HD inline double at_or_zero(const Window& w, int64_t x) { return x >= w.lo && x <= w.hi ? w.value[x - w.lo] : 0; }

// Counts of subsets whose log omega is -inf, a weight of 0, do not help.
template <class T>
DRPM_HD inline bool law_exists(const PartitionMarginalsArgs<T>& args, int64_t row) {
  const T* log_omega = args.log_omega + row * args.num_subsets;
  const int64_t *m = args.m + row * args.num_subsets, n = args.n;
  int64_t total = 0;
  for (int64_t k = 0; k < args.num_subsets; ++k) {
    if (m[k] < 0 || !(log_omega[k] < __builtin_huge_val())) return false;
    if (log_omega[k] > -__builtin_huge_val()) total += m[k] < n ? m[k] : n;
  }
  return total >= n && args.top[row] == args.top[row];
}

// The largest log omega: all are taken relative to it.
template <class T>
DRPM_HD inline double largest_log_omega(const T* log_omega, int64_t subsets) {
  double largest = -__builtin_huge_val();
  for (int64_t k = 0; k < subsets; ++k) largest = log_omega[k] > largest ? log_omega[k] : largest;
  return largest;
}

// T with sum_k m_k sigmoid(log omega_k - largest + T) = n: it only centres the tables and need not be exact. Where all
// is drawn, one that leaves an item with probability e^-40 at most.
template <class T>
DRPM_DEVICE inline double centring_tilt(const T* log_omega, double largest, const int64_t* m, int64_t subsets,
                                        int64_t n) {
  constexpr double kHuge = __builtin_huge_val();
  const double drawn = static_cast<double>(n);
  double total = 0, highest = -kHuge, lowest = kHuge;  // over the subsets that something can be drawn from
  for (int64_t k = 0; k < subsets; ++k) {
    if (m[k] == 0 || log_omega[k] == -kHuge) continue;
    const double a = reduced(log_omega[k], largest);
    total += static_cast<double>(m[k]);
    highest = a > highest ? a : highest;
    lowest = a < lowest ? a : lowest;
  }
  if (total <= drawn) return 40 - lowest;
  return find_tilt(drawn, total, highest, lowest, [&](double tilt) {
    TiltSums sums{-drawn, 0};
    for (int64_t k = 0; k < subsets; ++k) {
      if (log_omega[k] == -kHuge) continue;
      const Odds odds = odds_of(reduced(log_omega[k], largest) + tilt);
      sums.excess += static_cast<double>(m[k]) * odds.p;
      sums.variance += static_cast<double>(m[k]) * odds.p * odds.q;
    }
    return sums;
  });
}

// e^a, but finite: from e^300 on all of the subset are drawn, to any accuracy of use.
DRPM_HD inline double tilted_odds(double a) { return exp_lane<double>(min_lane<double>(a, 300.0)); }

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

// (a * b)(x)
DRPM_HD inline double convolved(const Window& a, const Window& b, int64_t x) {
  const int64_t first = x - b.hi > a.lo ? x - b.hi : a.lo, last = x - b.lo < a.hi ? x - b.lo : a.hi;
  double sum = 0;
  for (int64_t y = first; y <= last; ++y) sum += a.value[y - a.lo] * b.value[x - y - b.lo];
  return sum;
}

// Reverse mode of a * b: grad_a(x) += sum_y grad(x + y) b(y), laid out as a.
DRPM_HD inline double correlated(const Window& grad, const Window& b, int64_t x) {
  const int64_t first = grad.lo - x > b.lo ? grad.lo - x : b.lo;
  const int64_t last = grad.hi - x < b.hi ? grad.hi - x : b.hi;
  double sum = 0;
  for (int64_t y = first; y <= last; ++y) sum += grad.value[x + y - grad.lo] * b.value[y - b.lo];
  return sum;
}

// out = a * b cut to 0 ... n, by the whole team; `value` has room for n + 1.
template <class Team>
DRPM_DEVICE inline void convolve(const Team& team, const Window& a, const Window& b, int64_t n, double* value,
                                 Window* out) {
  const int64_t lo = a.lo + b.lo, hi = a.hi + b.hi < n ? a.hi + b.hi : n;
  for (int64_t x = lo + team.rank(); x <= hi; x += team.size()) value[x - lo] = convolved(a, b, x);
  if (team.first()) *out = {value, lo, hi};
  team.sync();  // the next table reads this one
}

// The same sums in the same order, but along rows of b, in packs.
inline void convolve(const Alone&, const Window& a, const Window& b, int64_t n, double* value, Window* out) {
  *out = {value, a.lo + b.lo, a.hi + b.hi < n ? a.hi + b.hi : n};
  for (int64_t x = out->lo; x <= out->hi; ++x) value[x - out->lo] = 0;
  for (int64_t x = a.lo; x <= a.hi; ++x) {
    const double weight = a.value[x - a.lo];
    const int64_t last = b.hi < out->hi - x ? b.hi : out->hi - x;
    double* to = value + (x + b.lo - out->lo);
    for (int64_t y = b.lo; y <= last; ++y) to[y - b.lo] += weight * b.value[y - b.lo];
  }
}

// f_k, F_k = f_0 * ... * f_k and B_k = f_{k+1} * ... * f_{K-1}, k = 0 ... K - 1; B_{K-1} = 1 at 0.
struct BoundaryLaw {
  Window *f, *prefix, *suffix;                          // (K) each
  double *f_value, *prefix_value, *suffix_value;        // (K, n + 2) each
  double *grad_f, *grad_prefix, *grad_suffix, *beyond;  // (K, n + 2) each, (n + 2)
};

DRPM_HD inline void take_boundary_law(Carver& c, int64_t n, int64_t subsets, BoundaryLaw* law) {
  const int64_t size = subsets * (n + 2);
  law->f = c.take<Window>(subsets);
  law->prefix = c.take<Window>(subsets);
  law->suffix = c.take<Window>(subsets);
  law->f_value = c.take<double>(size);
  law->prefix_value = c.take<double>(size);
  law->suffix_value = c.take<double>(size);
  law->grad_f = c.take<double>(size);
  law->grad_prefix = c.take<double>(size);
  law->grad_suffix = c.take<double>(size);
  law->beyond = c.take<double>(n + 2);
}

DRPM_HD inline int64_t boundary_law_doubles(int64_t n, int64_t subsets) {
  Carver measure(nullptr);
  BoundaryLaw law;
  take_boundary_law(measure, n, subsets, &law);
  return measure.size() / static_cast<int64_t>(sizeof(double));
}

DRPM_HD inline BoundaryLaw boundary_law(const MarginalRows& args, int64_t row) {
  Carver c(args.law + row * boundary_law_doubles(args.n, args.num_subsets));
  BoundaryLaw law;
  take_boundary_law(c, args.n, args.num_subsets, &law);
  return law;
}

// f_k by a member each, then F_k and B_k by all                                                             (Eq. 3)
template <class Team, class T>
DRPM_DEVICE inline void fill_law(const Team& team, const PartitionMarginalsArgs<T>& args, int64_t row,
                                 const BoundaryLaw& law) {
  const int64_t subsets = args.num_subsets, n = args.n, stride = n + 2;
  const int64_t* m = args.m + row * subsets;
  const T* log_omega = args.log_omega + row * subsets;
  const double largest = largest_log_omega(log_omega, subsets);
  const double centre = centring_tilt(log_omega, largest, m, subsets, n);
  for (int64_t k = team.rank(); k < subsets; k += team.size()) {
    law.f[k].value = law.f_value + k * stride;
    binomial_window(m[k], tilted_odds(reduced(log_omega[k], largest) + centre), n, args.rule.negligible * 1e-10,
                    &law.f[k]);
  }
  team.sync();  // all read f
  if (team.first()) {
    law.prefix[0] = law.f[0];
    law.suffix_value[(subsets - 1) * stride] = 1;
    law.suffix[subsets - 1] = {law.suffix_value + (subsets - 1) * stride, 0, 0};
  }
  team.sync();  // the first of each chain is there
  for (int64_t k = 1; k < subsets; ++k)
    convolve(team, law.prefix[k - 1], law.f[k], n, law.prefix_value + k * stride, &law.prefix[k]);
  for (int64_t k = subsets - 2; k >= 0; --k)
    convolve(team, law.f[k + 1], law.suffix[k + 1], n, law.suffix_value + k * stride, &law.suffix[k]);
}

// sum_t F_k(t) B_k(n - t): the same for each k up to rounding.
template <class Team>
DRPM_DEVICE inline double boundary_total(const Team& team, const BoundaryLaw& law, int64_t k, int64_t n) {
  const Window prefix = law.prefix[k], suffix = law.suffix[k];
  double total = 0;
  for (int64_t t = prefix.lo + team.rank(); t <= prefix.hi; t += team.size())
    total += prefix.value[t - prefix.lo] * at_or_zero(suffix, n - t);
  return team.sum(total);
}

// Pr[nu_{k-1} <= r < nu_k] = Pr[nu_{k-1} <= r] - Pr[nu_k <= r]                                           (Eq. 2, 4)
template <class Team, class T>
DRPM_DEVICE inline void fill_inside(const Team& team, const PartitionMarginalsArgs<T>& args, int64_t row) {
  const int64_t subsets = args.num_subsets, n = args.n;
  double* inside = args.inside + row * subsets * n;
  if (!law_exists(args, row)) {
    for (int64_t i = team.rank(); i < subsets * n; i += team.size()) inside[i] = __builtin_nan("");
    return;
  }
  const BoundaryLaw law = boundary_law(args, row);
  fill_law(team, args, row, law);
  for (int64_t r = team.rank(); r < n; r += team.size()) inside[r] = 1;
  for (int64_t k = 0; k + 1 < subsets; ++k) {
    double* here = inside + k * n;
    const Window prefix = law.prefix[k], suffix = law.suffix[k];
    const double total = boundary_total(team, law, k, n);
    double below = 0;  // Pr[nu_k < start]
    for (int64_t start = 0; start < n; start += team.size()) {
      const int64_t r = start + team.rank();
      double sum;
      const double own = r < n ? at_or_zero(prefix, r) * at_or_zero(suffix, n - r) / total : 0.0;
      const double upto = below + team.running_sum(own, &sum);
      below += sum;
      if (r >= n) continue;
      here[n + r] = upto;
      here[r] -= upto;
    }
  }
}

// Gradients by F_k and B_k of boundary k; `beyond` gets sum_{r >= t} d / d Pr[nu_k <= r].
template <class Team>
DRPM_DEVICE inline void boundary_backward(const Team& team, const BoundaryLaw& law, const double* grad, int64_t k,
                                          int64_t n) {
  const int64_t stride = n + 2;
  const Window prefix = law.prefix[k], suffix = law.suffix[k];
  const double total = boundary_total(team, law, k, n);
  if (team.first()) law.beyond[n] = 0;
  double tail = 0;
  for (int64_t start = 0; start < n; start += team.size()) {
    const int64_t t = n - 1 - start - team.rank();
    double all;
    const double sum = team.running_sum(t >= 0 ? grad[(k + 1) * n + t] - grad[k * n + t] : 0.0, &all);
    if (t >= 0) law.beyond[t] = tail + sum;
    tail += all;
  }
  team.sync();  // read by other members
  double mean = 0;
  for (int64_t t = prefix.lo + team.rank(); t <= prefix.hi; t += team.size())
    mean += law.beyond[t] * prefix.value[t - prefix.lo] * at_or_zero(suffix, n - t) / total;
  mean = team.sum(mean);
  for (int64_t t = prefix.lo + team.rank(); t <= prefix.hi; t += team.size()) {
    if (n - t < suffix.lo || n - t > suffix.hi) continue;
    const double centred = (law.beyond[t] - mean) / total;
    law.grad_prefix[k * stride + t - prefix.lo] += centred * suffix.value[n - t - suffix.lo];
    law.grad_suffix[k * stride + n - t - suffix.lo] += centred * prefix.value[t - prefix.lo];
  }
  team.sync();  // `beyond` is reused, the gradients are read by other members
}

// Reverse mode of upper = a * b: grad_a and grad_b grow; the team is in step afterwards.
template <class Team>
DRPM_DEVICE inline void convolve_backward(const Team& team, const Window& upper, const Window& a, const Window& b,
                                          double* grad_a, double* grad_b) {
  for (int64_t x = a.lo + team.rank(); x <= a.hi; x += team.size()) grad_a[x - a.lo] += correlated(upper, b, x);
  for (int64_t x = b.lo + team.rank(); x <= b.hi; x += team.size()) grad_b[x - b.lo] += correlated(upper, a, x);
  team.sync();
}

// d / d log omega_l of sum_k sum_r grad_inside_k(r) inside_k(r), by reverse mode through the tables.        (Eq. 11)
template <class Team, class T>
DRPM_DEVICE inline void law_backward(const Team& team, const PartitionMarginalsArgs<T>& args, int64_t row) {
  const int64_t subsets = args.num_subsets, n = args.n, stride = n + 2;
  T* out = args.grad_log_omega + row * subsets;
  if (!row_is_valid(args, row)) {
    for (int64_t k = team.rank(); k < subsets; k += team.size()) out[k] = static_cast<T>(__builtin_nan(""));
    return;
  }
  const BoundaryLaw law = boundary_law(args, row);
  for (int64_t i = team.rank(); i < subsets * stride; i += team.size())
    law.grad_f[i] = law.grad_prefix[i] = law.grad_suffix[i] = 0;
  team.sync();  // added to by other members
  for (int64_t k = 0; k + 1 < subsets; ++k) boundary_backward(team, law, args.grad_inside + row * subsets * n, k, n);
  for (int64_t k = subsets - 1; k >= 1; --k) {  // F_k = F_{k-1} * f_k
    const Window upper{law.grad_prefix + k * stride, law.prefix[k].lo, law.prefix[k].hi};
    convolve_backward(team, upper, law.f[k], law.prefix[k - 1], law.grad_f + k * stride,
                      law.grad_prefix + (k - 1) * stride);
  }
  for (int64_t x = team.rank(); x <= law.f[0].hi - law.f[0].lo; x += team.size())
    law.grad_f[x] += law.grad_prefix[x];  // F_0 = f_0
  team.sync();
  for (int64_t k = 0; k + 1 < subsets; ++k) {  // B_k = f_{k+1} * B_{k+1}
    const Window upper{law.grad_suffix + k * stride, law.suffix[k].lo, law.suffix[k].hi};
    convolve_backward(team, upper, law.f[k + 1], law.suffix[k + 1], law.grad_f + (k + 1) * stride,
                      law.grad_suffix + (k + 1) * stride);
  }
  for (int64_t k = 0; k < subsets; ++k) {
    const Window f = law.f[k];
    double sum = 0;
    for (int64_t x = f.lo + team.rank(); x <= f.hi; x += team.size())
      sum += law.grad_f[k * stride + x - f.lo] * f.value[x - f.lo] * static_cast<double>(x);
    sum = team.sum(sum);
    if (team.first()) out[k] = static_cast<T>(sum);
  }
}

}  // namespace DRPM_ISA
}  // namespace drpm
