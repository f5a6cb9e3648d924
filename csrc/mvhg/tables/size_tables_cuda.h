// The tables of size_tables.h, built by the threads of a block in scratch of its own.
#pragma once

#include "device/cuda_launch.h"
#include "mvhg/tables/size_tables.h"

namespace drpm {
namespace DRPM_ISA {

// Inversion by a warp: the first i < count whose cumulated weight f[i] b[-i] exceeds u of the total.
__device__ inline int64_t warp_invert_product(const double* f, const double* b, int64_t count, double u) {
  double total = 0;
  for (int64_t i = Warp().rank(); i < count; i += kWarpSize) total += f[i] * b[-i];
  const double target = u * Warp().sum(total);
  double before = 0;  // of the tiles passed
  for (int64_t tile = 0; tile < count; tile += kWarpSize) {
    const int64_t i = tile + Warp().rank();
    const double up_to = warp_scan(i < count ? f[i] * b[-i] : 0.0, Add());
    const unsigned beyond = __ballot_sync(kFullWarp, before + up_to > target);
    if (beyond != 0) {
      const int64_t found = tile + __ffs(static_cast<int>(beyond)) - 1;
      return found < count - 1 ? found : count - 1;
    }
    before += __shfl_sync(kFullWarp, up_to, kWarpSize - 1);
  }
  return count - 1;
}

// The scratch of this block.
struct BlockScratch {
  SizeTables tables;
  double *h, *work, *extra;
  int64_t stride;
};

__device__ inline BlockScratch block_scratch(const ExactLayout& layout, char* all) {
  Carver carver(all + static_cast<int64_t>(blockIdx.x) * block_bytes(layout));
  const BlockMemory memory = place_block(layout, &carver);
  BlockScratch s{};
  SizeTables& t = s.tables;
  t.classes = layout.classes;
  int64_t** windows[] = {&t.f_low, &t.f_size, &t.f_at, &t.b_low, &t.b_size, &t.b_at};
  for (int i = 0; i < 6; ++i) *windows[i] = memory.windows + i * layout.classes;
  t.scale = memory.scale;
  t.f = memory.f;
  t.log_f = memory.log_f;
  t.b = memory.b;
  t.log_b = memory.log_b;
  s.h = memory.h;
  s.work = memory.work;
  s.extra = memory.extra;
  s.stride = layout.stride;
  return s;
}

// (f * b)(low + i), where f and b begin at 0: sum over a of f[a] b[s - a]
__device__ inline double convolution_at(const double* f, int64_t f_size, const double* b, int64_t b_size, int64_t s) {
  const int64_t first = s - (b_size - 1) > 0 ? s - (b_size - 1) : 0, last = s < f_size - 1 ? s : f_size - 1;
  double sum = 0;
  for (int64_t a = first; a <= last; ++a) sum += f[a] * b[s - a];
  return sum;
}

// sum over i of kernel[i] signal[t + i], where signal has values for 0 .. signal_size - 1 only
__device__ inline double correlation_at(const double* kernel, int64_t size, const double* signal, int64_t signal_size,
                                        int64_t t) {
  const int64_t first = t < 0 ? -t : 0, last = signal_size - t < size ? signal_size - t : size;
  double sum = 0;
  for (int64_t i = first; i < last; ++i) sum += kernel[i] * signal[t + i];
  return sum;
}

// Cuts values[0 .. size) to what lies within the cut of their maximum and makes that 1 (log 0): table p.
DRPM_OUTLINED __device__ inline void finish_table_block(const SizeTables& t, int64_t p, int64_t at, int64_t low,
                                                        int64_t size, double cut, const double* values) {
  double highest = -__builtin_huge_val();
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) highest = max_lane<double>(values[i], highest);
  highest = block_reduce(highest, -__builtin_huge_val(), Maximum());
  const double threshold = t.linear ? highest * exp_lane<double>(-cut) : highest - cut;
  double first = static_cast<double>(size), last = -1;  // whole numbers
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {
    if (values[i] < threshold) continue;
    const double index = static_cast<double>(i);
    first = index < first ? index : first;
    last = index;
  }
  const int64_t from = -static_cast<int64_t>(block_reduce(-first, -__builtin_huge_val(), Maximum()));
  const int64_t to = static_cast<int64_t>(block_reduce(last, -__builtin_huge_val(), Maximum()));
  if (threadIdx.x == 0) {
    t.scale[p] = highest;
    t.b_low[p] = low + from;
    t.b_size[p] = to - from + 1;
    t.b_at[p] = at;
  }
  const double scale = 1 / highest;
  for (int64_t i = from + threadIdx.x; i <= to; i += blockDim.x) {
    const double value = t.linear ? values[i] * scale : values[i] - highest;
    if (t.linear) t.b[at + i - from] = value;
    t.log_b[at + i - from] = t.linear ? log_lane<double>(value) : value;
  }
  __syncthreads();
}

// All threads of the block together; `work` holds 2 stride doubles.                             (Eq. 18, 19, 19a)
template <class T>
DRPM_OUTLINED __device__ void build_tables_block(const MvhgExactArgs<T>& args, const MvhgRow& row, const T* log_omega,
                                                 BlockScratch* scratch) {
  SizeTables& t = scratch->tables;
  const int64_t classes = t.classes, stride = scratch->stride;
  const int warp = threadIdx.x / kWarpSize, warps = blockDim.x / kWarpSize;
  const double cut = table_cut(args);
  const double tilt = solve_tilt(Warp(), row, log_omega);  // every warp for itself: the same
  const double all = tilt_sums(Warp(), row, log_omega, tilt).variance;
  __syncthreads();  // the tables may still be read for the group before
  for (int64_t p = warp; p < classes; p += warps) {
    const int64_t k = class_at(row, p);
    const ClassWeights f = class_weights(possible_items(row.m, log_omega, k), log_weight(row, log_omega, k) + tilt,
                                         row.n + 1, cut, stride, args.log_factorials);
    for (int64_t x = f.low + Warp().rank(); x <= f.high; x += kWarpSize) {
      const double log_f = -class_drop(f, x, args.log_factorials);
      t.log_f[p * stride + (x - f.low)] = log_f;
      t.f[p * stride + (x - f.low)] = exp_lane<double>(log_f);
    }
    if (Warp().first()) {
      t.f_low[p] = f.low;
      t.f_size[p] = f.high - f.low + 1;
      t.f_at[p] = p * stride;
    }
  }
  __syncthreads();
  double range = 0;
  for (int64_t p = 0; p < classes; ++p) {
    const double first = t.log_f[p * stride], last = t.log_f[p * stride + t.f_size[p] - 1];
    range -= first < last ? first : last;
  }
  t.linear = cut <= kLinearRange || range <= kLinearRange;

  TotalMoments moments{0, 0, all};
  double* work = scratch->work;
  for (int64_t p = classes - 2; p >= 0; --p) {
    const int64_t k = class_at(row, p + 1);
    add_class(row.m[k], log_weight(row, log_omega, k) + tilt, &moments);
    const TotalStretch stretch = total_stretch(t, p, row.n, moments, cut, stride);
    const double* f = (t.linear ? t.f : t.log_f) + t.f_at[p + 1];
    if (p == classes - 2) {
      finish_table_block(t, p, p * stride, stretch.low, stretch.size, cut, f + stretch.skipped);
      continue;
    }
    for (int64_t i = threadIdx.x; i < stretch.size; i += blockDim.x) {
      if (t.linear) {
        work[i] = convolution_at(f, t.f_size[p + 1], t.b + t.b_at[p + 1], t.b_size[p + 1], stretch.skipped + i);
      } else {
        const int64_t rho = stretch.low + i;
        const OutcomeWindow support = conditional_support(t, p + 1, rho);
        const double *log_f = f - t.f_low[p + 1], *log_b = t.log_b + t.b_at[p + 1] - t.b_low[p + 1];
        int64_t mode = concave_mode(support.low, support.high, [&](int64_t x) { return log_f[x] + log_b[rho - x]; });
        work[i] = convolve_at(t, p + 1, rho, &mode, [](int64_t, double) {});
      }
    }
    __syncthreads();
    finish_table_block(t, p, p * stride, stretch.low, stretch.size, cut, work);
  }
}

}  // namespace DRPM_ISA
}  // namespace drpm
