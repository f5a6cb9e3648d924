#include "device/cuda_launch.h"
#include "lanes/lane_math.h"
#include "plackett_luce_log_prob/plackett_luce_log_prob.h"
#include "special/score_rows.h"

namespace drpm {
namespace DRPM_ISA {

// sum e^max: what a scan of exponentials carries, so that any finite scores can be summed in any grouping.
struct ScaledSum {
  double max, sum;
};

__device__ inline ScaledSum shuffle_up(ScaledSum value, int delta) {
  return {__shfl_up_sync(kFullWarp, value.max, delta), __shfl_up_sync(kFullWarp, value.sum, delta)};
}

namespace {

constexpr double kLowest = -1e300;  // stands for log 0: differences of two of them stay finite

struct AddScaled {
  __device__ ScaledSum operator()(ScaledSum a, ScaledSum b) const {
    if (a.max >= b.max) return {a.max, a.sum + b.sum * exp_lane<double>(b.max - a.max)};
    return {b.max, b.sum + a.sum * exp_lane<double>(a.max - b.max)};
  }
};

// Whether `order` is a permutation of 0 ... n - 1. `seen` is scratch, of n counters.
__device__ bool is_permutation(const int64_t* order, int64_t n, int* seen) {
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) seen[i] = 0;
  __syncthreads();
  bool valid = true;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const int64_t j = order[i];
    if (static_cast<uint64_t>(j) >= static_cast<uint64_t>(n))
      valid = false;
    else if (atomicAdd(&seen[j], 1) != 0)
      valid = false;
  }
  return __syncthreads_and(valid);
}

// The log-scores of a row in rank order, less the largest.
template <class T>
struct RankedScores {
  const T* log_scores;
  const int64_t* order;
  double largest;

  __device__ double of(int64_t element) const { return reduced(log_scores[element], largest); }
  __device__ double at(int64_t rank) const { return of(order == nullptr ? rank : order[rank]); }
};

// d_i = log sum of exp(x_j) over j >= i, from the last rank on; returns sum_i (x_i - d_i).          (Eq. 1, 2)
template <class T>
__device__ double suffix_sums(const RankedScores<T>& scores, int64_t n, double* d) {
  ScaledSum later{kLowest, 0};
  double total = 0;
  for (int64_t start = 0; start < n; start += blockDim.x) {
    const int64_t i = n - 1 - (start + threadIdx.x);
    const double x = i >= 0 ? scores.at(i) : 0;
    const ScaledSum own{i >= 0 ? x : kLowest, i >= 0 ? 1.0 : 0.0};
    ScaledSum chunk;
    const ScaledSum inside = block_scan(own, ScaledSum{kLowest, 0}, AddScaled(), &chunk);
    const ScaledSum all = AddScaled()(later, inside);
    later = AddScaled()(later, chunk);
    if (i < 0) continue;
    const double relative = log_lane<double>(all.sum);
    d[i] = all.max + relative;
    total += (x - all.max) - relative;
  }
  return block_sum(total);
}

// grad_j = 1 - exp(x_j) sum_{i<=j} exp(-d_i)                                                          (Eq. 5)
template <class T>
__device__ void gradient(const RankedScores<T>& scores, int64_t n, const double* d, T* grad) {
  ScaledSum earlier{kLowest, 0};
  for (int64_t start = 0; start < n; start += blockDim.x) {
    const int64_t i = start + threadIdx.x;
    const ScaledSum own{i < n ? -d[i] : kLowest, i < n ? 1.0 : 0.0};
    ScaledSum chunk;
    const ScaledSum inside = block_scan(own, ScaledSum{kLowest, 0}, AddScaled(), &chunk);
    const ScaledSum all = AddScaled()(earlier, inside);
    earlier = AddScaled()(earlier, chunk);
    if (i >= n) continue;
    const int64_t element = scores.order == nullptr ? i : scores.order[i];
    grad[element] = static_cast<T>(1 - exp_lane<double>(scores.of(element) + all.max) * all.sum);
  }
}

template <class T>
__device__ void plackett_luce_row(const PlackettLuceArgs<T>& args, int64_t row, double* d) {
  const int64_t n = args.n;
  const T* log_scores = args.log_scores + row * n;
  const int64_t* order = args.order == nullptr ? nullptr : args.order + row * n;
  T* grad = args.grad_log_scores == nullptr ? nullptr : args.grad_log_scores + row * n;
  const RankedScores<T> scores{log_scores, order, finite_largest(Block(), log_scores, n)};
  if (scores.largest != scores.largest || (order != nullptr && !is_permutation(order, n, reinterpret_cast<int*>(d)))) {
    const T nan = static_cast<T>(__builtin_nan(""));
    if (threadIdx.x == 0) args.log_prob[row] = nan;
    if (grad != nullptr)
      for (int64_t i = threadIdx.x; i < n; i += blockDim.x) grad[i] = nan;
    return;
  }
  const double log_prob = suffix_sums(scores, n, d);
  if (threadIdx.x == 0) args.log_prob[row] = static_cast<T>(log_prob);
  if (grad == nullptr) return;
  __syncthreads();  // d is read by other threads than those that wrote it
  gradient(scores, n, d, grad);
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads, 3) plackett_luce_kernel(PlackettLuceArgs<T> args, int64_t rows) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    plackett_luce_row(args, row, args.log_suffix_sum + blockIdx.x * args.n);
    __syncthreads();  // the scratch is used again
  }
}

template <class T>
int launch_plackett_luce(const PlackettLuceArgs<T>& args, int64_t rows, void* stream) {
  return launch(&plackett_luce_kernel<T>, plackett_luce_cuda_blocks(rows), threads_for(args.n), 0, stream, args, rows);
}

}  // namespace
}  // namespace DRPM_ISA

int plackett_luce_cuda(const PlackettLuceArgs<float>& args, int64_t rows, void* stream) {
  return DRPM_ISA::launch_plackett_luce(args, rows, stream);
}

int plackett_luce_cuda(const PlackettLuceArgs<double>& args, int64_t rows, void* stream) {
  return DRPM_ISA::launch_plackett_luce(args, rows, stream);
}

}  // namespace drpm
