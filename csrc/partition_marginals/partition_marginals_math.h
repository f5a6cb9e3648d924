// Numerics of the exact marginals (docs/math/partition_marginals.md). No torch headers.
#pragma once

#include "lanes/lane_math.h"
#include "lanes/team.h"
#include "partition_marginals/partition_marginals.h"
#include "special/decay.h"
#include "special/score_rows.h"

namespace drpm {
namespace DRPM_ISA {

// Ranks that the law of the arrivals can reach at a node, and two spare ones. Where its ends are cut at e^{-52} a law
// of n independent arrivals is no wider than 2 sqrt(52 n / 2) (Hoeffding).
DRPM_HD inline int64_t marginal_ranks(int64_t n) {
  const int64_t widest = static_cast<int64_t>(10.2 * __builtin_sqrt(static_cast<double>(n))) + 12;
  return widest < n + 3 ? widest : n + 3;
}

// Doubles of scratch of one block of a device, in the two directions.
DRPM_HD inline int64_t marginal_block_scratch(int64_t n, bool backward) {
  const int64_t node = 5 * n + 8, ranks = marginal_ranks(n);
  return backward ? node + ranks * (2 * kMarginalThreads + 1) : node;
}

DRPM_HD inline bool row_is_valid(const MarginalRows& args, int64_t row) {
  const double inside = args.inside[row * args.num_subsets * args.n];
  return inside == inside;
}

// Where neighbours lie this far apart, the earlier elements have all arrived (n e^{-e^{13}}) before the later ones
// begin to (n e^{-48}): what is beyond changes nothing, and would cost nodes.
constexpr double kMarginalGap = 52;

// Log-scores in decreasing order, from 0, with gaps of at most kMarginalGap. Within a cluster, between two wide gaps,
// differences are those of the log-scores themselves.
template <class Team, class T>
DRPM_DEVICE inline void sort_scores(const Team& team, const PartitionMarginalsArgs<T>& args, int64_t row) {
  const int64_t n = args.n;
  const int64_t* order = args.order + row * n;
  const T* log_scores = args.log_scores + row * n;
  double *score = args.score + row * n, *begin_of = args.inside + row * args.num_subsets * n;  // not yet used
  const double top = finite_largest(team, log_scores, n);
  if (team.first()) args.top[row] = top;
  const auto x = [&](int64_t i) { return reduced(log_scores[order[i]], top); };
  const auto begins = [&](int64_t i) { return i > 0 && i < n && x(i - 1) - x(i) > kMarginalGap; };
  int64_t before = 0;  // the begin of the cluster that the last element belongs to
  for (int64_t start = 0; start < n; start += team.size()) {
    const int64_t i = start + team.rank();
    int64_t last;
    const int64_t here = team.running_largest(begins(i) ? i : 0, &last);
    if (i < n) begin_of[i] = static_cast<double>(here > before ? here : before);
    before = last > before ? last : before;
  }
  team.sync();  // read by the next member
  double moved = 0;
  for (int64_t start = 0; start < n; start += team.size()) {
    const int64_t i = start + team.rank();
    double width = 0, all;  // of the cluster before, and of the gap
    if (begins(i)) width = x(static_cast<int64_t>(begin_of[i - 1])) - x(i - 1) + kMarginalGap;
    const double sum = moved + team.running_sum(width, &all);
    if (i < n) score[i] = x(i) - x(static_cast<int64_t>(begin_of[i])) - sum;
    moved += all;
  }
  team.sync();
}

// Elements begin ... end - 1 of the sorted scores are on their way at y: those before have arrived (z > e^{4.4}), those
// after have not begun to (z < e^{-60}), to any accuracy of use.
struct OnTheWay {
  int64_t begin, end;
};

// The first element whose score is at most `level`.
DRPM_HD inline int64_t first_at_most(const double* score, int64_t n, double level) {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (score[middle] <= level)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

DRPM_HD inline OnTheWay on_the_way(const double* score, int64_t n, double y) {
  return {first_at_most(score, n, 4.4 - y), first_at_most(score, n, -60 - y)};
}

// Sum over the slots of entry `at` of a row's `size` partial values.
DRPM_HD inline double sum_of_slots(const MarginalRows& args, const double* partial, int64_t row, int64_t size,
                                   int64_t at) {
  double sum = 0;
  for (int64_t slot = 0; slot < args.slots; ++slot) sum += partial[(row * args.slots + slot) * size + at];
  return sum;
}

// An element at a node: z = s t, and whether it has arrived.
template <class V>
struct Arrival {
  V z, p, q;  // p = 1 - e^{-z}, q = e^{-z}
};

template <class V>
DRPM_HD inline Arrival<V> arrival(V log_z) {
  const V z = cut_z<V>(exp_lane<V>(min_lane<V>(log_z, splat<V>(200))));
  const Decay<V> d = decay<V>(z);
  return {z, d.complement, d.exponential};
}

// ---- the nodes along y = log t ----

DRPM_HD inline double sigmoid(double x) {
  const double t = exp_lane<double>(-abs_lane<double>(x));
  return x > 0 ? 1 / (1 + t) : t / (1 + t);
}

// Edge b's share of rho(y), and of its integral from the left end.
DRPM_HD inline double map_edge_density(const MarginalMap& map, int64_t b, double y) {
  return map.change[b] * sigmoid((y - map.edge[b]) / map.width);
}
DRPM_HD inline double map_edge_position(const MarginalMap& map, int64_t b, double y) {
  const auto softplus = [&map](double v) {
    v /= map.width;
    return map.width * ((v > 0 ? v : 0) + log1p_lane<double>(exp_lane<double>(-abs_lane<double>(v))));
  };
  return map.change[b] * (softplus(y - map.edge[b]) - softplus(map.left - map.edge[b]));
}

DRPM_HD inline double map_density(const MarginalMap& map, double y) {
  double rho = map.density;
  for (int64_t b = 0; b < map.edges; ++b) rho += map_edge_density(map, b, y);
  return rho;
}

// x(y) = int_left^y rho                                                                                     (Eq. 7)
DRPM_HD inline double map_position(const MarginalMap& map, double y) {
  double x = map.density * (y - map.left);
  for (int64_t b = 0; b < map.edges; ++b) x += map_edge_position(map, b, y);
  return x;
}

// y with x(y) = x, by Newton from y, bisecting where that leaves what is known to hold the root, or hardly moves on.
// position(y) and density(y) are the sums above.
template <class Position, class Density>
DRPM_HD inline double map_inverse(const MarginalMap& map, double x, double y, const Position& position,
                                  const Density& density) {
  double low = map.left - 1, high = map.right + 1, previous = high - low;
  for (int step = 0; step < 120; ++step) {
    const double missing = x - position(y);
    (missing > 0 ? low : high) = y;
    double next = y + missing / density(y);
    const bool slow = abs_lane<double>(next - y) > 0.5 * previous;  // may go to and fro
    if (slow || !(next >= low && next <= high)) next = 0.5 * (low + high);
    previous = abs_lane<double>(next - y);
    y = next;
    if (previous < 1e-13 * (1 + abs_lane<double>(y))) break;
  }
  return y;
}

DRPM_HD inline double bin_centre(const MarginalMap& map, int64_t b) {
  return map.left + (static_cast<double>(b) + 0.5) * map.width;
}

// The wanted density of nodes from the sums of z e^{-z} and of p q at a point.                              (Eq. 8)
DRPM_HD inline double wanted_density(double slope, double variance, double density, double peak_step) {
  const double wanted = variance > 1e-3 ? slope * slope / (variance * peak_step * peak_step) : 0;
  return wanted > 0.04 * density * density ? __builtin_sqrt(density * density + wanted) : density;
}

// Edges where the density, raised to that of the neighbouring bins, changes.
DRPM_HD inline void set_edges(const double* density, int64_t bins, MarginalMap* map) {
  map->edges = 0;
  double before = map->density;
  for (int64_t b = 0; b < bins; ++b) {
    double here = density[b];
    if (b > 0 && density[b - 1] > here) here = density[b - 1];
    if (b + 1 < bins && density[b + 1] > here) here = density[b + 1];
    if (here != before && map->edges < kMarginalBins) {
      map->edge[map->edges] = map->left + static_cast<double>(b) * map->width;
      map->change[map->edges++] = here - before;
      before = here;
    }
  }
}

// Ends, base density and bin width of the map of a row whose lowest score is `lowest`; returns the number of bins.
DRPM_HD inline int64_t start_map(const MarginalRule& rule, double lowest, MarginalMap* map) {
  map->left = rule.left;
  map->right = log_lane<double>(rule.last_z) - lowest;
  const double span = map->right - map->left;
  map->width = span / kMarginalBins > 1 ? span / kMarginalBins : 1;
  map->density = 1 / rule.base_step;
  return static_cast<int64_t>(span / map->width) + 1;
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

// The law of the others, g = f / (q + p x). Upwards, for p <= 1/2: visit(r, g(r)) for r = lo ... hi, g(lo - 1) = 0.
// Downwards, elsewhere: r = hi - 1 ... lo - 1, g(hi) = 0. Both are stable there.                            (Eq. 6)
template <class V, class F>
DRPM_HD inline void remove_arrival_up(const double* f, int64_t lo, int64_t hi, V p, V q, const F& visit) {
  const V inverse = 1.0 / q, ratio = p * inverse;
  V g = splat<V>(0);
  for (int64_t r = lo; r <= hi; ++r) {
    g = f[r] * inverse - ratio * g;
    visit(r, g);
  }
}
template <class V, class F>
DRPM_HD inline void remove_arrival_down(const double* f, int64_t lo, int64_t hi, V p, V q, const F& visit) {
  const V inverse = 1.0 / p, ratio = q * inverse;
  V g = splat<V>(0);
  for (int64_t r = hi - 1; r >= lo - 1; --r) {
    g = f[r + 1] * inverse - ratio * g;
    visit(r, g);
  }
}

// The same for a pack of elements: out[r - lo + 1], r = lo - 1 ... hi.
template <class V>
DRPM_HD inline void remove_arrival(const double* f, int64_t lo, int64_t hi, V p, V q, bool some_up, bool some_down,
                                   double* out) {
  constexpr int kWidth = Lane<V>::kWidth;
  const V zero = splat<V>(0);
  if (some_up) {
    store<V>(out, zero);
    remove_arrival_up<V>(f, lo, hi, p, q, [&](int64_t r, V g) { store<V>(out + (r - lo + 1) * kWidth, g); });
  }
  if (some_down) {
    const auto down = p > 0.5;
    const auto keep = [&](int64_t r, V g) {
      double* at = out + (r - lo + 1) * kWidth;
      store<V>(at, some_up ? (down ? g : load<V>(at)) : g);
    };
    keep(hi, zero);
    remove_arrival_down<V>(f, lo, hi, p, q, keep);
  }
}

// Adjoint of the above: h with <h, f> = <adjoint, g>, from adjoint(r), r = lo - 1 ... hi; visit(r, h(r)).  (Eq. 10)
template <class V, class A, class F>
DRPM_HD inline void remove_backward_up(int64_t lo, int64_t hi, V inverse, V ratio, const A& adjoint, const F& visit) {
  V h = splat<V>(0);
  for (int64_t r = hi; r >= lo; --r) {
    h = adjoint(r) * inverse - ratio * h;
    visit(r, h);
  }
}
template <class V, class A, class F>
DRPM_HD inline void remove_backward_down(int64_t lo, int64_t hi, V inverse, V ratio, const A& adjoint, const F& visit) {
  V h = splat<V>(0);
  for (int64_t r = lo; r <= hi; ++r) {
    h = adjoint(r - 1) * inverse - ratio * h;
    visit(r, h);
  }
}

}  // namespace DRPM_ISA
}  // namespace drpm
