#include "partition_marginals/partition_marginals.h"
#include "partition_marginals/partition_marginals_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kWidth = Lane<VecD>::kWidth;

// f_k, F_k = f_0 * ... * f_k and B_k = f_{k+1} * ... * f_{K-1}, k = 0 ... K - 1; B_{K-1} = 1 at 0.
struct SizeTables {
  Window *f, *prefix, *suffix;
  double* free;  // what is left of the scratch
};

SizeTables size_tables(const PartitionMarginalsArgs& args, int64_t row) {
  const int64_t subsets = args.num_subsets, n = args.n, stride = n + 2;
  const double* log_omega = args.log_omega + row * subsets;
  const int64_t* m = args.m + row * subsets;
  SizeTables tables{};
  tables.f = reinterpret_cast<Window*>(args.scratch);
  tables.prefix = tables.f + subsets;
  tables.suffix = tables.prefix + subsets;
  double* at = args.scratch + 9 * subsets;
  static_assert(sizeof(Window) == 3 * sizeof(double), "the tables' heads take 9 K doubles");
  const double centre = tilt(log_omega, m, subsets, n);
  for (int64_t k = 0; k < subsets; ++k, at += stride) {
    tables.f[k].value = at;
    binomial_window(m[k], exp_lane<double>(log_omega[k] + centre), n, args.rule.negligible * 1e-10, &tables.f[k]);
  }
  tables.prefix[0] = tables.f[0];
  for (int64_t k = 1; k < subsets; ++k, at += stride) {
    tables.prefix[k].value = at;
    convolve(tables.prefix[k - 1], tables.f[k], n, &tables.prefix[k]);
  }
  tables.suffix[subsets - 1] = {at, 0, 0};
  at[0] = 1;
  at += stride;
  for (int64_t k = subsets - 2; k >= 0; --k, at += stride) {
    tables.suffix[k].value = at;
    convolve(tables.f[k + 1], tables.suffix[k + 1], n, &tables.suffix[k]);
  }
  tables.free = at;
  return tables;
}

// sum_t F_k(t) B_k(n - t): the same for each k up to rounding.
double boundary_total(const SizeTables& tables, int64_t k, int64_t n) {
  double total = 0;
  for (int64_t t = tables.prefix[k].lo; t <= tables.prefix[k].hi; ++t)
    total += tables.prefix[k].value[t - tables.prefix[k].lo] * at_or_zero(tables.suffix[k], n - t);
  return total;
}

// Pr[nu_{k-1} <= r < nu_k] = Pr[nu_{k-1} <= r] - Pr[nu_k <= r]                                          (Eq. 2, 4)
void fill_inside(const PartitionMarginalsArgs& args, int64_t row) {
  const int64_t subsets = args.num_subsets, n = args.n;
  double* inside = args.inside + row * subsets * n;
  if (!counts_are_valid(args.m + row * subsets, subsets, n)) {
    for (int64_t i = 0; i < subsets * n; ++i) inside[i] = __builtin_nan("");
    return;
  }
  const SizeTables tables = size_tables(args, row);
  for (int64_t r = 0; r < n; ++r) inside[r] = 1;
  for (int64_t k = 0; k + 1 < subsets; ++k) {
    double* here = inside + k * n;
    const double total = boundary_total(tables, k, n);
    double below = 0;  // Pr[nu_k <= r]
    for (int64_t r = 0; r < n; ++r) {
      below += at_or_zero(tables.prefix[k], r) * at_or_zero(tables.suffix[k], n - r) / total;
      here[n + r] = below;
      here[r] -= below;
    }
  }
}

// Density of nodes: what the width of the count's distribution asks for, bin by bin.                        (Eq. 8)
void fill_map(const PartitionMarginalsArgs& args, int64_t row) {
  const int64_t n = args.n;
  const double* score = args.score + row * n;
  MarginalMap& map = args.map[row];
  const int64_t bins = start_map(args.rule, score[n - 1], &map);
  double density[kMarginalBins + 2];
  for (int64_t b = 0; b < bins; ++b) {
    const double t = map.left + (static_cast<double>(b) + 0.5) * map.width;
    VecD slope = splat<VecD>(0), variance = splat<VecD>(0);
    for (int64_t i = 0; i < n; i += kWidth) {
      double padded[kWidth];
      for (int lane = 0; lane < kWidth; ++lane) padded[lane] = i + lane < n ? score[i + lane] + t : 200;
      const VecD z = cut_z<VecD>(exp_lane<VecD>(min_lane<VecD>(load<VecD>(padded), splat<VecD>(200))));
      const Decay<VecD> d = decay<VecD>(z);
      slope = fmadd<VecD>(z, d.exponential, slope);
      variance = fmadd<VecD>(d.complement, d.exponential, variance);
    }
    density[b] = wanted_density(sum_lanes<VecD>(slope), sum_lanes<VecD>(variance), map.density, args.rule.peak_step);
  }
  set_edges(density, bins, &map);
}

// One node of the quadrature: the elements' arrivals and the law of their number.
struct Node {
  double *z, *p, *q, *weight;  // (n, padded) s_i t, 1 - e^{-z}, e^{-z}, z e^{-z} dy
  double* f;                   // Pr[r elements have arrived], lo <= r <= hi
  int64_t lo, hi;
  double largest_weight;
};

struct NodeScratch {
  Node node;
  double *others, *adjoint, *back;  // packs of lanes by rank
  double* total;                    // sum of `back` over elements
  double* sums;                     // packs of lanes by rank, for kMarginalSubsets subsets
  double* active;                   // indices of the subsets that matter, as doubles
};

NodeScratch carve(const PartitionMarginalsArgs& args) {
  const int64_t padded = args.n + 16;
  NodeScratch s{};
  s.node.z = args.scratch;
  s.node.p = s.node.z + padded;
  s.node.q = s.node.p + padded;
  s.node.weight = s.node.q + padded;
  s.node.f = s.node.weight + padded + 4;
  s.total = s.node.weight + 2 * padded + 4;
  s.others = s.total + padded;
  s.adjoint = s.others + 8 * padded;
  s.back = s.adjoint + 8 * padded;
  s.sums = s.back + 8 * padded;
  s.active = s.sums + 8 * kMarginalSubsets * padded;
  return s;
}

// False where the node's contribution is negligible.
bool set_node(const PartitionMarginalsArgs& args, int64_t row, double y, Node* node) {
  const int64_t n = args.n;
  const double* score = args.score + row * n;
  const double dy = 1 / map_density(args.map[row], y);
  VecD largest = splat<VecD>(0);
  for (int64_t i = 0; i < n; i += kWidth) {
    double padded[kWidth];
    for (int lane = 0; lane < kWidth; ++lane) padded[lane] = i + lane < n ? score[i + lane] + y : 200;
    const VecD z = cut_z<VecD>(exp_lane<VecD>(min_lane<VecD>(load<VecD>(padded), splat<VecD>(200))));
    const Decay<VecD> d = decay<VecD>(z);
    const VecD weight = z * d.exponential * dy;
    store<VecD>(node->z + i, z);
    store<VecD>(node->p + i, d.complement);
    store<VecD>(node->q + i, d.exponential);
    store<VecD>(node->weight + i, weight);
    largest = max_lane<VecD>(largest, weight);
  }
  if (max_over_lanes<VecD>(largest) < args.rule.negligible) return false;
  node->lo = node->hi = 0;
  node->f[0] = 1;
  const double cut = args.rule.negligible * 1e-4;
  for (int64_t i = 0; i < n; ++i) add_arrival<VecD>(node->f, &node->lo, &node->hi, node->p[i], node->q[i], cut);
  return true;
}

// The subsets with a noticeable probability somewhere in the ranks lo - 1 ... hi.
int64_t find_active(const PartitionMarginalsArgs& args, const double* inside, int64_t lo, int64_t hi, double* active) {
  int64_t count = 0;
  for (int64_t k = 0; k < args.num_subsets; ++k) {
    double largest = 0;
    for (int64_t r = lo; r <= hi; ++r) largest = inside[k * args.n + r] > largest ? inside[k * args.n + r] : largest;
    if (largest > args.rule.negligible) active[count++] = static_cast<double>(k);
  }
  return count;
}

// Nodes of this block in turn.
template <class F>
void each_node(const PartitionMarginalsArgs& args, int64_t item, Node* node, const F& f) {
  const int64_t row = item / kMarginalBlocks;
  const MarginalMap& map = args.map[row];
  const double end = map_position(map, map.right);
  double y = map.left;
  for (int64_t j = item % kMarginalBlocks; static_cast<double>(j) <= end; j += kMarginalBlocks) {
    y = map_inverse(
        map, static_cast<double>(j), y, [&map](double at) { return map_position(map, at); },
        [&map](double at) { return map_density(map, at); });
    if (set_node(args, row, y, node)) f();
  }
}

// Ranks 0 ... n - 1 that the law of the others reaches at this node; and where they begin in `others`.
struct Ranks {
  int64_t first, last, skip;
};

Ranks ranks_of(const Node& node, int64_t n) {
  const int64_t first = node.lo > 0 ? node.lo - 1 : 0;
  return {first, node.hi < n ? node.hi : n - 1, first - (node.lo - 1)};
}

void remove_pack(const Node& node, int64_t i, int64_t n, double* others) {
  const double slowest = node.p[i + kWidth <= n ? i + kWidth - 1 : n - 1];  // p decreases with i; padded lanes have 1
  const bool up = slowest <= 0.5, down = node.p[i] > 0.5 || i + kWidth > n;
  remove_arrival<VecD>(node.f, node.lo, node.hi, load<VecD>(node.p + i), load<VecD>(node.q + i), up, down, others);
}

// M_ki += sum_nodes z_i e^{-z_i} dy sum_r Pr[r of the others have arrived] inside_k(r)                      (Eq. 1)
void nodes_forward(const PartitionMarginalsArgs& args, int64_t item) {
  const int64_t n = args.n, row = item / kMarginalBlocks;
  const double* inside = args.inside + row * args.num_subsets * n;
  double* out = args.partial + item * args.num_subsets * n;
  for (int64_t i = 0; i < args.num_subsets * n; ++i) out[i] = 0;
  const NodeScratch s = carve(args);
  Node node = s.node;
  each_node(args, item, &node, [&] {
    const Ranks ranks = ranks_of(node, n);
    const int64_t active = find_active(args, inside, ranks.first, ranks.last, s.active);
    for (int64_t i = 0; i < n; i += kWidth) {
      remove_pack(node, i, n, s.others);
      const double* others = s.others + ranks.skip * kWidth;
      const VecD weight = load<VecD>(node.weight + i);
      for (int64_t a = 0; a < active; ++a) {
        const int64_t k = static_cast<int64_t>(s.active[a]);
        const double* window = inside + k * n + ranks.first;
        VecD even = splat<VecD>(0), odd = splat<VecD>(0);
        int64_t r = 0;
        const int64_t count = ranks.last - ranks.first + 1;
        for (; r + 2 <= count; r += 2) {
          even = fmadd<VecD>(load<VecD>(others + r * kWidth), splat<VecD>(window[r]), even);
          odd = fmadd<VecD>(load<VecD>(others + (r + 1) * kWidth), splat<VecD>(window[r + 1]), odd);
        }
        if (r < count) even = fmadd<VecD>(load<VecD>(others + r * kWidth), splat<VecD>(window[r]), even);
        double* to = out + k * n + i;
        const VecD add = weight * (even + odd);
        if (i + kWidth <= n) {
          store<VecD>(to, load<VecD>(to) + add);
        } else {
          double lanes[kWidth];
          store<VecD>(lanes, add);
          for (int lane = 0; i + lane < n; ++lane) to[lane] += lanes[lane];
        }
      }
    }
  });
}

VecD load_some(const double* p, int64_t count) {
  if (count >= kWidth) return load<VecD>(p);
  double lanes[kWidth] = {};
  for (int64_t lane = 0; lane < count; ++lane) lanes[lane] = p[lane];
  return load<VecD>(lanes);
}

// Adjoint of remove_arrival: h with <h, f> = <adjoint, others>, added up over the pack's lanes into `total`. Both
// directions as in remove_arrival. `adjoint` starts at rank lo - 1, `back` at rank lo.                     (Eq. 10)
void remove_backward(const Node& node, int64_t i, int64_t n, const double* adjoint, double* back) {
  const VecD p = load<VecD>(node.p + i), q = load<VecD>(node.q + i), zero = splat<VecD>(0);
  const auto down = p > 0.5;
  const double slowest = node.p[i + kWidth <= n ? i + kWidth - 1 : n - 1];
  const auto adjoint_at = [&](int64_t r) { return load<VecD>(adjoint + (r - node.lo + 1) * kWidth); };
  const bool some_up = slowest <= 0.5;
  if (some_up) {
    const VecD inverse = 1.0 / (down ? splat<VecD>(1) : q), ratio = (down ? zero : p) * inverse;
    remove_backward_up<VecD>(node.lo, node.hi, inverse, ratio, adjoint_at,
                             [&](int64_t r, VecD h) { store<VecD>(back + (r - node.lo) * kWidth, h); });
  }
  if (node.p[i] > 0.5 || i + kWidth > n) {
    const VecD inverse = 1.0 / (down ? p : splat<VecD>(1)), ratio = (down ? q : zero) * inverse;
    remove_backward_down<VecD>(node.lo, node.hi, inverse, ratio, adjoint_at, [&](int64_t r, VecD h) {
      double* at = back + (r - node.lo) * kWidth;
      store<VecD>(at, some_up ? (down ? h : load<VecD>(at)) : h);
    });
  }
}

// d / d inside_k(r) += sum_i G_ki z_i e^{-z_i} dy g_i(r), some subsets at a time, so that the sums stay in lanes.
void add_grad_inside(const PartitionMarginalsArgs& args, const Node& node, const Ranks& ranks, const double* grad,
                     const NodeScratch& s, double* grad_inside) {
  const int64_t n = args.n, count = ranks.last - ranks.first + 1;
  for (int64_t begin = 0; begin < args.num_subsets; begin += kMarginalSubsets) {
    const int64_t subsets = args.num_subsets - begin < kMarginalSubsets ? args.num_subsets - begin : kMarginalSubsets;
    for (int64_t i = 0; i < subsets * count * kWidth; ++i) s.sums[i] = 0;
    for (int64_t i = 0; i < n; i += kWidth) {
      remove_pack(node, i, n, s.others);
      const double* others = s.others + ranks.skip * kWidth;
      const VecD weight = load_some(node.weight + i, n - i);
      for (int64_t k = 0; k < subsets; ++k) {
        const VecD g = load_some(grad + (begin + k) * n + i, n - i) * weight;
        double* to = s.sums + k * count * kWidth;
        for (int64_t r = 0; r < count * kWidth; r += kWidth)
          store<VecD>(to + r, fmadd<VecD>(g, load<VecD>(others + r), load<VecD>(to + r)));
      }
    }
    for (int64_t k = 0; k < subsets; ++k)
      for (int64_t r = 0; r < count; ++r)
        grad_inside[(begin + k) * n + ranks.first + r] +=
            sum_lanes<VecD>(load<VecD>(s.sums + (k * count + r) * kWidth));
  }
}

void nodes_backward(const PartitionMarginalsArgs& args, int64_t item) {
  const int64_t n = args.n, subsets = args.num_subsets, row = item / kMarginalBlocks;
  const double* inside = args.inside + row * subsets * n;
  const double* grad = args.grad + row * subsets * n;
  double* grad_inside = args.partial_inside + item * subsets * n;
  double* grad_score = args.partial_score + item * n;
  for (int64_t i = 0; i < subsets * n; ++i) grad_inside[i] = 0;
  for (int64_t i = 0; i < n; ++i) grad_score[i] = 0;
  const NodeScratch s = carve(args);
  Node node = s.node;
  each_node(args, item, &node, [&] {
    const Ranks ranks = ranks_of(node, n);
    const int64_t count = ranks.last - ranks.first + 1, length = node.hi - node.lo + 1;
    const int64_t active = find_active(args, inside, ranks.first, ranks.last, s.active);
    add_grad_inside(args, node, ranks, grad, s, grad_inside);
    for (int64_t r = 0; r < length * kWidth; ++r) s.sums[r] = 0;
    for (int64_t i = 0; i < n; i += kWidth) {
      remove_pack(node, i, n, s.others);
      const double* others = s.others + ranks.skip * kWidth;
      const VecD weight = load_some(node.weight + i, n - i);
      double* adjoint = s.adjoint + ranks.skip * kWidth;  // first: sum_k G_ki inside_k(r)
      for (int64_t r = 0; r < (length + 1) * kWidth; ++r) s.adjoint[r] = 0;
      for (int64_t a = 0; a < active; a += 4) {  // four subsets at a time: a quarter of the loads and stores
        VecD g[4];
        const double* window[4];
        for (int64_t c = 0; c < 4; ++c) {
          const int64_t k = static_cast<int64_t>(s.active[a + c < active ? a + c : a]);
          g[c] = a + c < active ? load_some(grad + k * n + i, n - i) : splat<VecD>(0);
          window[c] = inside + k * n + ranks.first;
        }
        for (int64_t r = 0; r < count; ++r) {
          const VecD low = fmadd<VecD>(g[0], splat<VecD>(window[0][r]), g[1] * window[1][r]);
          const VecD high = fmadd<VecD>(g[2], splat<VecD>(window[2][r]), g[3] * window[3][r]);
          store<VecD>(adjoint + r * kWidth, load<VecD>(adjoint + r * kWidth) + (low + high));
        }
      }
      // the density z e^{-z}, then p_i within the others' law:  - sum_r h_i(r) [g_i(r - 1) - g_i(r)]
      VecD expectation = splat<VecD>(0);
      for (int64_t r = 0; r < count; ++r)
        expectation = fmadd<VecD>(load<VecD>(others + r * kWidth), load<VecD>(adjoint + r * kWidth), expectation);
      for (int64_t r = 0; r <= length; ++r)
        store<VecD>(s.adjoint + r * kWidth, weight * load<VecD>(s.adjoint + r * kWidth));
      remove_backward(node, i, n, s.adjoint, s.back);
      VecD own = splat<VecD>(0);
      for (int64_t r = 0; r < length; ++r) {
        const VecD h = load<VecD>(s.back + r * kWidth);
        own = fmadd<VecD>(h, load<VecD>(s.others + r * kWidth) - load<VecD>(s.others + (r + 1) * kWidth), own);
        store<VecD>(s.sums + r * kWidth, load<VecD>(s.sums + r * kWidth) + h);
      }
      const VecD z = load<VecD>(node.z + i), q = load<VecD>(node.q + i);
      double lanes[kWidth];
      store<VecD>(lanes, weight * (1.0 - z) * expectation - z * q * own);
      for (int lane = 0; lane < kWidth && i + lane < n; ++lane) grad_score[i + lane] += lanes[lane];
    }
    for (int64_t r = 0; r < length; ++r) s.total[r] = sum_lanes<VecD>(load<VecD>(s.sums + r * kWidth));
    for (int64_t i = 0; i < n; i += kWidth) {  // p_i within the law of all: sum_r total(r) [g_i(r - 1) - g_i(r)]
      remove_pack(node, i, n, s.others);
      VecD sum = splat<VecD>(0);
      for (int64_t r = 0; r < length; ++r) {
        const VecD change = load<VecD>(s.others + r * kWidth) - load<VecD>(s.others + (r + 1) * kWidth);
        sum = fmadd<VecD>(splat<VecD>(s.total[r]), change, sum);
      }
      double lanes[kWidth];
      store<VecD>(lanes, load<VecD>(node.z + i) * load<VecD>(node.q + i) * sum);
      for (int lane = 0; lane < kWidth && i + lane < n; ++lane) grad_score[i + lane] += lanes[lane];
    }
  });
}

// d / d log omega_l of sum_k sum_r grad_inside_k(r) inside_k(r), by reverse mode through the tables.        (Eq. 11)
void windows_backward(const PartitionMarginalsArgs& args, int64_t row) {
  const int64_t subsets = args.num_subsets, n = args.n, stride = n + 2;
  const double* grad = args.grad_inside + row * subsets * n;
  double* out = args.grad_log_omega + row * subsets;
  for (int64_t k = 0; k < subsets; ++k) out[k] = 0;
  if (!counts_are_valid(args.m + row * subsets, subsets, n)) {
    for (int64_t k = 0; k < subsets; ++k) out[k] = __builtin_nan("");
    return;
  }
  const SizeTables tables = size_tables(args, row);
  double* grad_f = tables.free;                     // (K, n + 2)
  double* grad_prefix = grad_f + subsets * stride;  // (K, n + 2)
  double* grad_suffix = grad_prefix + subsets * stride;
  double* value = grad_suffix + subsets * stride;  // (n + 2)
  for (int64_t i = 0; i < 3 * subsets * stride; ++i) grad_f[i] = 0;
  for (int64_t k = 0; k + 1 < subsets; ++k) {
    const Window &prefix = tables.prefix[k], &suffix = tables.suffix[k];
    const double total = boundary_total(tables, k, n);
    double tail = 0, mean = 0;  // value(t) = sum_{r >= t} d / d Pr[nu_k <= r]
    value[n] = 0;
    for (int64_t t = n - 1; t >= 0; --t) value[t] = tail += grad[(k + 1) * n + t] - grad[k * n + t];
    for (int64_t t = prefix.lo; t <= prefix.hi; ++t)
      mean += value[t] * prefix.value[t - prefix.lo] * at_or_zero(suffix, n - t) / total;
    for (int64_t t = prefix.lo; t <= prefix.hi; ++t) {
      if (n - t < suffix.lo || n - t > suffix.hi) continue;
      const double centred = (value[t] - mean) / total;
      grad_prefix[k * stride + t - prefix.lo] += centred * suffix.value[n - t - suffix.lo];
      grad_suffix[k * stride + n - t - suffix.lo] += centred * prefix.value[t - prefix.lo];
    }
  }
  for (int64_t k = subsets - 1; k >= 1; --k) {  // F_k = F_{k-1} * f_k
    const Window upper{grad_prefix + k * stride, tables.prefix[k].lo, tables.prefix[k].hi};
    convolve_backward(upper, tables.prefix[k - 1], tables.f[k], grad_f + k * stride);
    convolve_backward(upper, tables.f[k], tables.prefix[k - 1], grad_prefix + (k - 1) * stride);
  }
  for (int64_t x = 0; x <= tables.f[0].hi - tables.f[0].lo; ++x) grad_f[x] += grad_prefix[x];  // F_0 = f_0
  for (int64_t k = 0; k + 1 < subsets; ++k) {  // B_k = f_{k+1} * B_{k+1}
    const Window upper{grad_suffix + k * stride, tables.suffix[k].lo, tables.suffix[k].hi};
    convolve_backward(upper, tables.suffix[k + 1], tables.f[k + 1], grad_f + (k + 1) * stride);
    convolve_backward(upper, tables.f[k + 1], tables.suffix[k + 1], grad_suffix + (k + 1) * stride);
  }
  for (int64_t k = 0; k < subsets; ++k)
    for (int64_t x = tables.f[k].lo; x <= tables.f[k].hi; ++x)
      out[k] +=
          grad_f[k * stride + x - tables.f[k].lo] * tables.f[k].value[x - tables.f[k].lo] * static_cast<double>(x);
}

bool row_is_valid(const PartitionMarginalsArgs& args, int64_t item) {
  const double* inside = args.inside + item / kMarginalBlocks * args.num_subsets * args.n;
  return inside[0] == inside[0];
}

}  // namespace

void marginal_windows(const PartitionMarginalsArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    fill_inside(args, row);
    fill_map(args, row);
  }
}

void marginal_nodes(const PartitionMarginalsArgs& args, int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; ++item) {
    if (row_is_valid(args, item)) {
      nodes_forward(args, item);
    } else {
      const int64_t size = args.num_subsets * args.n;
      for (int64_t i = 0; i < size; ++i) args.partial[item * size + i] = __builtin_nan("");
    }
  }
}

void marginal_nodes_backward(const PartitionMarginalsArgs& args, int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; ++item) {
    if (row_is_valid(args, item)) {
      nodes_backward(args, item);
    } else {
      const int64_t size = args.num_subsets * args.n;
      for (int64_t i = 0; i < size; ++i) args.partial_inside[item * size + i] = __builtin_nan("");
      for (int64_t i = 0; i < args.n; ++i) args.partial_score[item * args.n + i] = __builtin_nan("");
    }
  }
}

void marginal_windows_backward(const PartitionMarginalsArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) windows_backward(args, row);
}

}  // namespace DRPM_ISA
}  // namespace drpm
