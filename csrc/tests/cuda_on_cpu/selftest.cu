// The emulator's own test: intrinsics mean what CUDA says, and misuse stops with a message. Without an argument it
// checks the former; with one it runs that misuse, which must not return.
#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>

namespace {

__global__ void intrinsics(int* wrong) {
  const int t = threadIdx.x, lane = t % 32;
  int bad = 0;
  bad += __shfl_sync(~0u, lane * 3, 5) != 15;
  bad += __shfl_sync(~0u, lane, 9, 8) != (lane & ~7) + 1;
  bad += __shfl_up_sync(~0u, lane, 2) != (lane < 2 ? lane : lane - 2);
  bad += __shfl_down_sync(~0u, lane, 3, 16) != ((lane & 15) + 3 > 15 ? lane : lane + 3);
  bad += __shfl_xor_sync(~0u, static_cast<long long>(lane) << 33, 7) != static_cast<long long>(lane ^ 7) << 33;
  bad += __ballot_sync(~0u, lane & 1) != 0xaaaaaaaau;
  bad += __any_sync(~0u, lane == 7) != 1 || __all_sync(~0u, lane < 31) != 0;
  if (lane < 16)  // two halves, other masks, other lines
    bad += __ballot_sync(0x0000ffffu, 1) != 0x0000ffffu;
  else
    bad += __shfl_xor_sync(0xffff0000u, lane, 1) != (lane ^ 1);
  bad += __syncthreads_count(t % 3 == 0) != static_cast<int>(blockDim.x + 2) / 3;
  bad += __syncthreads_or(t == 40) != 1 || __syncthreads_and(t < 40) != 0;
  __shared__ int block_shared_count[64];
  block_shared_count[t % 64] = 0;
  __syncthreads();
  atomicAdd(&block_shared_count[t % 64], 1);
  __syncthreads();
  bad += block_shared_count[t % 64] != static_cast<int>(blockDim.x) / 64;
  if (t == 3) return;  // leaving a warp is no error for the others' collectives
  bad += __any_sync(t / 32 == 0 ? ~8u : ~0u, 0);
  atomicAdd(wrong, bad);
}

__global__ void divergent_barrier() {
  if (threadIdx.x < 64) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void left_before_barrier() {
  if (threadIdx.x == 5) return;
  __syncthreads();
}
__global__ void barrier_in_half() {
  if (threadIdx.x < 64) __syncthreads();
}
__global__ void not_in_mask() { __shfl_sync(0xffffu, 1, 0); }
__global__ void missing_lane() {
  if (threadIdx.x % 32 != 4)
    __ballot_sync(~0u, 1);
  else
    __syncthreads();
}
__global__ void inactive_source() {
  if (threadIdx.x % 32 < 16) __shfl_sync(0xffffu, 1, 20);
}
__global__ void uninitialised(float* out) {
  DRPM_DYNAMIC_SHARED(memory);
  out[threadIdx.x] = reinterpret_cast<float*>(memory)[threadIdx.x];
}

template <class... P, class... A>
int run(void (*kernel)(P...), int threads, size_t shared_bytes, A... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = 1;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared_bytes;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

int check_meaning() {
  int wrong = 0, failures = 0;
  failures += run(intrinsics, 128, 0, &wrong) != cudaSuccess || wrong != 0;
  std::printf("intrinsics: %d wrong\n", wrong);
  float memory[32] = {};
  failures += run(uninitialised, 32, 128, memory) != cudaSuccess;
  failures += memory[3] == memory[3];  // NaN until written
  failures += run(uninitialised, 32, 49 * 1024, memory) == cudaSuccess;
  failures += run(uninitialised, 1025, 0, memory) == cudaSuccess;
  failures += cudaFuncSetAttribute(reinterpret_cast<const void*>(&uninitialised),
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, 64 * 1024) != cudaSuccess;
  failures += run(uninitialised, 32, 49 * 1024, memory) != cudaSuccess;
  std::printf("selftest: %d failures\n", failures);
  return failures;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return check_meaning();
  const struct {
    const char* name;
    void (*kernel)();
    int threads;
  } misuses[] = {{"divergent_barrier", divergent_barrier, 128},
                 {"left_before_barrier", left_before_barrier, 128},
                 {"barrier_in_half", barrier_in_half, 128},
                 {"not_in_mask", not_in_mask, 32},
                 {"missing_lane", missing_lane, 32},
                 {"inactive_source", inactive_source, 32}};
  for (const auto& misuse : misuses)
    if (std::strcmp(argv[1], misuse.name) == 0) run(misuse.kernel, misuse.threads, 0);
  std::printf("%s: NOT noticed\n", argv[1]);
  return 0;
}
