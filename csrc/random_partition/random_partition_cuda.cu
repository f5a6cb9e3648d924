#include "device/cuda_launch.h"
#include "noise/philox.h"
#include "random_partition/random_partition_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// One thread draws one Philox block: 4 floats or 2 doubles. A block of threads takes a row.
template <class T>
__global__ void __launch_bounds__(kMaxThreads, 2) perturb_kernel(PerturbArgs<T> args) {
  constexpr int kPer = kNoisePerBlock<T>;
  const int64_t n = args.n;
  const bool noisy = args.seeds.values != nullptr;
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const int64_t length = row_length(args.lengths, row, args.batch, n);
    const T* scores = args.scores + row % args.batch * n;
    T* out = args.perturbed + row * n;
    const NoiseRow at = noisy ? noise_row(args.seeds, row) : NoiseRow{};
    const T nothing = -static_cast<T>(__builtin_huge_val());
    T largest = 0;
    if (noisy) {
      largest = nothing;
      for (int64_t j = threadIdx.x; j < length; j += blockDim.x) largest = scores[j] > largest ? scores[j] : largest;
      largest = block_reduce(largest, nothing, Maximum());
    }
    T highest = nothing;  // of the negated scores
    for (int64_t b = threadIdx.x; b * kPer < length; b += blockDim.x) {
      PhiloxBlock block{};
      if (noisy) block = noise_block(at, kStreamOrder, 0, static_cast<uint32_t>(b));
#pragma unroll
      for (int i = 0; i < kPer; ++i) {
        const int64_t j = b * kPer + i;
        if (j >= length) continue;
        T score = scores[j];
        if (noisy) score = (score - largest) + gumbel_of_uniform<T>(uniform_of(block, i, T()));
        out[j] = score;
        highest = -score > highest ? -score : highest;
      }
    }
    if (args.lengths.values == nullptr) continue;
    highest = block_reduce(highest, nothing, Maximum());
    const Padding<T> padding = padding_below(-highest, args.spacing, n);
    for (int64_t j = length + threadIdx.x; j < n; j += blockDim.x)
      out[j] = padding.lowest - padding.step * static_cast<T>(j - length + 1);
  }
}

// A block takes a plane of a row.
template <class T>
__global__ void __launch_bounds__(kMaxThreads, 2) mask_kernel(MaskArgs<T> args) {
  const int64_t n = args.n;
  for (int64_t plane = blockIdx.x; plane < args.rows * args.planes; plane += gridDim.x) {
    const int64_t row = plane / args.planes, length = row_length(args.lengths, row, args.batch, n);
    const T* from = args.from + plane * n;
    T* to = args.to + plane * n;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) to[j] = j < length ? from[j] : T(0);
    if (args.labels == nullptr || plane != row * args.planes) continue;
    for (int64_t j = length + threadIdx.x; j < n; j += blockDim.x) args.labels[row * n + j] = -1;
  }
}

template <class T>
int launch_perturb(const PerturbArgs<T>& args, void* stream) {
  if (args.n == 0) return cudaSuccess;
  return launch(&perturb_kernel<T>, args.rows, threads_for(args.n / kNoisePerBlock<T>), 0, stream, args);
}

template <class T>
int launch_mask(const MaskArgs<T>& args, void* stream) {
  if (args.n == 0) return cudaSuccess;
  return launch(&mask_kernel<T>, args.rows * args.planes, threads_for(args.n), 0, stream, args);
}

}  // namespace
}  // namespace DRPM_ISA

int perturb_rows_cuda(const PerturbArgs<float>& args, void* stream) { return DRPM_ISA::launch_perturb(args, stream); }
int perturb_rows_cuda(const PerturbArgs<double>& args, void* stream) { return DRPM_ISA::launch_perturb(args, stream); }
int mask_rows_cuda(const MaskArgs<float>& args, void* stream) { return DRPM_ISA::launch_mask(args, stream); }
int mask_rows_cuda(const MaskArgs<double>& args, void* stream) { return DRPM_ISA::launch_mask(args, stream); }

}  // namespace drpm
