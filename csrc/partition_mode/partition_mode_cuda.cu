#include "device/cuda_launch.h"
#include "partition_mode/partition_mode_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr double kInfinity = __builtin_huge_val();
constexpr int kModeThreads = 128;  // four warps a block, each with its own right end
constexpr double kLostNode = 46;   // a node this far (in log) below the best adds less than 1e-20

DRPM_HD inline int64_t padded_nodes(int64_t nodes) { return (nodes + kWarpSize - 1) / kWarpSize * kWarpSize; }

struct LogAdd {
  __device__ double operator()(double a, double b) const { return log_add(a, b); }
};

__global__ void __launch_bounds__(kMaxThreads) nodes_kernel(int64_t count, int64_t n, double* scale, double* base) {
  for_elements(count, [&](int64_t j) {
    const double y = mode_node(j, n);
    scale[j] = mode_node_scale(y);
    base[j] = mode_node_base(y);
  });
}

// Sorted scores and the log-sums from each position on; a block takes a row.
template <class T>
__global__ void __launch_bounds__(kMaxThreads, 2) remainders_kernel(PartitionModeArgs<T> args) {
  const int64_t n = args.n;
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const T* log_scores = args.log_scores + row * n;
    double* log_rest = args.log_rest + row * (n + 1);
    const double largest = log_scores[args.order[row * n]], top = mode_top(Block(), args, row);
    if (threadIdx.x == 0) args.top[row] = top;
    double* best = args.best + 2 * row * (n + 1);
    for (int64_t b = threadIdx.x; b <= n; b += blockDim.x) best[b] = b == 0 ? 0 : -kInfinity;  // of no subset
    if (threadIdx.x == 0) log_rest[n] = -kInfinity;
    double later = -kInfinity;
    for (int64_t start = 0; start < n; start += blockDim.x) {
      const int64_t i = n - 1 - start - threadIdx.x;
      double own = -kInfinity, total;
      if (i >= 0) {
        own = reduced(log_scores[args.order[row * n + i]], largest);
        args.score[row * n + i] = own;
      }
      const double sum = block_scan(own, -kInfinity, LogAdd(), &total);
      if (i >= 0) log_rest[i] = log_add(sum, later);
      later = log_add(total, later);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) weights_kernel(PartitionModeArgs<T> args) {
  const int64_t width = args.n + 1;
  for_elements(args.rows * args.num_subsets * width, [&](int64_t at) {
    const int64_t subset = at / width;
    args.weight[at] = mode_weight(args.m[subset], at % width, mode_log_omega(args, subset), args.log_factorials);
  });
}

// log Pr[elements a ... b - 1 precede the rest] for one b and every a < b. A lane keeps every 32nd node: `log_value` is
// its own memory, and the products of kModeFlush elements are built up together.                            (Eq. 17)
template <class T>
__device__ void intervals(const PartitionModeArgs<T>& args, int64_t row, int64_t b, double* log_value) {
  const int lane = threadIdx.x % kWarpSize;
  const double* score = args.score + row * args.n;
  double* out = args.interval + row * interval_begin(args.n + 1) + interval_begin(b);
  const double log_rest = args.log_rest[row * (args.n + 1) + b];
  const int64_t padded = padded_nodes(args.nodes);
  for (int64_t j = lane; j < padded; j += kWarpSize) log_value[j] = j < args.nodes ? args.node_base[j] : -1e30;
  int64_t first = 0;
  for (int64_t last = b - 1; last >= 0; last -= kModeFlush) {
    double largest = -kInfinity;
    for (int64_t j = first + lane; j < padded; j += kWarpSize) largest = max_lane<double>(log_value[j], largest);
    const double reference = warp_reduce(largest, Maximum());
    // a node on the left loses against those on its right with every further element
    while (first + kWarpSize < padded && __all_sync(kFullWarp, reference - log_value[first + lane] > kLostNode))
      first += kWarpSize;
    const int64_t own = last - lane;  // lanes 0 ... kModeFlush - 1 hold an element each
    const double own_point = mode_point(own >= 0 && lane < kModeFlush ? score[own] - log_rest : 100.0);
    double point[kModeFlush], sum[kModeFlush];
#pragma unroll
    for (int t = 0; t < kModeFlush; ++t) {
      point[t] = __shfl_sync(kFullWarp, own_point, t);
      sum[t] = 0;
    }
    for (int64_t j = first + lane; j < padded; j += kWarpSize) {
      const double scale = j < args.nodes ? args.node_scale[j] : 1, value = exp_lane<double>(log_value[j] - reference);
      double product = 1;
#pragma unroll
      for (int t = 0; t < kModeFlush; ++t) {
        product *= mode_factor<double>(scale, point[t]);
        sum[t] += product * value;
      }
      log_value[j] += log_lane<double>(product);
    }
    double total = 1;
#pragma unroll
    for (int t = 0; t < kModeFlush; ++t) {
      const double all = warp_reduce(sum[t], Add());
      if (lane == t) total = all;
    }
    if (own >= 0 && lane < kModeFlush) out[own] = reference + log_lane<double>(total);
  }
}

template <class T>
__global__ void __launch_bounds__(kModeThreads, 4) intervals_kernel(PartitionModeArgs<T> args) {
  DRPM_DYNAMIC_SHARED(block_shared_values);
  const int lane = threadIdx.x % kWarpSize;
  double* log_value =
      reinterpret_cast<double*>(block_shared_values) + threadIdx.x / kWarpSize * padded_nodes(args.nodes);
  for_warp_items(args.rows * args.n, [&](int64_t item, int64_t) {
    const int64_t row = item % args.rows, b = args.n - item / args.rows;  // the longest first
    if (b < args.n) {
      intervals(args, row, b, log_value);
      return;
    }
    double* out = args.interval + row * interval_begin(args.n + 1) + interval_begin(b);  // nothing is left
    for (int64_t a = lane; a < b; a += kWarpSize) out[a] = 0;
  });
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) boundaries_kernel(PartitionModeArgs<T> args, int64_t k) {
  const int64_t width = args.n + 1;
  for_warp_items(args.rows * width,
                 [&](int64_t item, int64_t) { mode_boundary(Warp(), args, item / width, k, item % width); });
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) labels_kernel(PartitionModeArgs<T> args) {
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) mode_labels(Block(), args, row);
}

template <class T>
int run(const PartitionModeArgs<T>& args, void* stream) {
  const int64_t width = args.n + 1;
  const size_t shared = sizeof(double) * (kModeThreads / kWarpSize) * padded_nodes(args.nodes);
  int error = launch_elements(&nodes_kernel, args.nodes, stream, args.nodes, args.n, args.node_scale, args.node_base);
  if (error == 0) error = launch(&remainders_kernel<T>, args.rows, threads_for(args.n), 0, stream, args);
  if (error == 0) error = launch_elements(&weights_kernel<T>, args.rows * args.num_subsets * width, stream, args);
  if (error == 0) error = launch_warps(&intervals_kernel<T>, args.rows * args.n, kModeThreads, shared, stream, args);
  for (int64_t k = 0; k < args.num_subsets && error == 0; ++k)
    error = launch_warps(&boundaries_kernel<T>, args.rows * width, kMaxThreads, 0, stream, args, k);
  if (error == 0) error = launch(&labels_kernel<T>, args.rows, threads_for(args.n), 0, stream, args);
  return error;
}

}  // namespace
}  // namespace DRPM_ISA

int partition_mode_cuda(const PartitionModeArgs<float>& args, void* stream) { return DRPM_ISA::run(args, stream); }

int partition_mode_cuda(const PartitionModeArgs<double>& args, void* stream) { return DRPM_ISA::run(args, stream); }

}  // namespace drpm
