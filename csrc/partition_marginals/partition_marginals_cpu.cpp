#include "partition_marginals/boundary_law.h"
#include "partition_marginals/node_scratch.h"
#include "partition_marginals/partition_marginals.h"
#include "partition_marginals/partition_marginals_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kWidth = Lane<VecD>::kWidth;

// log z of elements i, i + 1, ... at y; lanes beyond the row have arrived long ago.
VecD log_z(const double* score, int64_t i, int64_t n, double y) {
  double lanes[kWidth];
  for (int lane = 0; lane < kWidth; ++lane) lanes[lane] = i + lane < n ? score[i + lane] + y : 200;
  return load<VecD>(lanes);
}

// Density of nodes: what the width of the count's distribution asks for, bin by bin.                        (Eq. 8)
void fill_map(const MarginalRows& args, int64_t row) {
  const int64_t n = args.n;
  const double* score = args.score + row * n;
  MarginalMap& map = args.map[row];
  const int64_t bins = start_map(args.rule, score[n - 1], &map);
  double* density = args.density + row * (kMarginalBins + 2);
  for (int64_t b = 0; b < bins; ++b) {
    const double t = bin_centre(map, b);
    VecD slope = splat<VecD>(0), variance = splat<VecD>(0);
    for (int64_t i = 0; i < n; i += kWidth) {
      const Arrival<VecD> at = arrival<VecD>(log_z(score, i, n, t));
      slope = fmadd<VecD>(at.z, at.q, slope);
      variance = fmadd<VecD>(at.p, at.q, variance);
    }
    density[b] = wanted_density(sum_lanes<VecD>(slope), sum_lanes<VecD>(variance), map.density, args.rule.peak_step);
  }
  set_edges(density, bins, &map);
}

// False where the node's contribution is negligible.
bool set_node(const MarginalRows& args, int64_t row, double y, ArrivalNode* node) {
  const int64_t n = args.n;
  const double* score = args.score + row * n;
  const double dy = 1 / map_density(args.map[row], y);
  const OnTheWay elements = on_the_way(score, n, y);
  node->begin = elements.begin / kWidth * kWidth;
  node->end = elements.end;
  VecD largest = splat<VecD>(0);
  for (int64_t i = node->begin; i < node->end; i += kWidth) {
    const Arrival<VecD> at = arrival<VecD>(log_z(score, i, n, y));
    const VecD weight = at.z * at.q * dy;
    store<VecD>(node->z + i, at.z);
    store<VecD>(node->p + i, at.p);
    store<VecD>(node->q + i, at.q);
    store<VecD>(node->weight + i, weight);
    largest = max_lane<VecD>(largest, weight);
  }
  if (max_over_lanes<VecD>(largest) < args.rule.negligible) return false;
  node->lo = node->hi = node->begin;
  node->f[node->begin] = 1;
  const double cut = args.rule.negligible * 1e-4;
  for (int64_t i = node->begin; i < node->end; ++i)
    add_arrival<VecD>(node->f, &node->lo, &node->hi, node->p[i], node->q[i], cut);
  return true;
}

// The subsets with a noticeable probability somewhere in the ranks lo - 1 ... hi.
int64_t find_active(const MarginalRows& args, const double* inside, int64_t lo, int64_t hi, int64_t* active) {
  int64_t count = 0;
  for (int64_t k = 0; k < args.num_subsets; ++k) {
    double largest = 0;
    for (int64_t r = lo; r <= hi; ++r) largest = inside[k * args.n + r] > largest ? inside[k * args.n + r] : largest;
    if (largest > args.rule.negligible) active[count++] = k;
  }
  return count;
}

// Nodes of this block in turn.
template <class F>
void each_node(const MarginalRows& args, int64_t item, ArrivalNode* node, const F& f) {
  const int64_t row = item / kMarginalSlots;
  const MarginalMap& map = args.map[row];
  const double end = map_position(map, map.right);
  double y = map.left;
  for (int64_t j = item % kMarginalSlots; static_cast<double>(j) <= end; j += kMarginalSlots) {
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

Ranks ranks_of(const ArrivalNode& node, int64_t n) {
  const int64_t first = node.lo > 0 ? node.lo - 1 : 0;
  return {first, node.hi < n ? node.hi : n - 1, first - (node.lo - 1)};
}

void remove_pack(const ArrivalNode& node, int64_t i, int64_t n, double* others) {
  const double slowest = node.p[i + kWidth <= n ? i + kWidth - 1 : n - 1];  // p decreases with i; padded lanes have 1
  const bool up = slowest <= 0.5, down = node.p[i] > 0.5 || i + kWidth > n;
  remove_arrival<VecD>(node.f, node.lo, node.hi, load<VecD>(node.p + i), load<VecD>(node.q + i), up, down, others);
}

// M_ki += sum_nodes z_i e^{-z_i} dy sum_r Pr[r of the others have arrived] inside_k(r)                      (Eq. 1)
void nodes_forward(const MarginalRows& args, int64_t item) {
  const int64_t n = args.n, row = item / kMarginalSlots;
  const double* inside = args.inside + row * args.num_subsets * n;
  double* out = args.partial + item * args.num_subsets * n;
  for (int64_t i = 0; i < args.num_subsets * n; ++i) out[i] = 0;
  const NodeScratch s = node_scratch(args.block, n, args.num_subsets);
  ArrivalNode node = s.node;
  each_node(args, item, &node, [&] {
    const Ranks ranks = ranks_of(node, n);
    const int64_t active = find_active(args, inside, ranks.first, ranks.last, s.active);
    for (int64_t i = node.begin; i < node.end; i += kWidth) {
      remove_pack(node, i, n, s.others);
      const double* others = s.others + ranks.skip * kWidth;
      const VecD weight = load<VecD>(node.weight + i);
      for (int64_t a = 0; a < active; ++a) {
        const int64_t k = s.active[a];
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
void remove_backward(const ArrivalNode& node, int64_t i, int64_t n, const double* adjoint, double* back) {
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
void add_grad_inside(const MarginalRows& args, const ArrivalNode& node, const Ranks& ranks, const double* grad,
                     const NodeScratch& s, double* grad_inside) {
  const int64_t n = args.n, count = ranks.last - ranks.first + 1;
  for (int64_t begin = 0; begin < args.num_subsets; begin += kMarginalSubsets) {
    const int64_t subsets = args.num_subsets - begin < kMarginalSubsets ? args.num_subsets - begin : kMarginalSubsets;
    for (int64_t i = 0; i < subsets * count * kWidth; ++i) s.sums[i] = 0;
    for (int64_t i = node.begin; i < node.end; i += kWidth) {
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

void nodes_backward(const MarginalRows& args, int64_t item) {
  const int64_t n = args.n, subsets = args.num_subsets, row = item / kMarginalSlots;
  const double* inside = args.inside + row * subsets * n;
  const double* grad = args.sorted_grad + row * subsets * n;
  double* grad_inside = args.partial + item * subsets * n;
  double* grad_score = args.partial_score + item * n;
  for (int64_t i = 0; i < subsets * n; ++i) grad_inside[i] = 0;
  for (int64_t i = 0; i < n; ++i) grad_score[i] = 0;
  const NodeScratch s = node_scratch(args.block, n, args.num_subsets);
  ArrivalNode node = s.node;
  each_node(args, item, &node, [&] {
    const Ranks ranks = ranks_of(node, n);
    const int64_t count = ranks.last - ranks.first + 1, length = node.hi - node.lo + 1;
    const int64_t active = find_active(args, inside, ranks.first, ranks.last, s.active);
    add_grad_inside(args, node, ranks, grad, s, grad_inside);
    for (int64_t r = 0; r < length * kWidth; ++r) s.sums[r] = 0;
    for (int64_t i = node.begin; i < node.end; i += kWidth) {
      remove_pack(node, i, n, s.others);
      const double* others = s.others + ranks.skip * kWidth;
      const VecD weight = load_some(node.weight + i, n - i);
      double* adjoint = s.adjoint + ranks.skip * kWidth;  // first: sum_k G_ki inside_k(r)
      for (int64_t r = 0; r < (length + 1) * kWidth; ++r) s.adjoint[r] = 0;
      for (int64_t a = 0; a < active; a += 4) {  // four subsets at a time: a quarter of the loads and stores
        VecD g[4];
        const double* window[4];
        for (int64_t c = 0; c < 4; ++c) {
          const int64_t k = s.active[a + c < active ? a + c : a];
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
    for (int64_t i = node.begin; i < node.end;
         i += kWidth) {  // p_i within the law of all: sum_r total(r) [g_i(r - 1) - g_i(r)]
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

template <class T>
void windows(const PartitionMarginalsArgs<T>& args, int64_t row) {
  sort_scores(Alone(), args, row);
  fill_map(args, row);
  fill_inside(Alone(), args, row);
}

template <class T>
void totals(const PartitionMarginalsArgs<T>& args, int64_t row) {
  const int64_t n = args.n, size = args.num_subsets * n;
  for (int64_t at = 0; at < size; ++at)
    args.marginals[row * size + at - at % n + args.order[row * n + at % n]] =
        static_cast<T>(sum_of_slots(args, args.partial, row, size, at));
}

template <class T>
void sort_gradient(const PartitionMarginalsArgs<T>& args, int64_t row) {
  const int64_t n = args.n, size = args.num_subsets * n;
  for (int64_t at = 0; at < size; ++at)
    args.sorted_grad[row * size + at] = args.grad[row * size + at - at % n + args.order[row * n + at % n]];
}

template <class T>
void windows_backward(const PartitionMarginalsArgs<T>& args, int64_t row) {
  const int64_t n = args.n, size = args.num_subsets * n;
  for (int64_t i = 0; i < size; ++i) args.grad_inside[row * size + i] = sum_of_slots(args, args.partial, row, size, i);
  for (int64_t i = 0; i < n; ++i)
    args.grad_log_scores[row * n + args.order[row * n + i]] =
        static_cast<T>(sum_of_slots(args, args.partial_score, row, n, i));
  law_backward(Alone(), args, row);
}

void fill_nan(double* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = __builtin_nan("");
}

}  // namespace

void marginal_nodes(const MarginalRows& args, int64_t begin, int64_t end) {
  const int64_t size = args.num_subsets * args.n;
  for (int64_t item = begin; item < end; ++item) {
    if (row_is_valid(args, item / kMarginalSlots))
      nodes_forward(args, item);
    else
      fill_nan(args.partial + item * size, size);
  }
}

void marginal_nodes_backward(const MarginalRows& args, int64_t begin, int64_t end) {
  const int64_t size = args.num_subsets * args.n;
  for (int64_t item = begin; item < end; ++item) {
    if (row_is_valid(args, item / kMarginalSlots)) {
      nodes_backward(args, item);
    } else {
      fill_nan(args.partial + item * size, size);
      fill_nan(args.partial_score + item * args.n, args.n);
    }
  }
}

#define DRPM_MARGINAL_KERNEL(Name, body)                                              \
  void Name(const PartitionMarginalsArgs<float>& args, int64_t begin, int64_t end) {  \
    for (int64_t row = begin; row < end; ++row) body(args, row);                      \
  }                                                                                   \
  void Name(const PartitionMarginalsArgs<double>& args, int64_t begin, int64_t end) { \
    for (int64_t row = begin; row < end; ++row) body(args, row);                      \
  }

DRPM_MARGINAL_KERNEL(marginal_windows, windows)
DRPM_MARGINAL_KERNEL(marginal_totals, totals)
DRPM_MARGINAL_KERNEL(marginal_sort_gradient, sort_gradient)
DRPM_MARGINAL_KERNEL(marginal_windows_backward, windows_backward)

}  // namespace DRPM_ISA
}  // namespace drpm
