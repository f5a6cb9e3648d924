// A block solves a row's tilt; then a launch for each level: a warp takes a leaf, 32 values of a convolution, a node to
// cut, or a split of one sample.
#include "device/cuda_launch.h"
#include "mvhg/tables/size_tables_cuda.h"
#include "mvhg/tree/tree_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kCounts = kTreeLeaf + 1;
static_assert(kCounts == kWarpSize, "a lane holds a count");
constexpr int kLeafDrawThreads = 128;

template <class T>
__device__ inline TreeTables tables_of(const TreeCudaArgs<T>& args, int64_t row) {
  return {args.low + row * args.shape.all_nodes, args.size + row * args.shape.all_nodes,
          args.values + row * args.shape.all_values};
}

// sigmoid(a), sigmoid(-a); weight zero (a = -inf) gives 0 and 1.
template <class T>
__device__ inline Odds element_odds(const TreeCudaArgs<T>& args, int64_t row, int64_t i) {
  if (i >= args.shape.n) return {0, 1};
  const double w = static_cast<double>(args.log_weights[row * args.shape.n + i]);
  if (w < 0 && w - w != 0) return {0, 1};
  return odds_of(w + args.tilt[row]);
}

struct BlockExtremes {
  double highest, lowest;
  int64_t finite, invalid;
};

template <class T>
__device__ inline BlockExtremes row_extremes(const T* log_weights, int64_t n) {
  BlockExtremes e{-__builtin_huge_val(), __builtin_huge_val(), 0, 0};
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const double w = log_weights[i];
    if (w - w == 0) {
      ++e.finite;
      e.highest = w > e.highest ? w : e.highest;
      e.lowest = w < e.lowest ? w : e.lowest;
    } else if (!(w < 0)) {
      ++e.invalid;
    }
  }
  e.highest = block_reduce(e.highest, -__builtin_huge_val(), Maximum());
  e.lowest = -block_reduce(-e.lowest, -__builtin_huge_val(), Maximum());
  e.finite = block_sum(e.finite);
  e.invalid = block_sum(e.invalid);
  return e;
}

template <class T>
__device__ inline TiltSums row_tilt_sums(const T* log_weights, int64_t n, double tilt, int64_t k) {
  double small = 0, variance = 0;
  int64_t whole = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const double w = log_weights[i];
    if (w - w != 0) continue;
    const Odds odds = odds_of(w + tilt);
    whole += w + tilt >= 0;
    small += w + tilt >= 0 ? -odds.q : odds.p;
    variance += odds.p * odds.q;
  }
  return {static_cast<double>(block_sum(whole) - k) + block_sum(small), block_sum(variance)};
}

template <class T>
__global__ void tilt_kernel(TreeCudaArgs<T> args) {
  const int64_t n = args.shape.n;
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const T* log_weights = args.log_weights + row * n;
    const int64_t k = args.k[row * args.k_stride];
    const BlockExtremes e = row_extremes(log_weights, n);
    TreeRow kind = TreeRow::kDraw;
    double tilt = 0;
    if (e.invalid > 0 || k < 0 || k > e.finite)
      kind = TreeRow::kInvalid;
    else if (k == 0)
      kind = TreeRow::kNone;
    else if (k == e.finite)
      kind = TreeRow::kAll;
    else if (args.order == nullptr)
      tilt = find_tilt(static_cast<double>(k), static_cast<double>(e.finite), e.highest, e.lowest,
                       [&](double t) { return row_tilt_sums(log_weights, n, t, k); });
    if (threadIdx.x == 0) {
      args.kind[row] = kind;
      args.tilt[row] = tilt;
    }
  }
}

// Cuts `size` values to those within kPlainCut of the largest; `from` and `to` may not overlap. By a warp.
__device__ inline void keep_window(const double* from, int64_t low, int64_t size, int64_t most, int64_t* kept_low,
                                   int64_t* kept_size, double* to) {
  double highest = 0;
  for (int64_t i = Warp().rank(); i < size; i += kWarpSize) highest = from[i] > highest ? from[i] : highest;
  const double threshold = Warp().largest(highest) * exp_lane<double>(-kPlainCut);
  int64_t first = size, last = -1;
  for (int64_t i = Warp().rank(); i < size; i += kWarpSize) {
    if (from[i] < threshold) continue;
    first = i < first ? i : first;
    last = i;
  }
  first = -Warp().largest(-first);
  last = Warp().largest(last);
  const int64_t count = last - first + 1 < most ? last - first + 1 : most;
  for (int64_t i = Warp().rank(); i < count; i += kWarpSize) to[i] = from[first + i];
  if (Warp().first()) {
    *kept_low = low + first;
    *kept_size = count;
  }
}

// f[x] = Pr[x of the leaf's elements], x the lane.                                                    (Eq. 5)
template <class T>
__global__ void leaves_kernel(TreeCudaArgs<T> args) {
  const int64_t leaves = args.shape.nodes[0];
  const int lane = Warp().rank();
  for_warp_items(args.rows * leaves, [&](int64_t item, int64_t) {
    const int64_t row = item / leaves, leaf = item % leaves;
    if (args.kind[row] != TreeRow::kDraw) return;
    const Odds own = lane < kTreeLeaf ? element_odds(args, row, leaf * kTreeLeaf + lane) : Odds{0, 1};
    double f = lane == 0 ? 1 : 0;
    for (int j = 0; j < kTreeLeaf; ++j) {
      const double p = __shfl_sync(kFullWarp, own.p, j), q = __shfl_sync(kFullWarp, own.q, j);
      const double below = shuffle_up(f, 1);
      f = lane == 0 ? f * q : f * q + below * p;
    }
    const double threshold = Warp().largest(f) * exp_lane<double>(-kPlainCut);
    const unsigned kept = __ballot_sync(kFullWarp, f >= threshold);
    const int first = __ffs(static_cast<int>(kept)) - 1, last = kWarpSize - 1 - __clz(static_cast<int>(kept));
    const TreeTables tables = tables_of(args, row);
    if (lane >= first && lane <= last) tables.values[args.shape.at[0] + leaf * kCounts + lane - first] = f;
    if (lane == 0) {
      tables.low[leaf] = first;
      tables.size[leaf] = last - first + 1;
    }
  });
}

// Both children of a node; the second may be missing, which is a total of 0.
struct Children {
  TreeLaw left, right;
  bool single;
};

template <class T>
__device__ inline Children children_of(const TreeCudaArgs<T>& args, int64_t row, int level, int64_t node) {
  const TreeTables tables = tables_of(args, row);
  const bool single = 2 * node + 1 == args.shape.nodes[level - 1];
  const TreeLaw left = tree_law(args.shape, tables, level - 1, 2 * node);
  return {left, single ? TreeLaw{0, 1, nullptr} : tree_law(args.shape, tables, level - 1, 2 * node + 1), single};
}

// 32 values of a node's convolution.                                                                  (Eq. 6)
template <class T>
__global__ void merge_kernel(TreeCudaArgs<T> args, int level) {
  const int64_t nodes = args.shape.nodes[level], stride = 2 * args.shape.stride[level - 1];
  const int64_t tiles = (stride + kWarpSize - 1) / kWarpSize;
  for_warp_items(args.rows * nodes * tiles, [&](int64_t item, int64_t) {
    const int64_t tile = item % tiles, node = item / tiles % nodes, row = item / tiles / nodes;
    if (args.kind[row] != TreeRow::kDraw) return;
    const Children c = children_of(args, row, level, node);
    const int64_t t = tile * kWarpSize + Warp().rank();
    if (t >= c.left.size + c.right.size - 1) return;
    double sum = 0;
    if (c.single) {
      sum = c.left.value[t];
    } else {
      const int64_t from = t - (c.right.size - 1) > 0 ? t - (c.right.size - 1) : 0;
      const int64_t to = t < c.left.size - 1 ? t : c.left.size - 1;
      for (int64_t i = from; i <= to; ++i) sum += c.left.value[i] * c.right.value[t - i];
    }
    args.sums[row * args.row_sums + node * stride + t] = sum;
  });
}

template <class T>
__global__ void cut_kernel(TreeCudaArgs<T> args, int level) {
  const int64_t nodes = args.shape.nodes[level], stride = args.shape.stride[level];
  for_warp_items(args.rows * nodes, [&](int64_t item, int64_t) {
    const int64_t node = item % nodes, row = item / nodes;
    if (args.kind[row] != TreeRow::kDraw) return;
    const Children c = children_of(args, row, level, node);
    const TreeTables tables = tables_of(args, row);
    const int64_t at = args.shape.first[level] + node;
    keep_window(args.sums + row * args.row_sums + node * 2 * args.shape.stride[level - 1], c.left.low + c.right.low,
                c.left.size + c.right.size - 1, stride, tables.low + at, tables.size + at,
                tables.values + args.shape.at[level] + node * stride);
  });
}

template <class T>
__device__ inline NoiseRow noise_of(const TreeCudaArgs<T>& args, int64_t row, int64_t sample) {
  return noise_row(args.seeds, (args.first_sample + sample) * args.batch + args.parameters + row);
}

template <class T>
__global__ void root_kernel(TreeCudaArgs<T> args) {
  for_elements(args.rows * args.samples, [&](int64_t at) {
    args.counts[at * args.shape.nodes[0]] = static_cast<int32_t>(args.k[at / args.samples * args.k_stride]);
  });
}

template <class T>
__global__ void split_kernel(TreeCudaArgs<T> args, int level) {
  const int64_t nodes = args.shape.nodes[level], held = args.shape.nodes[0];
  for_warp_items(args.rows * args.samples * nodes, [&](int64_t item, int64_t) {
    const int64_t node = item % nodes, line = item / nodes, row = line / args.samples;
    if (args.kind[row] != TreeRow::kDraw) return;
    const Children c = children_of(args, row, level, node);
    const int64_t count = args.counts[line * held + node];
    int64_t x = count;
    if (!c.single) {
      const double u = tree_uniform(noise_of(args, row, line % args.samples), level, node);
      const OutcomeWindow support = split_support(c.left, c.right, count);
      x = support.low > support.high
              ? negligible_split(c.left, c.right, count)
              : support.low + warp_invert_product(c.left.value + (support.low - c.left.low),
                                                  c.right.value + (count - support.low - c.right.low),
                                                  support.high - support.low + 1, u);
    }
    if (!Warp().first()) return;
    int32_t* child = args.child_counts + line * held + 2 * node;
    child[0] = static_cast<int32_t>(x);
    if (!c.single) child[1] = static_cast<int32_t>(count - x);
  });
}

// The chain along a leaf's elements: suffix laws in shared memory, then a sample to a lane.           (Eq. 7)
template <class T>
__global__ void leaf_draw_kernel(TreeCudaArgs<T> args) {
  DRPM_DYNAMIC_SHARED(shared);
  const int lane = Warp().rank();
  double* suffix = reinterpret_cast<double*>(shared) + threadIdx.x / kWarpSize * kCounts * kCounts;
  const int64_t leaves = args.shape.nodes[0], n = args.shape.n;
  for_warp_items(args.rows * leaves, [&](int64_t item, int64_t) {
    const int64_t row = item / leaves, leaf = item % leaves, begin = leaf * kTreeLeaf;
    const int count = n - begin < kTreeLeaf ? static_cast<int>(n - begin) : kTreeLeaf;
    const bool draw = args.kind[row] == TreeRow::kDraw;
    const Odds own = draw && lane < count ? element_odds(args, row, begin + lane) : Odds{0, 1};
    Warp().sync();  // the previous leaf's laws may still be read
    double s = lane == 0 ? 1 : 0;
    for (int j = kTreeLeaf - 1; j >= 0 && draw; --j) {
      suffix[(j + 1) * kCounts + lane] = s;
      const double p = __shfl_sync(kFullWarp, own.p, j), q = __shfl_sync(kFullWarp, own.q, j);
      const double below = shuffle_up(s, 1);
      s = lane == 0 ? s * q : s * q + below * p;
    }
    Warp().sync();
    for (int64_t first = 0; first < args.samples; first += kWarpSize) {
      const int64_t sample = first + lane;
      uint32_t taken = 0;
      if (draw) {
        const NoiseRow noise = noise_of(args, row, sample < args.samples ? sample : 0);
        int64_t r = sample < args.samples ? args.counts[(row * args.samples + sample) * leaves + leaf] : 0;
        for (int j = 0; j < count; ++j) {
          const double p = __shfl_sync(kFullWarp, own.p, j), q = __shfl_sync(kFullWarp, own.q, j);
          const double* later = suffix + (j + 1) * kCounts;
          const double u = tree_uniform(noise, 0, leaf * kCounts + j);
          if (!takes_element(p, q, r, count - j, u, [later](int64_t x) { return later[x]; })) continue;
          taken |= 1u << j;
          --r;
        }
      }
      for (int i = 0; i < kWarpSize && first + i < args.samples; ++i) {
        const uint32_t bits = __shfl_sync(kFullWarp, taken, i);
        if (lane >= count) continue;
        T value = static_cast<T>(bits >> lane & 1u);
        const double w = static_cast<double>(args.log_weights[row * n + begin + lane]);
        if (args.kind[row] == TreeRow::kInvalid) value = static_cast<T>(__builtin_nan(""));
        if (args.kind[row] == TreeRow::kAll) value = static_cast<T>(w - w == 0);
        args.mask[((args.first_sample + first + i) * args.batch + args.parameters + row) * n + begin + lane] = value;
      }
    }
  });
}

// The k largest weights, in the order that is given.
template <class T>
__global__ void largest_kernel(TreeCudaArgs<T> args) {
  const int64_t n = args.shape.n;
  for_elements(args.rows * args.samples * n, [&](int64_t at) {
    const int64_t rank = at % n, row = at / n % args.rows, sample = args.first_sample + at / n / args.rows;
    T value = static_cast<T>(rank < args.k[row * args.k_stride]);
    if (args.kind[row] == TreeRow::kInvalid) value = static_cast<T>(__builtin_nan(""));
    args.mask[(sample * args.batch + args.parameters + row) * n + args.order[row * n + rank]] = value;
  });
}

template <class T>
int build(const TreeCudaArgs<T>& args, void* stream) {
  const TreeShape& shape = args.shape;
  int error = launch(&tilt_kernel<T>, args.rows, threads_for(shape.n), 0, stream, args);
  if (args.order != nullptr) return error;
  if (error == 0) error = launch_warps(&leaves_kernel<T>, args.rows * shape.nodes[0], 128, 0, stream, args);
  for (int level = 1; level < shape.levels && error == 0; ++level) {
    const int64_t tiles = (2 * shape.stride[level - 1] + kWarpSize - 1) / kWarpSize;
    error = launch_warps(&merge_kernel<T>, args.rows * shape.nodes[level] * tiles, 128, 0, stream, args, level);
    if (error == 0) error = launch_warps(&cut_kernel<T>, args.rows * shape.nodes[level], 128, 0, stream, args, level);
  }
  return error;
}

template <class T>
int draw(TreeCudaArgs<T> args, void* stream) {
  const TreeShape& shape = args.shape;
  if (args.order != nullptr)
    return launch_elements(&largest_kernel<T>, args.rows * args.samples * shape.n, stream, args);
  const int64_t lines = args.rows * args.samples;
  int error = launch_elements(&root_kernel<T>, lines, stream, args);
  for (int level = shape.levels - 1; level > 0 && error == 0; --level) {
    error = launch_warps(&split_kernel<T>, lines * shape.nodes[level], 128, 0, stream, args, level);
    int32_t* const children = args.child_counts;
    args.child_counts = args.counts;
    args.counts = children;
  }
  const size_t shared = sizeof(double) * kCounts * kCounts * (kLeafDrawThreads / kWarpSize);
  if (error == 0)
    error = launch_warps(&leaf_draw_kernel<T>, args.rows * shape.nodes[0], kLeafDrawThreads, shared, stream, args);
  return error;
}

}  // namespace
}  // namespace DRPM_ISA

#define DRPM_DEFINE_TREE(T)                                                                                   \
  int tree_build_cuda(const TreeCudaArgs<T>& args, void* stream) { return DRPM_ISA::build<T>(args, stream); } \
  int tree_draw_cuda(const TreeCudaArgs<T>& args, void* stream) { return DRPM_ISA::draw<T>(args, stream); }
DRPM_DEFINE_TREE(float)
DRPM_DEFINE_TREE(double)

}  // namespace drpm
