#include "common/cuda_launch.h"
#include "common/philox.h"
#include "mvhg/mvhg_merged_cuda.h"
#include "mvhg/mvhg_merged_math.h"
#include "mvhg/mvhg_support.h"

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

// d(x + 1) - d(x), the step of the logit's slope in the remainder.                                              (Eq. 6)
__device__ inline double slope_step(const TwoClass& c, int64_t x) {
  const double at = static_cast<double>(x);
  return (c.m_right + 1) / ((c.m_right - c.r + at + 1) * (c.r - at));
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
        own += slope_step(outcomes.c, start + i);
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
      if (x < outcomes.window.high) slope += slope_step(outcomes.c, x);
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

template <class T>
__device__ void sample_row(const MvhgSampleMergedArgs<T>& args, int64_t row, double* scratch) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row % args.counts.batch * classes;
  T* sizes = args.sizes + row * classes;
  double* statistics = args.statistics == nullptr ? nullptr : args.statistics + row * classes * 2;
  const MergedRow parameters = merged_row(args.counts, log_omega, row);
  if (!parameters.valid) {
    for (int64_t k = warp_lane(); k < classes; k += kWarpSize) {
      sizes[k] = static_cast<T>(kNaN);
      if (statistics != nullptr) statistics[2 * k] = statistics[2 * k + 1] = kNaN;
    }
    return;
  }
  double *log_mass = scratch, *log_later = scratch + classes;
  __syncwarp();  // the scratch may still be read for the previous row
  if (warp_lane() == 0) merged_masses(parameters, log_omega, log_mass, log_later);
  __syncwarp();
  int64_t m_right = 0;
  for (int64_t k = 0; k < classes; ++k) m_right += parameters.m[k];
  int64_t remaining = parameters.n;
  double relaxed_remaining = static_cast<double>(parameters.n);
  for (int64_t p = 0; p < classes; ++p) {
    const int64_t k = class_at(parameters, p);
    m_right -= parameters.m[k];
    RelaxedOutcome outcome{remaining, relaxed_remaining, 0, 0};  // the last class takes what remains
    if (p < classes - 1) {
      const TwoClass c = make_two_class(log_omega[k], merged_log_omega(log_later[p], m_right), parameters.m[k], m_right,
                                        static_cast<double>(remaining));
      outcome = draw_two_class(args, c, row, k, !args.hard || statistics != nullptr);
    }
    if (warp_lane() == 0) {
      sizes[k] = args.hard ? static_cast<T>(outcome.hard) : static_cast<T>(outcome.mean);
      if (statistics != nullptr) {
        statistics[2 * k] = outcome.variance / args.tau;
        statistics[2 * k + 1] = outcome.slope / args.tau;
      }
    }
    remaining -= outcome.hard;
    relaxed_remaining -= outcome.mean;
  }
}

// log sum_x exp(log w(x) - log w(mode)), and the means of x - mode and d(x) - d(low).
struct TwoClassSums {
  double log_sum, mean, slope;
  TwoClassWindow window;
};

__device__ TwoClassSums sum_two_class(const TwoClass& c, double cut, const LogFactorialTable& table) {
  TwoClassSums out{0, 0, 0, two_class_window(c, cut, table)};
  const TwoClassWindow& window = out.window;
  if (window.low == window.high) return out;
  double s0 = 0, sy = 0, sd = 0, slope_of_tile = 0;
  for (int64_t tile = window.low; tile <= window.high; tile += kWarpSize) {
    const int64_t x = tile + warp_lane();
    double total;
    const double slope = slope_of_tile + warp_exclusive_sum(x < window.high ? slope_step(c, x) : 0, &total);
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

// log [x! (m_L - x)! (r - x)! (m_R - r + x)!] at a size that a relaxation may have made real.
__device__ double log_factorials_at_size(const TwoClass& c, double x, const LogFactorialTable& table) {
  if (x == static_cast<double>(static_cast<int64_t>(x))) return two_class_log_factorials(c, x, table);
  return (log_gamma1p(x) + log_gamma1p(c.m_left - x)) + (log_gamma1p(c.r - x) + log_gamma1p(c.m_right - c.r + x));
}

template <class T>
__device__ void log_prob_row(const MvhgLogProbMergedArgs<T>& args, int64_t row, double* scratch) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  const T* sizes = args.sizes + row * classes;
  double* statistics = args.statistics + row * classes * 2;
  const MergedRow parameters = merged_row(args.counts, log_omega, row);
  const bool possible = parameters.valid && sizes_are_possible(parameters.m, parameters.n, classes, sizes);
  for (int64_t i = warp_lane(); i < 2 * classes; i += kWarpSize) statistics[i] = 0;
  if (!possible) {
    if (warp_lane() == 0) args.log_prob[row] = static_cast<T>(parameters.valid ? -__builtin_huge_val() : kNaN);
    return;
  }
  double *log_mass = scratch, *log_later = scratch + classes;
  __syncwarp();  // the scratch may still be read for the previous row; the statistics are written again below
  if (warp_lane() == 0) merged_masses(parameters, log_omega, log_mass, log_later);
  __syncwarp();
  int64_t m_right = 0;
  for (int64_t k = 0; k < classes; ++k) m_right += parameters.m[k];
  double remaining = static_cast<double>(parameters.n), log_prob = 0;
  for (int64_t k = 0; k < classes - 1; ++k) {
    m_right -= parameters.m[k];
    const TwoClass c =
        make_two_class(log_omega[k], merged_log_omega(log_later[k], m_right), parameters.m[k], m_right, remaining);
    const TwoClassSums sums = sum_two_class(c, kKeep<double>, args.log_factorials);
    const double x = sizes[k];
    log_prob += (x - static_cast<double>(sums.window.mode)) * c.log_odds -
                (log_factorials_at_size(c, x, args.log_factorials) - sums.window.log_factorials_at_mode) - sums.log_sum;
    if (warp_lane() == 0) {
      statistics[2 * k] = static_cast<double>(sums.window.mode) + sums.mean;
      statistics[2 * k + 1] = remainder_slope(c, static_cast<double>(sums.window.low)) + sums.slope;
    }
    remaining -= x;
  }
  if (warp_lane() == 0) args.log_prob[row] = static_cast<T>(log_prob);
}

// One warp a row; `classes` holds 2 K doubles for each warp of the grid.
template <class Args, class Row>
__device__ void for_warp_rows(const Args& args, int64_t rows, Row row_function) {
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / kWarpSize);
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarpSize;
  double* scratch = args.classes + warp * 2 * args.counts.classes;
  for (int64_t row = warp; row < rows; row += warps) row_function(args, row, scratch);
}

template <class T>
__global__ void __launch_bounds__(kMergedThreads, 1) sample_kernel(MvhgSampleMergedArgs<T> args, int64_t rows) {
  for_warp_rows(args, rows, sample_row<T>);
}

template <class T>
__global__ void __launch_bounds__(kMergedThreads, 1) log_prob_kernel(MvhgLogProbMergedArgs<T> args, int64_t rows) {
  for_warp_rows(args, rows, log_prob_row<T>);
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

// Blocks of one warp where there are few rows, so that they spread over the device.
template <class Args>
int launch_warps(void (*kernel)(Args, int64_t), const Args& args, int64_t rows, void* stream) {
  const int64_t warps = merged_rows_in_flight(rows);
  constexpr int kWarps = kMergedThreads / kWarpSize;
  if (warps % kWarps != 0 || warps <= 512) return launch(kernel, warps, kWarpSize, 0, stream, args, rows);
  return launch(kernel, warps / kWarps, kMergedThreads, 0, stream, args, rows);
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

DRPM_DEFINE_MERGED(mvhg_sample_merged_cuda, MvhgSampleMergedArgs, launch_warps, sample_kernel)
DRPM_DEFINE_MERGED(mvhg_sample_merged_backward_cuda, MvhgSampleMergedBackwardArgs, launch_threads,
                   sample_backward_kernel)
DRPM_DEFINE_MERGED(mvhg_log_prob_merged_cuda, MvhgLogProbMergedArgs, launch_warps, log_prob_kernel)
DRPM_DEFINE_MERGED(mvhg_log_prob_merged_backward_cuda, MvhgLogProbMergedBackwardArgs, launch_threads,
                   log_prob_backward_kernel)

}  // namespace drpm
