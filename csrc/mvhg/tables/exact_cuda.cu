#include "mvhg/outcomes_cuda.h"
#include "mvhg/tables/exact.h"
#include "mvhg/tables/exact_rows.h"
#include "mvhg/tables/size_tables_cuda.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int64_t kBlocksBytes = int64_t{1} << 30;  // scratch of all blocks in flight, unless one alone takes more

struct ExactLogit {
  const ConditionalLogits& c;
  __device__ double operator()(int64_t x) const { return c.at(x) - c.top; }
};

struct ExactSlopes {
  const ConditionalLogits& c;
  __device__ void enter(int64_t) {}
  __device__ double next(int64_t x) const { return c.slope(x); }
};

template <class T>
__device__ NoisyOutcomes<T, ExactLogit> noisy_outcomes(const MvhgExactArgs<T>& args, const ConditionalLogits& c,
                                                       int64_t row, int64_t klass) {
  return {{c},       c.low, c.high, args.noise ? noise_row(args.seeds, row) : NoiseRow{}, static_cast<uint32_t>(klass),
          args.noise};
}

// One draw from the conditional at position p, and the moments of its relaxation where they are wanted; by a warp.
template <class T>
__device__ RelaxedOutcome draw_exact(const MvhgExactArgs<T>& args, const SizeTables& t, int64_t p, int64_t r,
                                     int64_t row, int64_t klass) {
  const OutcomeWindow support = conditional_support(t, p, r);
  if (support.low > support.high) {
    const int64_t x = negligible_outcome(t, p, r);
    return {x, static_cast<double>(x), 0, 0};
  }
  const ConditionalLogits c = conditional_logits(t, p, r, support, outcome_cut(args));
  RelaxedOutcome out{c.mode, static_cast<double>(c.mode), 0, 0};
  if (c.low == c.high) return out;
  const auto outcomes = noisy_outcomes(args, c, row, klass);
  BestOutcome<T> best{T(0), c.mode};  // without noise the mode itself: equal weights go to the first
  if (args.noise) best = best_outcome(outcomes);
  out.hard = best.x;
  if (args.use == TableUse::kRelaxedSample) softmax_moments(outcomes, best, args.tau, ExactSlopes{c}, &out);
  return out;
}

template <class T>
__device__ MvhgRow bounded_row(const MvhgExactArgs<T>& args, const T* log_omega, int64_t row, int64_t largest_n) {
  MvhgRow out = mvhg_row(args.counts, row, log_omega);
  if (out.n > largest_n) out.valid = false;  // the tables are not laid out for it
  return out;
}

template <class T>
__global__ void __launch_bounds__(kExactThreads, 1) sample_kernel(MvhgSampleExactCuda<T> call) {
  const MvhgExactArgs<T>& common = call.args.common;
  BlockScratch scratch = block_scratch(call.layout, call.scratch);
  const int warp = threadIdx.x / kWarpSize, warps = blockDim.x / kWarpSize;
  for (int64_t item = blockIdx.x; item < common.counts.batch * call.chunks; item += gridDim.x) {
    const int64_t parameters = item / call.chunks, begin = item % call.chunks * call.group;
    const int64_t end = begin + call.group < common.samples ? begin + call.group : common.samples;
    const T* log_omega = common.log_omega + parameters * common.counts.classes;
    const MvhgRow row = bounded_row(common, log_omega, begin * common.counts.batch + parameters, call.largest_n);
    if (row.valid && !is_point(row)) build_tables_block(common, row, log_omega, &scratch);
    for (int64_t sample = begin + warp; sample < end; sample += warps) {
      const int64_t at = sample * common.counts.batch + parameters;
      sample_exact_row(Warp(), call.args, row, at, [&](int64_t p, int64_t remaining, int64_t k) {
        return draw_exact(common, scratch.tables, p, remaining, at, k);
      });
    }
  }
}

// The softmax hands A pi(x) (x - E) / tau to logit x; this much of it goes to log b_p at r - x. By a warp.
template <class T>
__device__ void seed_table(const MvhgExactArgs<T>& args, const SizeTables& t, int64_t p, int64_t r, int64_t row,
                           int64_t klass, int64_t hard, double a, double* h) {
  if (a == 0) return;
  const OutcomeWindow support = conditional_support(t, p, r);
  if (support.low > support.high) return;
  const ConditionalLogits c = conditional_logits(t, p, r, support, outcome_cut(args));
  if (c.low == c.high) return;
  const auto outcomes = noisy_outcomes(args, c, row, klass);
  const T best = outcomes.at(hard), inverse_tau = static_cast<T>(1 / args.tau);
  auto each = [&](const auto& visit) {
    for (int64_t tile = outcomes.first_tile(); tile <= c.high; tile += outcomes.kTile)
      outcomes.visit_block(tile + Warp().rank() * kNoisePerBlock<T>, [&](int64_t x, T logit) {
        visit(x, static_cast<double>(exp_lane<T>((logit - best) * inverse_tau)));
      });
  };
  double total = 0, mean = 0;
  each([&](int64_t x, double w) {
    total += w;
    mean += w * static_cast<double>(x - hard);
  });
  total = Warp().sum(total);
  mean = Warp().sum(mean) / total;
  const double scale = a / (args.tau * total);
  double* here = h + t.b_at[p] + (r - t.b_low[p]);
  each([&](int64_t x, double w) { here[-x] += scale * w * (static_cast<double>(x - hard) - mean); });
}

// Reverse mode through the tables, by the block: h holds the cotangents of log b; adds to grad, by class.
// q(x | rho) = f_{p+1}(x) b_{p+1}(rho - x) / b_p(rho);  h_{p+1}(rho - x) += h_p(rho) q,
// grad of log omega of the class at p + 1 += h_p(rho) x q.                                           (Eq. 21)
__device__ inline void reverse_tables_block(const SizeTables& t, const MvhgRow& row, double* h, double* work,
                                            double* grad) {
  for (int64_t p = 0; p + 2 < t.classes; ++p) {
    const int64_t before = t.b_low[p] - t.f_low[p + 1] - t.b_low[p + 1];  // totals cut off at the lower end
    const int64_t f_low = t.f_low[p + 1], f_size = t.f_size[p + 1], b_size = t.b_size[p + 1], size = t.b_size[p];
    const double *here = h + t.b_at[p], *now = (t.linear ? t.b : t.log_b) + t.b_at[p];
    const double *f = (t.linear ? t.f : t.log_f) + t.f_at[p + 1], *b = (t.linear ? t.b : t.log_b) + t.b_at[p + 1];
    double* later = h + t.b_at[p + 1];
    double sum = 0;
    if (t.linear) {
      for (int64_t i = threadIdx.x; i < size; i += blockDim.x) work[i] = here[i] / (now[i] * t.scale[p]);
      __syncthreads();
      for (int64_t i = threadIdx.x; i < f_size; i += blockDim.x)
        sum += f[i] * correlation_at(b, b_size, work, size, i - before) * static_cast<double>(f_low + i);
      for (int64_t j = threadIdx.x; j < b_size; j += blockDim.x)
        later[j] += b[j] * correlation_at(f, f_size, work, size, j - before);
    } else {
      const double scale = t.scale[p];
      for (int64_t j = threadIdx.x; j < b_size; j += blockDim.x) {
        double handed_on = 0;
        for (int64_t x = 0; x < f_size; ++x) {
          const int64_t i = x + j - before;
          if (i < 0 || i >= size) continue;
          const double share = here[i] * exp_lane<double>((f[x] + b[j]) - (now[i] + scale));
          handed_on += share;
          sum += share * static_cast<double>(f_low + x);
        }
        later[j] += handed_on;
      }
    }
    sum = block_sum(sum);  // a barrier: the next step reads `later`
    if (threadIdx.x == 0) grad[class_at(row, p + 1)] += sum;
  }
  const int64_t p = t.classes - 2;  // the last table is the last class itself
  double sum = 0;
  for (int64_t i = threadIdx.x; i < t.b_size[p]; i += blockDim.x)
    sum += h[t.b_at[p] + i] * static_cast<double>(t.b_low[p] + i);
  sum = block_sum(sum);
  if (threadIdx.x == 0) grad[class_at(row, p + 1)] += sum;
}

// Samples begin .. end - 1 of a parameter row, which share tables. Returns false where the row is not valid.
template <class T>
DRPM_OUTLINED __device__ bool backward_segment(const MvhgSampleExactBackwardCuda<T>& call, int64_t parameters,
                                               int64_t begin, int64_t end, BlockScratch* scratch, double* grad) {
  const MvhgExactArgs<T>& common = call.args.common;
  const int64_t classes = common.counts.classes;
  const T* log_omega = common.log_omega + parameters * classes;
  const MvhgRow row = bounded_row(common, log_omega, begin * common.counts.batch + parameters, call.largest_n);
  if (!row.valid) return false;
  if (is_point(row)) return true;
  build_tables_block(common, row, log_omega, scratch);
  const SizeTables& t = scratch->tables;
  for (int64_t p = 0; p < classes - 1; ++p)
    for (int64_t i = threadIdx.x; i < t.b_size[p]; i += blockDim.x) scratch->h[t.b_at[p] + i] = 0;
  double *remainders = scratch->extra, *cotangents = scratch->extra + call.args.group * classes;
  for (int64_t sample = begin + threadIdx.x; sample < end; sample += blockDim.x)
    reverse_exact_row(call.args, row, sample * common.counts.batch + parameters,
                      [&](int64_t p, int64_t, int64_t remaining, double a) {
                        remainders[(sample - begin) * classes + p] = static_cast<double>(remaining);
                        cotangents[(sample - begin) * classes + p] = a;
                      });
  __syncthreads();
  // Positions are independent of each other: a warp takes one through all samples.
  for (int64_t p = threadIdx.x / kWarpSize; p < classes - 1; p += blockDim.x / kWarpSize) {
    const int64_t k = class_at(row, p);
    double direct = 0;
    for (int64_t sample = begin; sample < end; ++sample) {
      const int64_t at = (sample - begin) * classes + p, outcome = sample * common.counts.batch + parameters;
      const double* statistics = call.args.statistics + (outcome * classes + k) * 3;
      seed_table(common, t, p, static_cast<int64_t>(remainders[at]), outcome, k, static_cast<int64_t>(statistics[2]),
                 cotangents[at], scratch->h);
      direct += cotangents[at] * statistics[0];
      Warp().sync();  // other lanes add to the same totals for the next sample
    }
    if (Warp().first()) grad[k] += direct;
  }
  __syncthreads();
  reverse_tables_block(t, row, scratch->h, scratch->work, grad);
  return true;
}

template <class T>
__global__ void __launch_bounds__(kExactThreads, 1) sample_backward_kernel(MvhgSampleExactBackwardCuda<T> call) {
  const MvhgExactArgs<T>& common = call.args.common;
  const int64_t classes = common.counts.classes;
  BlockScratch scratch = block_scratch(call.layout, call.scratch);
  for (int64_t item = blockIdx.x; item < common.counts.batch * call.args.chunks; item += gridDim.x) {
    const int64_t parameters = item / call.args.chunks, begin = item % call.args.chunks * call.args.group;
    const int64_t end = begin + call.args.group < common.samples ? begin + call.args.group : common.samples;
    double* grad = call.args.grad_log_omega + item * classes;
    for (int64_t k = threadIdx.x; k < classes; k += blockDim.x) grad[k] = 0;
    __syncthreads();
    bool valid = true;
    if (common.counts.order_stride == 0) {
      valid = backward_segment(call, parameters, begin, end, &scratch, grad);
    } else {
      for (int64_t sample = begin; sample < end && valid; ++sample) {
        valid = backward_segment(call, parameters, sample, sample + 1, &scratch, grad);
        __syncthreads();
      }
    }
    if (!valid)
      for (int64_t k = threadIdx.x; k < classes; k += blockDim.x) grad[k] = kNaN;
  }
}

template <class T>
ExactLayout layout_of(const MvhgExactArgs<T>& args, int64_t items, int64_t largest_n, bool backward, int64_t extra) {
  const int64_t n = largest_n < 0 ? kLargestUnknownN : largest_n;
  ExactLayout layout{args.counts.classes, table_width(4 * n + 4, n, 4 * n + 4, table_cut(args), n + 2), backward, extra,
                     0};
  const int64_t affordable = kBlocksBytes / block_bytes(layout);
  layout.blocks = affordable < 1 ? 1 : affordable < 1056 ? affordable : 1056;  // eight blocks on 132 multiprocessors
  layout.blocks = items < layout.blocks ? items : layout.blocks;
  return layout;
}

}  // namespace
}  // namespace DRPM_ISA

#define DRPM_DEFINE_EXACT(T)                                                                                           \
  ExactLayout exact_layout_cuda(const MvhgExactArgs<T>& args, int64_t items, int64_t largest_n, bool backward,         \
                                int64_t extra) {                                                                       \
    return DRPM_ISA::layout_of(args, items, largest_n, backward, extra);                                               \
  }                                                                                                                    \
  int mvhg_sample_exact_cuda(const MvhgSampleExactCuda<T>& call, void* stream) {                                       \
    return DRPM_ISA::launch(&DRPM_ISA::sample_kernel<T>, call.layout.blocks, kExactThreads, 0, stream, call);          \
  }                                                                                                                    \
  int mvhg_sample_exact_backward_cuda(const MvhgSampleExactBackwardCuda<T>& call, void* stream) {                      \
    return DRPM_ISA::launch(&DRPM_ISA::sample_backward_kernel<T>, call.layout.blocks, kExactThreads, 0, stream, call); \
  }
DRPM_DEFINE_EXACT(float)
DRPM_DEFINE_EXACT(double)

}  // namespace drpm
