#include "device/cuda_launch.h"
#include "noise/gumbel_noise.h"
#include "noise/philox.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// What one Philox block gives, stored at once: a warp then fills whole sectors.
template <class T>
struct alignas(kNoisePerBlock<T> * sizeof(T)) NoiseVector {
  T value[kNoisePerBlock<T>];
};

// One thread draws one Philox block: 4 floats or 2 doubles.
template <class T>
__device__ void gumbel_noise_line(const GumbelNoiseArgs<T>& args, int64_t line) {
  constexpr int kPer = kNoisePerBlock<T>;
  const NoiseRow at = noise_row(args.seeds, line / args.classes);
  const uint32_t klass = static_cast<uint32_t>(line % args.classes);
  T* out = args.noise + line * args.width;
  const bool aligned = reinterpret_cast<uintptr_t>(out) % alignof(NoiseVector<T>) == 0;
  const int64_t blocks = (args.width + kPer - 1) / kPer;
  for (int64_t b = threadIdx.x; b < blocks; b += blockDim.x) {
    const PhiloxBlock block = noise_block(at, args.stream, klass, static_cast<uint32_t>(b));
    NoiseVector<T> noise;
#pragma unroll
    for (int i = 0; i < kPer; ++i) noise.value[i] = gumbel_of_uniform<T>(uniform_of(block, i, T()));
    if (aligned && (b + 1) * kPer <= args.width) {
      *reinterpret_cast<NoiseVector<T>*>(out + b * kPer) = noise;
      continue;
    }
#pragma unroll
    for (int i = 0; i < kPer; ++i)
      if (b * kPer + i < args.width) out[b * kPer + i] = noise.value[i];
  }
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) gumbel_noise_kernel(GumbelNoiseArgs<T> args, int64_t lines) {
  for (int64_t line = blockIdx.x; line < lines; line += gridDim.x) gumbel_noise_line(args, line);
}

template <class T>
int launch_gumbel_noise(const GumbelNoiseArgs<T>& args, int64_t lines, void* stream) {
  if (args.width == 0) return cudaSuccess;
  return launch(&gumbel_noise_kernel<T>, lines, threads_for(args.width / kNoisePerBlock<T>), 0, stream, args, lines);
}

}  // namespace
}  // namespace DRPM_ISA

int gumbel_noise_cuda(const GumbelNoiseArgs<float>& args, int64_t lines, void* stream) {
  return DRPM_ISA::launch_gumbel_noise(args, lines, stream);
}

int gumbel_noise_cuda(const GumbelNoiseArgs<double>& args, int64_t lines, void* stream) {
  return DRPM_ISA::launch_gumbel_noise(args, lines, stream);
}

}  // namespace drpm
