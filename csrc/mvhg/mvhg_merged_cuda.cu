#include "common/cuda_launch.h"
#include "common/philox.h"
#include "mvhg/mvhg_merged_cuda.h"
#include "mvhg/mvhg_merged_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kMergedThreads = 128;  // four warps a block, each with its own row; one block an SM: no spills

__device__ inline int warp_lane() { return threadIdx.x % kWarpSize; }

__device__ inline double warp_sum(double value) { return warp_reduce(value, Add()); }

// Sum over the earlier lanes; *total over all.
__device__ inline double warp_exclusive_sum(double value, double* total) {
  double inclusive = value;
#pragma unroll
  for (int delta = 1; delta < kWarpSize; delta *= 2) {
    const double earlier = __shfl_up_sync(kFullWarp, inclusive, delta);
    if (warp_lane() >= delta) inclusive += earlier;
  }
  *total = __shfl_sync(kFullWarp, inclusive, kWarpSize - 1);
  return inclusive - value;
}

// Perturbed logits of one two-class conditional; the warp takes them 32 noise blocks at a time.
template <class T>
struct Outcomes {
  TwoClass c;
  TwoClassWindow window;
  LogFactorialTable table;
  uint64_t seed, row;
  uint32_t klass;
  bool noise;

  // visit(x, logit) for the outcomes of the window in the noise block that begins at `block_start`.
  template <class Visit>
  __device__ void visit_block(int64_t block_start, Visit visit) const {
    constexpr int kPer = kNoisePerBlock<T>;
    PhiloxBlock block{};
    if (noise) block = noise_block(seed, kStreamSizes, row, klass, static_cast<uint32_t>(block_start / kPer));
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
      const int64_t x = block_start + i;
      if (x < window.low || x > window.high) continue;
      T logit = static_cast<T>(-two_class_drop(c, window, x, table));
      if (noise) logit += gumbel_of_uniform<T>(uniform_of(block, i, T()));
      visit(x, logit);
    }
  }

  __device__ int64_t first_tile() const { return window.low - window.low % kNoisePerBlock<T>; }
  static constexpr int64_t kTile = kWarpSize * kNoisePerBlock<T>;
};

template <class T>
struct Best {
  T logit;
  int64_t x;
};

// The largest logit, the first of equal ones; the same in every lane.
template <class T>
__device__ Best<T> best_outcome(const Outcomes<T>& outcomes) {
  Best<T> best{static_cast<T>(-__builtin_huge_val()), outcomes.window.high};
  for (int64_t tile = outcomes.first_tile(); tile <= outcomes.window.high; tile += Outcomes<T>::kTile)
    outcomes.visit_block(tile + warp_lane() * kNoisePerBlock<T>, [&](int64_t x, T logit) {
      if (logit > best.logit) best = {logit, x};
    });
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    const T logit = __shfl_xor_sync(kFullWarp, best.logit, offset);
    const int64_t x = __shfl_xor_sync(kFullWarp, best.x, offset);
    if (logit > best.logit || (logit == best.logit && x < best.x)) best = {logit, x};
  }
  return best;
}

// Moments of softmax(logits / tau) about the best outcome.
template <class T>
__device__ void softmax_moments(const Outcomes<T>& outcomes, const Best<T>& best, double tau, RelaxedOutcome* out) {
  constexpr int kPer = kNoisePerBlock<T>;
  const T inverse_tau = static_cast<T>(1 / tau);
  double s0 = 0, sy = 0, syy = 0, sd = 0, syd = 0, slope_of_tile = 0;
  for (int64_t tile = outcomes.first_tile(); tile <= outcomes.window.high; tile += Outcomes<T>::kTile) {
    const int64_t start = tile + warp_lane() * kPer;
    double own = 0, total;  // steps of the slope over this lane's outcomes
    for (int i = 0; i < kPer; ++i)
      if (start + i >= outcomes.window.low && start + i < outcomes.window.high)
        own += remainder_slope_step(outcomes.c, start + i);
    double slope = slope_of_tile + warp_exclusive_sum(own, &total);
    slope_of_tile += total;
    outcomes.visit_block(start, [&](int64_t x, T logit) {
      const double w = static_cast<double>(exp_lane<T>((logit - best.logit) * inverse_tau));
      const double y = static_cast<double>(x - best.x);
      s0 += w;
      sy += w * y;
      syy += w * y * y;
      sd += w * slope;
      syd += w * y * slope;
      if (x < outcomes.window.high) slope += remainder_slope_step(outcomes.c, x);
    });
  }
  s0 = warp_sum(s0);
  const double my = warp_sum(sy) / s0, md = warp_sum(sd) / s0;
  out->mean = static_cast<double>(best.x) + my;
  out->variance = warp_sum(syy) / s0 - my * my;
  out->slope = warp_sum(syd) / s0 - my * md;
}

// One draw from the two-class conditional, and the moments of its relaxation where `relaxed`.
template <class T>
__device__ RelaxedOutcome draw_two_class(const MvhgSampleMergedArgs<T>& args, const TwoClass& c, int64_t row,
                                         int64_t klass, bool relaxed) {
  const double cut = (args.noise ? GumbelRange<T>::kSpan : 0) + (relaxed ? kKeep<T> * args.tau : 0);
  const TwoClassWindow window = two_class_window(c, cut, args.log_factorials);
  RelaxedOutcome out{window.mode, static_cast<double>(window.mode), 0, 0};
  if (window.low == window.high) return out;
  const Outcomes<T> outcomes{c,
                             window,
                             args.log_factorials,
                             args.noise ? static_cast<uint64_t>(args.seed[0]) : 0,
                             static_cast<uint64_t>(row),
                             static_cast<uint32_t>(klass),
                             args.noise};
  Best<T> best{T(0), window.mode};  // without noise the mode itself: equal weights go to the first
  if (args.noise) best = best_outcome(outcomes);
  out.hard = best.x;
  if (relaxed) softmax_moments(outcomes, best, args.tau, &out);
  return out;
}

__device__ TwoClassSums sum_two_class(const TwoClass& c, double cut, const LogFactorialTable& table) {
  TwoClassSums out{0, 0, 0, two_class_window(c, cut, table)};
  const TwoClassWindow& window = out.window;
  if (window.low == window.high) return out;
  double s0 = 0, sy = 0, sd = 0, slope_of_tile = 0;
  for (int64_t tile = window.low; tile <= window.high; tile += kWarpSize) {
    const int64_t x = tile + warp_lane();
    double total;
    const double slope = slope_of_tile + warp_exclusive_sum(x < window.high ? remainder_slope_step(c, x) : 0, &total);
    slope_of_tile += total;
    if (x > window.high) continue;
    const double w = exp_lane<double>(-two_class_drop(c, window, x, table));
    s0 += w;
    sy += w * static_cast<double>(x - window.mode);
    sd += w * slope;
  }
  s0 = warp_sum(s0);
  out.log_sum = log_lane<double>(s0);
  out.mean = warp_sum(sy) / s0;
  out.slope = warp_sum(sd) / s0;
  return out;
}

// One warp a row; `classes` holds 2 K doubles for each warp of the grid.
template <class T>
__global__ void __launch_bounds__(kMergedThreads, 1) sample_kernel(MvhgSampleMergedArgs<T> args, int64_t rows) {
  double* const classes = args.classes;
  for_warp_items(rows, [&](int64_t row, int64_t warp) {
    args.classes = classes + warp * 2 * args.counts.classes;
    sample_row(Warp(), args, row, [&](const TwoClass& c, int64_t at, int64_t klass, bool relaxed) {
      return draw_two_class(args, c, at, klass, relaxed);
    });
  });
}

template <class T>
__global__ void __launch_bounds__(kMergedThreads, 1) log_prob_kernel(MvhgLogProbMergedArgs<T> args, int64_t rows) {
  double* const classes = args.classes;
  for_warp_items(rows, [&](int64_t row, int64_t warp) {
    args.classes = classes + warp * 2 * args.counts.classes;
    log_prob_row(Warp(), args, row,
                 [&](const TwoClass& c) { return sum_two_class(c, kKeep<double>, args.log_factorials); });
  });
}

// One thread a row: the chain over the classes is sequential, and short. `classes` holds 3 K doubles for each thread.
template <class Args, class Row>
__device__ void for_thread_rows(Args args, int64_t rows, int64_t threads, Row row_function) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread >= threads) return;
  args.classes += thread * 3 * args.counts.classes;
  for (int64_t row = thread; row < rows; row += threads) row_function(args, row);
}

template <class T>
__global__ void __launch_bounds__(kMergedThreads, 1)
    sample_backward_kernel(MvhgSampleMergedBackwardArgs<T> args, int64_t rows, int64_t threads) {
  for_thread_rows(args, rows, threads, sample_backward_row<T>);
}

template <class T>
__global__ void __launch_bounds__(kMergedThreads, 1)
    log_prob_backward_kernel(MvhgLogProbMergedBackwardArgs<T> args, int64_t rows, int64_t threads) {
  for_thread_rows(args, rows, threads, log_prob_backward_row<T>);
}

template <class Args>
int launch_rows(void (*kernel)(Args, int64_t), const Args& args, int64_t rows, void* stream) {
  return launch_spread_warps(kernel, merged_rows_in_flight(rows), kMergedThreads, stream, args, rows);
}

template <class Args>
int launch_threads(void (*kernel)(Args, int64_t, int64_t), const Args& args, int64_t rows, void* stream) {
  const int64_t threads = merged_rows_in_flight(rows);
  return launch(kernel, (threads + kWarpSize - 1) / kWarpSize, kWarpSize, 0, stream, args, rows, threads);
}

}  // namespace
}  // namespace DRPM_ISA

#define DRPM_DEFINE_MERGED(Name, Args, Launch, kernel)                      \
  int Name(const Args<float>& args, int64_t rows, void* stream) {           \
    return DRPM_ISA::Launch(&DRPM_ISA::kernel<float>, args, rows, stream);  \
  }                                                                         \
  int Name(const Args<double>& args, int64_t rows, void* stream) {          \
    return DRPM_ISA::Launch(&DRPM_ISA::kernel<double>, args, rows, stream); \
  }

DRPM_DEFINE_MERGED(mvhg_sample_merged_cuda, MvhgSampleMergedArgs, launch_rows, sample_kernel)
DRPM_DEFINE_MERGED(mvhg_sample_merged_backward_cuda, MvhgSampleMergedBackwardArgs, launch_threads,
                   sample_backward_kernel)
DRPM_DEFINE_MERGED(mvhg_log_prob_merged_cuda, MvhgLogProbMergedArgs, launch_rows, log_prob_kernel)
DRPM_DEFINE_MERGED(mvhg_log_prob_merged_backward_cuda, MvhgLogProbMergedBackwardArgs, launch_threads,
                   log_prob_backward_kernel)

}  // namespace drpm
