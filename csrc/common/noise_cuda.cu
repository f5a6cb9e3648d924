#include "common/cuda_launch.h"
#include "common/noise_cuda.h"
#include "common/philox.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// One thread draws one Philox block: 4 floats or 2 doubles.
template <class T>
__device__ void gumbel_noise_line(const GumbelNoiseArgs<T>& args, int64_t line) {
  constexpr int kPer = kNoisePerBlock<T>;
  const NoiseRow at = noise_row(args.seeds, line / args.classes);
  const uint32_t klass = static_cast<uint32_t>(line % args.classes);
  T* out = args.noise + line * args.width;
  const int64_t blocks = (args.width + kPer - 1) / kPer;
  for (int64_t b = threadIdx.x; b < blocks; b += blockDim.x) {
    const PhiloxBlock block = noise_block(at, args.stream, klass, static_cast<uint32_t>(b));
#pragma unroll
    for (int i = 0; i < kPer; ++i)
      if (b * kPer + i < args.width) out[b * kPer + i] = gumbel_of_uniform<T>(uniform_of(block, i, T()));
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
