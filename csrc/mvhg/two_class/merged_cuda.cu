#include "mvhg/outcomes_cuda.h"
#include "mvhg/two_class/merged.h"
#include "mvhg/two_class/merged_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kMergedThreads = 128;  // four warps a block, each with its own row; one block an SM: no spills

// Sum over the earlier lanes; *total over all.
__device__ inline double warp_exclusive_sum(double value, double* total) {
  const double inclusive = warp_scan(value, Add());
  *total = __shfl_sync(kFullWarp, inclusive, kWarpSize - 1);
  return inclusive - value;
}

struct TwoClassLogit {
  const TwoClass& c;
  const TwoClassWindow& window;
  const LogFactorialTable& table;
  __device__ double operator()(int64_t x) const { return -two_class_drop(c, window, x, table); }
};

// d(x) - d(low), by a scan over the warp.
struct TwoClassSlopes {
  const TwoClass& c;
  const TwoClassWindow& window;
  int per_lane;  // outcomes of a lane's block
  double of_tile, here;

  __device__ void enter(int64_t start) {
    double own = 0, total;  // steps over this lane's outcomes
    for (int i = 0; i < per_lane; ++i)
      if (start + i >= window.low && start + i < window.high) own += remainder_slope_step(c, start + i);
    here = of_tile + warp_exclusive_sum(own, &total);
    of_tile += total;
  }

  __device__ double next(int64_t x) {
    const double slope = here;
    if (x < window.high) here += remainder_slope_step(c, x);
    return slope;
  }
};

// One draw from the two-class conditional, and the moments of its relaxation where `relaxed`.
template <class T>
__device__ RelaxedOutcome draw_two_class(const MvhgSampleMergedArgs<T>& args, const TwoClass& c, int64_t row,
                                         int64_t klass, bool relaxed) {
  const double cut = outcome_cut<T>(args.noise, relaxed, args.tau);
  const TwoClassWindow window = two_class_window(c, cut, args.log_factorials);
  RelaxedOutcome out{window.mode, static_cast<double>(window.mode), 0, 0};
  if (window.low == window.high) return out;
  const NoisyOutcomes<T, TwoClassLogit> outcomes{
      {c, window, args.log_factorials}, window.low, window.high, args.noise ? noise_row(args.seeds, row) : NoiseRow{},
      static_cast<uint32_t>(klass),     args.noise};
  BestOutcome<T> best{T(0), window.mode};  // without noise the mode itself: equal weights go to the first
  if (args.noise) best = best_outcome(outcomes);
  out.hard = best.x;
  if (relaxed) softmax_moments(outcomes, best, args.tau, TwoClassSlopes{c, window, kNoisePerBlock<T>, 0, 0}, &out);
  return out;
}

__device__ TwoClassSums sum_two_class(const TwoClass& c, double cut, const LogFactorialTable& table) {
  TwoClassSums out{0, 0, 0, two_class_window(c, cut, table)};
  const TwoClassWindow& window = out.window;
  if (window.low == window.high) return out;
  const int64_t stride = outcome_stride(window.high - window.low + 1);
  const double at_low = stride == 1 ? 0 : remainder_slope(c, static_cast<double>(window.low));
  double s0 = 0, sy = 0, sd = 0, slope_of_tile = 0;
  for (int64_t tile = window.low; tile <= window.high; tile += kWarpSize * stride) {
    const int64_t x = tile + Warp().rank() * stride;
    double slope, total;
    if (stride == 1) {
      slope = slope_of_tile + warp_exclusive_sum(x < window.high ? remainder_slope_step(c, x) : 0, &total);
      slope_of_tile += total;
    } else {
      slope = remainder_slope(c, static_cast<double>(x < window.high ? x : window.high)) - at_low;
    }
    if (x > window.high) continue;
    const double w = exp_lane<double>(-two_class_drop(c, window, x, table));
    s0 += w;
    sy += w * static_cast<double>(x - window.mode);
    sd += w * slope;
  }
  s0 = Warp().sum(s0);
  out.log_sum = log_lane<double>(s0 * static_cast<double>(stride));
  out.mean = Warp().sum(sy) / s0;
  out.slope = Warp().sum(sd) / s0;
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
