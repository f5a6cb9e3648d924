#include "device/cuda_launch.h"
#include "partition_marginals/boundary_law.h"
#include "partition_marginals/partition_marginals.h"
#include "partition_marginals/partition_marginals_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kSubsets = 8;  // whose sums a thread keeps in registers

template <class T>
using Args = PartitionMarginalsArgs<T>;

// ---- the law of the sizes, a block a row ----

template <class T>
__global__ void __launch_bounds__(kMaxThreads) sort_scores_kernel(Args<T> args) {
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) sort_scores(Block(), args, row);
}

// Density of nodes that each bin asks for; a warp takes a bin.                                              (Eq. 8)
template <class T>
__global__ void __launch_bounds__(kMarginalThreads, 4) density_kernel(Args<T> args) {
  const int lane = threadIdx.x % kWarpSize;
  constexpr int64_t most = kMarginalBins + 2;
  for_warp_items(args.rows * most, [&](int64_t item, int64_t) {
    const int64_t row = item / most, b = item % most;
    const double* score = args.score + row * args.n;
    MarginalMap map;
    if (b >= start_map(args.rule, score[args.n - 1], &map)) return;
    const double t = bin_centre(map, b);
    double slope = 0, variance = 0;
    for (int64_t i = lane; i < args.n; i += kWarpSize) {
      const Arrival<double> element = arrival<double>(score[i] + t);
      slope += element.z * element.q;
      variance += element.p * element.q;
    }
    slope = warp_reduce(slope, Add());
    variance = warp_reduce(variance, Add());
    if (lane == 0) args.density[item] = wanted_density(slope, variance, map.density, args.rule.peak_step);
  });
}

template <class T>
__global__ void __launch_bounds__(kMarginalThreads, 4) windows_kernel(Args<T> args) {
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    if (threadIdx.x == 0)
      set_edges(args.density + row * (kMarginalBins + 2),
                start_map(args.rule, args.score[(row + 1) * args.n - 1], &args.map[row]), &args.map[row]);
    fill_inside(Block(), args, row);
  }
}

// ---- the quadrature, a block a slot ----

// One node: the elements' arrivals and the law of their number.
struct Node {
  double *z, *p, *q;  // (n) s_i t, 1 - e^{-z}, e^{-z}
  double* f;          // Pr[r elements have arrived], lo <= r <= hi, f[r]
  double* spare;      // where the next f is built
  int64_t lo, hi;
  int64_t begin, end;  // the elements on their way; the others make no difference
  double dy;
  // Ranks 0 ... n - 1 that the law of the others reaches.
  __device__ int64_t first() const { return lo > 0 ? lo - 1 : 0; }
  __device__ int64_t last(int64_t n) const { return hi < n ? hi : n - 1; }
};

// f <- q f + p shift(f) for one element after the other; both ends below the cut are trimmed. One barrier an element:
// what is read and what is written lie in two buffers.                                                      (Eq. 5)
__device__ inline void count_arrivals(double cut, Node* node) {
  node->lo = node->hi = node->begin;
  if (threadIdx.x == 0) node->f[node->begin] = 1;
  __syncthreads();
  for (int64_t i = node->begin; i < node->end; ++i) {
    const double p = node->p[i], q = node->q[i];
    for (int64_t r = node->lo + threadIdx.x; r <= node->hi + 1; r += blockDim.x)
      node->spare[r] = (r <= node->hi ? q * node->f[r] : 0.0) + (r > node->lo ? p * node->f[r - 1] : 0.0);
    __syncthreads();
    double* swap = node->f;
    node->f = node->spare;
    node->spare = swap;
    ++node->hi;
    while (node->hi > node->lo && node->f[node->hi] < cut) --node->hi;
    while (node->lo < node->hi && node->f[node->lo] < cut) ++node->lo;
  }
}

// False where the node's contribution is negligible. Ends with the block in step.
template <class T>
__device__ bool set_node(const Args<T>& args, int64_t row, double y, Node* node) {
  const double* score = args.score + row * args.n;
  const OnTheWay elements = on_the_way(score, args.n, y);
  node->begin = elements.begin;
  node->end = elements.end;
  double largest = 0;
  for (int64_t i = node->begin + threadIdx.x; i < node->end; i += blockDim.x) {
    const Arrival<double> element = arrival<double>(score[i] + y);
    node->z[i] = element.z;
    node->p[i] = element.p;
    node->q[i] = element.q;
    largest = max_lane<double>(largest, element.z * element.q * node->dy);
  }
  if (block_reduce(largest, 0.0, Maximum()) < args.rule.negligible) return false;
  count_arrivals(args.rule.negligible * 1e-4, node);
  return true;
}

// f(node) for every node of the slot that matters, with the block in step before and after.
template <class T, class F>
__device__ void each_node(const Args<T>& args, int64_t row, int64_t slot, double* scratch, const F& f) {
  const MarginalMap& map = args.map[row];
  const auto sum_edges = [&map](auto term) {
    double sum = 0;
    for (int64_t b = threadIdx.x; b < map.edges; b += blockDim.x) sum += term(b);
    return block_sum(sum);
  };
  const auto position = [&](double y) {
    return map.density * (y - map.left) + sum_edges([&](int64_t b) { return map_edge_position(map, b, y); });
  };
  const auto density = [&](double y) {
    return map.density + sum_edges([&](int64_t b) { return map_edge_density(map, b, y); });
  };
  const int64_t n = args.n;
  Node node{scratch, scratch + n, scratch + 2 * n, scratch + 3 * n, scratch + 4 * n + 4, 0, 0, 0, 0, 0};
  const double end = position(map.right);
  double y = map.left;
  for (int64_t j = slot; static_cast<double>(j) <= end; j += args.slots) {
    y = map_inverse(map, static_cast<double>(j), y, position, density);
    node.dy = 1 / density(y);
    if (set_node(args, row, y, &node)) f(node);
    __syncthreads();  // the next node's arrays take the place of this one's
  }
}

// g of one element, by the direction that is stable for it.
template <class F>
__device__ void others_law(const Node& node, int64_t i, const F& visit) {
  const double p = node.p[i], q = node.q[i];
  if (p > 0.5)
    remove_arrival_down<double>(node.f, node.lo, node.hi, p, q, visit);
  else
    remove_arrival_up<double>(node.f, node.lo, node.hi, p, q, visit);
}

// M_ki += z_i e^{-z_i} dy sum_r Pr[r of the others have arrived] inside_k(r)                                (Eq. 1)
template <class T>
__device__ void add_marginals(const Args<T>& args, int64_t row, const Node& node, double* out) {
  const int64_t n = args.n, first = node.first(), last = node.last(n);
  for (int64_t begin = 0; begin < args.num_subsets; begin += kSubsets) {
    const double* inside = args.inside + (row * args.num_subsets + begin) * n;
    const int64_t count = args.num_subsets - begin < kSubsets ? args.num_subsets - begin : kSubsets;
    double largest = 0;  // of these subsets' windows: most nodes see few subsets
    for (int64_t c = 0; c < count; ++c)
      for (int64_t r = first + threadIdx.x; r <= last; r += blockDim.x)
        largest = max_lane<double>(largest, inside[c * n + r]);
    if (block_reduce(largest, 0.0, Maximum()) <= args.rule.negligible) continue;
    for (int64_t i = node.begin + threadIdx.x; i < node.end; i += blockDim.x) {
      double sum[kSubsets] = {};
      others_law(node, i, [&](int64_t r, double g) {
        if (r < first || r > last) return;
#pragma unroll
        for (int c = 0; c < kSubsets; ++c) sum[c] += g * inside[(c < count ? c : 0) * n + r];
      });
      const double weight = node.z[i] * node.q[i] * node.dy;
#pragma unroll
      for (int c = 0; c < kSubsets; ++c)
        if (c < count) out[(begin + c) * n + i] += weight * sum[c];
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kMarginalThreads, 3) marginal_nodes_kernel(Args<T> args) {
  const int64_t size = args.num_subsets * args.n, scratch = marginal_block_scratch(args.n, false);
  for (int64_t item = blockIdx.x; item < args.rows * args.slots; item += gridDim.x) {
    const int64_t row = item / args.slots;
    double* out = args.partial + item * size;
    const double start = row_is_valid(args, row) ? 0 : __builtin_nan("");
    for (int64_t i = threadIdx.x; i < size; i += blockDim.x) out[i] = start;
    __syncthreads();  // other threads add to them
    if (start == 0)
      each_node(args, row, item % args.slots, args.block + item * scratch,
                [&](const Node& node) { add_marginals(args, row, node, out); });
  }
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) marginal_totals_kernel(Args<T> args) {
  const int64_t n = args.n, size = args.num_subsets * n;
  for_elements(args.rows * size, [&](int64_t at) {
    const int64_t row = at / size, inner = at % size, i = inner % n;
    args.marginals[row * size + inner - i + args.order[row * n + i]] =
        static_cast<T>(sum_of_slots(args, args.partial, row, size, inner));
  });
}

// ---- reverse mode ----

// What the tiles of a node's backward share. A tile is as many elements as the block has threads; ranks count from
// lo - 1. Only its own thread writes a column of the tile.
struct Tile {
  double* others;   // (ranks, threads) g_i(r)
  double* adjoint;  // (ranks, threads) first a_i(r) = sum_k G_ki inside_k(r), then h_i(r)
  double* total;    // (ranks) sum_i h_i(r)
  int64_t ranks;    // hi - lo + 2
};

// Columns of `others` and `adjoint`; the parts of the gradient by the element's own score.                 (Eq. 10)
template <class T>
__device__ void fill_column(const Args<T>& args, int64_t row, const Node& node, const Tile& tile, int64_t i,
                            double* grad_score) {
  const int64_t n = args.n, threads = blockDim.x, low = node.lo - 1, first = node.first(), last = node.last(n);
  double *others = tile.others + threadIdx.x, *adjoint = tile.adjoint + threadIdx.x;
  others[0] = others[(tile.ranks - 1) * threads] = 0;
  for (int64_t s = 0; s < tile.ranks; ++s) adjoint[s * threads] = 0;
  if (i >= node.end) {
    for (int64_t s = 0; s < tile.ranks; ++s) others[s * threads] = 0;
    return;
  }
  others_law(node, i, [&](int64_t r, double g) { others[(r - low) * threads] = g; });
  for (int64_t begin = 0; begin < args.num_subsets; begin += kSubsets) {
    const int64_t count = args.num_subsets - begin < kSubsets ? args.num_subsets - begin : kSubsets;
    const int64_t at = (row * args.num_subsets + begin) * n;
    double grad[kSubsets];
#pragma unroll
    for (int c = 0; c < kSubsets; ++c) grad[c] = c < count ? args.sorted_grad[at + c * n + i] : 0;
    for (int64_t r = first; r <= last; ++r) {
      double sum = 0;
#pragma unroll
      for (int c = 0; c < kSubsets; ++c) sum += grad[c] * args.inside[at + (c < count ? c : 0) * n + r];
      adjoint[(r - low) * threads] += sum;
    }
  }
  double expectation = 0, own = 0;
  for (int64_t r = first; r <= last; ++r) expectation += others[(r - low) * threads] * adjoint[(r - low) * threads];
  const double p = node.p[i], q = node.q[i], z = node.z[i], weight = z * q * node.dy;
  // h(r) takes the place of a(r): upwards of a value that was read before, downwards of one that is kept in `ahead`
  const auto keep = [&](int64_t r, double h) {
    own += h * (others[(r - 1 - low) * threads] - others[(r - low) * threads]);
    adjoint[(r - low) * threads] = h;
  };
  if (p > 0.5) {
    double ahead = adjoint[0];
    const auto before = [&](int64_t r) {
      const double now = ahead;
      ahead = adjoint[(r + 1 - low) * threads];
      return weight * now;
    };
    remove_backward_down<double>(node.lo, node.hi, 1 / p, q / p, before, keep);
  } else {
    const auto here = [&](int64_t r) { return weight * adjoint[(r - low) * threads]; };
    remove_backward_up<double>(node.lo, node.hi, 1 / q, p / q, here, keep);
  }
  adjoint[0] = 0;
  grad_score[i] += weight * (1 - z) * expectation - z * q * own;
}

// Sums over the elements of a tile, a warp a rank: of h, and of G_ki z_i e^{-z_i} dy g_i(r) for every k.
template <class T>
__device__ void add_tile(const Args<T>& args, int64_t row, const Node& node, const Tile& tile, int64_t begin,
                         double* grad_inside) {
  const int lane = threadIdx.x % kWarpSize;
  const int64_t n = args.n, threads = blockDim.x, low = node.lo - 1;
  const int64_t elements = node.end - begin < threads ? node.end - begin : threads;
  for (int64_t s = threadIdx.x / kWarpSize; s < tile.ranks; s += threads / kWarpSize) {
    const int64_t r = low + s;
    double h = 0;
    for (int64_t e = lane; e < elements; e += kWarpSize) h += tile.adjoint[s * threads + e];
    h = warp_reduce(h, Add());
    if (lane == 0) tile.total[s] = (begin == node.begin ? 0 : tile.total[s]) + h;
    if (r < 0 || r >= n) continue;
    for (int64_t k = 0; k < args.num_subsets; ++k) {
      const double* grad = args.sorted_grad + (row * args.num_subsets + k) * n + begin;
      double sum = 0;
      for (int64_t e = lane; e < elements; e += kWarpSize)
        sum += grad[e] * node.z[begin + e] * node.q[begin + e] * tile.others[s * threads + e];
      sum = warp_reduce(sum, Add());
      if (lane == 0) grad_inside[k * n + r] += node.dy * sum;
    }
  }
}

// p_i within the law of all: z_i q_i sum_r total(r) [g_i(r - 1) - g_i(r)]
__device__ inline void add_through_totals(const Node& node, const Tile& tile, double* grad_score) {
  const double* total = tile.total - (node.lo - 1);
  for (int64_t i = node.begin + threadIdx.x; i < node.end; i += blockDim.x) {
    double sum = 0, neighbour = 0;
    const bool down = node.p[i] > 0.5;
    others_law(node, i, [&](int64_t r, double g) {
      sum += down ? total[r + 1] * (g - neighbour) : total[r] * (neighbour - g);
      neighbour = g;
    });
    grad_score[i] += node.z[i] * node.q[i] * sum;
  }
}

template <class T>
__device__ void node_backward(const Args<T>& args, int64_t row, const Node& node, double* scratch, double* grad_inside,
                              double* grad_score) {
  const int64_t ranks = node.hi - node.lo + 2, size = ranks * blockDim.x;
  const Tile tile{scratch, scratch + size, scratch + 2 * size, ranks};
  for (int64_t begin = node.begin; begin < node.end; begin += blockDim.x) {
    fill_column(args, row, node, tile, begin + threadIdx.x, grad_score);
    __syncthreads();  // sums over the columns
    add_tile(args, row, node, tile, begin, grad_inside);
    __syncthreads();  // the next tile takes its place; the totals are complete after the last
  }
  add_through_totals(node, tile, grad_score);
}

template <class T>
__global__ void __launch_bounds__(kMarginalThreads, 2) marginal_nodes_backward_kernel(Args<T> args) {
  const int64_t size = args.num_subsets * args.n, scratch_size = marginal_block_scratch(args.n, true);
  for (int64_t item = blockIdx.x; item < args.rows * args.slots; item += gridDim.x) {
    const int64_t row = item / args.slots;
    double *grad_inside = args.partial + item * size, *grad_score = args.partial_score + item * args.n;
    double* scratch = args.block + item * scratch_size;
    const double start = row_is_valid(args, row) ? 0 : __builtin_nan("");
    for (int64_t i = threadIdx.x; i < size; i += blockDim.x) grad_inside[i] = start;
    for (int64_t i = threadIdx.x; i < args.n; i += blockDim.x) grad_score[i] = start;
    __syncthreads();  // other threads add to them
    if (start == 0)
      each_node(args, row, item % args.slots, scratch, [&](const Node& node) {
        node_backward(args, row, node, scratch + 5 * args.n + 8, grad_inside, grad_score);
      });
  }
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) sort_gradient_kernel(Args<T> args) {
  const int64_t n = args.n, size = args.num_subsets * n;
  for_elements(args.rows * size, [&](int64_t at) {
    args.sorted_grad[at] = static_cast<double>(args.grad[at - at % n + args.order[at / size * n + at % n]]);
  });
}

// Sums of the slots' parts: gradients by `inside`, then by the scores.
template <class T>
__global__ void __launch_bounds__(kMaxThreads) gradient_totals_kernel(Args<T> args) {
  const int64_t n = args.n, size = args.num_subsets * n, width = size + n;
  for_elements(args.rows * width, [&](int64_t at) {
    const int64_t row = at / width, inner = at % width;
    const bool score = inner >= size;
    const int64_t count = score ? n : size, i = score ? inner - size : inner;
    const double sum = sum_of_slots(args, score ? args.partial_score : args.partial, row, count, i);
    if (score)
      args.grad_log_scores[row * n + args.order[row * n + i]] = static_cast<T>(sum);
    else
      args.grad_inside[row * size + i] = sum;
  });
}

template <class T>
__global__ void __launch_bounds__(kMarginalThreads, 4) windows_backward_kernel(Args<T> args) {
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) law_backward(Block(), args, row);
}

// ---- launches ----

template <class T>
int marginal_threads(const Args<T>& args) {
  const int threads = threads_for(args.n);
  return threads < kMarginalThreads ? threads : static_cast<int>(kMarginalThreads);
}

template <class T>
int windows(const Args<T>& args, void* stream) {
  constexpr int64_t kDensityBlocks = 48;  // a row: its 192 warps take up to 514 bins
  int error = launch(&sort_scores_kernel<T>, args.rows, threads_for(args.n), 0, stream, args);
  if (error == 0) error = launch(&density_kernel<T>, kDensityBlocks * args.rows, kMarginalThreads, 0, stream, args);
  if (error == 0) error = launch(&windows_kernel<T>, args.rows, marginal_threads(args), 0, stream, args);
  return error;
}

template <class T>
int forward(const Args<T>& args, void* stream) {
  const int64_t size = args.rows * args.num_subsets * args.n;
  int error = windows(args, stream);
  if (error == 0)
    error = launch(&marginal_nodes_kernel<T>, args.rows * args.slots, marginal_threads(args), 0, stream, args);
  if (error == 0) error = launch_elements(&marginal_totals_kernel<T>, size, stream, args);
  return error;
}

template <class T>
int backward(const Args<T>& args, void* stream) {
  const int64_t size = args.rows * args.num_subsets * args.n, threads = marginal_threads(args);
  int error = windows(args, stream);
  if (error == 0) error = launch_elements(&sort_gradient_kernel<T>, size, stream, args);
  if (error == 0) error = launch(&marginal_nodes_backward_kernel<T>, args.rows * args.slots, threads, 0, stream, args);
  if (error == 0) error = launch_elements(&gradient_totals_kernel<T>, size + args.rows * args.n, stream, args);
  if (error == 0) error = launch(&windows_backward_kernel<T>, args.rows, threads, 0, stream, args);
  return error;
}

}  // namespace
}  // namespace DRPM_ISA

int partition_marginals_cuda(const PartitionMarginalsArgs<float>& args, void* stream) {
  return DRPM_ISA::forward(args, stream);
}
int partition_marginals_cuda(const PartitionMarginalsArgs<double>& args, void* stream) {
  return DRPM_ISA::forward(args, stream);
}
int partition_marginals_backward_cuda(const PartitionMarginalsArgs<float>& args, void* stream) {
  return DRPM_ISA::backward(args, stream);
}
int partition_marginals_backward_cuda(const PartitionMarginalsArgs<double>& args, void* stream) {
  return DRPM_ISA::backward(args, stream);
}

}  // namespace drpm
