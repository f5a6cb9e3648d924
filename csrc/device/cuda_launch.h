// What every <op>_cuda.cu builds on: launches, and sums over the threads of a block. No torch headers; no header of
// CUDA's own but cuda_runtime.h, so that the tests can stand in for it (csrc/tests/cuda_on_cpu).
//
// Conventions of the kernels: a block of `blockDim.x` threads (a multiple of 32) takes one work item (row, line) and
// goes on with item + gridDim.x; all indices of global arrays are 64 bits wide; static __shared__ variables are named
// block_shared_*; launchers return the CUDA error code and never synchronise or allocate, so they can be captured into
// a CUDA graph.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "lanes/team.h"

// Block-sized scratch given at launch; the emulator supplies its own definition.
#ifndef DRPM_DYNAMIC_SHARED
#define DRPM_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

namespace drpm {
namespace DRPM_ISA {

constexpr int kWarpSize = 32;
constexpr unsigned kFullWarp = 0xffffffffu;
constexpr int kMaxThreads = 256;
constexpr int kMaxWarps = kMaxThreads / kWarpSize;
constexpr int64_t kMaxGrid =
    1 << 16;  // blocks; the rest of the items comes by stride. 132 SMs hold 2112 of 128 threads

// Threads for a block that walks over `width` elements: whole warps, at most kMaxThreads.
inline int threads_for(int64_t width) {
  int threads = kWarpSize;
  while (threads < kMaxThreads && threads < width) threads *= 2;
  return threads;
}

// The one place that launches: at most kMaxGrid blocks. No items: nothing to do, which is no error.
template <class... P, class... A>
int launch(void (*kernel)(P...), int64_t items, int threads, size_t shared_bytes, void* stream, const A&... arguments) {
  if (items <= 0) return cudaSuccess;
  if (shared_bytes > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(items < kMaxGrid ? items : kMaxGrid));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
  return error != cudaSuccess ? error : cudaGetLastError();
}

// Launches `warps` warps: in blocks of one where there are few, so that they spread over the device.
template <class... P, class... A>
int launch_spread_warps(void (*kernel)(P...), int64_t warps, int threads, void* stream, const A&... arguments) {
  const int64_t per_block = threads / kWarpSize;
  if (warps % per_block != 0 || warps <= 512) return launch(kernel, warps, kWarpSize, 0, stream, arguments...);
  return launch(kernel, warps / per_block, threads, 0, stream, arguments...);
}

// A thread for each of `elements`, in full blocks.
template <class... P, class... A>
int launch_elements(void (*kernel)(P...), int64_t elements, void* stream, const A&... arguments) {
  return launch(kernel, (elements + kMaxThreads - 1) / kMaxThreads, kMaxThreads, 0, stream, arguments...);
}

// A warp for each of `items`, in blocks of `threads`.
template <class... P, class... A>
int launch_warps(void (*kernel)(P...), int64_t items, int threads, size_t shared_bytes, void* stream,
                 const A&... arguments) {
  const int64_t per_block = threads / kWarpSize;
  return launch(kernel, (items + per_block - 1) / per_block, threads, shared_bytes, stream, arguments...);
}

// Calls work(element) for the thread's share of the elements.
template <class Work>
__device__ inline void for_elements(int64_t elements, const Work& work) {
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; at < elements; at += threads) work(at);
}

// Calls work(item, warp) for the warp's share of the items; `warp` counts over the grid.
template <class Work>
__device__ inline void for_warp_items(int64_t items, const Work& work) {
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / kWarpSize);
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarpSize;
  for (int64_t item = warp; item < items; item += warps) work(item, warp);
}

struct Add {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Maximum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

template <class T, class Op>
__device__ inline T warp_reduce(T value, Op op) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2)
    value = op(value, __shfl_xor_sync(kFullWarp, value, offset));
  return value;
}

// The lanes of a warp as a team (lanes/team.h).
struct Warp {
  static constexpr int kSize = kWarpSize;
  __device__ int rank() const { return threadIdx.x % kWarpSize; }
  __device__ int size() const { return kWarpSize; }
  __device__ bool first() const { return rank() == 0; }
  template <class T>
  __device__ T sum(T x) const {
    return warp_reduce(x, Add());
  }
  template <class T>
  __device__ T largest(T x) const {
    return warp_reduce(x, Maximum());
  }
  __device__ void first_largest(double* value, int64_t* at) const {
#pragma unroll
    for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
      const double other = __shfl_xor_sync(kFullWarp, *value, offset);
      const int64_t other_at = __shfl_xor_sync(kFullWarp, *at, offset);
      if (other > *value || (other == *value && other_at < *at)) *value = other, *at = other_at;
    }
  }
  __device__ void sync() const { __syncwarp(); }
};

// The same result in every thread of the block, in an order that does not depend on timing.
template <class T, class Op>
__device__ inline T block_reduce(T value, T identity, Op op) {
  __shared__ T block_shared_partial[kMaxWarps];
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int warps = blockDim.x / kWarpSize;
  value = warp_reduce(value, op);
  __syncthreads();  // the previous call's partial results may still be read
  if (lane == 0) block_shared_partial[warp] = value;
  __syncthreads();
  value = lane < warps ? block_shared_partial[lane] : identity;
  return warp_reduce(value, op);
}

template <class T>
__device__ inline T block_sum(T value) {
  return block_reduce(value, T(0), Add());
}

template <class T>
__device__ inline T shuffle_up(T value, int delta) {
  return __shfl_up_sync(kFullWarp, value, delta);
}

// op of the values of lanes 0 ... this one, `op(earlier, later)` associative.
template <class T, class Op>
__device__ inline T warp_scan(T value, Op op) {
  const int lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (int delta = 1; delta < kWarpSize; delta *= 2) {
    const T earlier = shuffle_up(value, delta);
    if (lane >= delta) value = op(earlier, value);
  }
  return value;
}

// op of the values of threads 0 ... this one, `op(earlier, later)` associative; *total gets op over the whole block.
template <class T, class Op>
__device__ inline T block_scan(T value, T identity, Op op, T* total) {
  __shared__ T block_shared_total[kMaxWarps];
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int warps = blockDim.x / kWarpSize;
  value = warp_scan(value, op);
  __syncthreads();  // the previous call's totals may still be read
  if (lane == kWarpSize - 1) block_shared_total[warp] = value;
  __syncthreads();
  T before = identity, all = identity;
  for (int w = 0; w < warps; ++w) {
    if (w == warp) before = all;
    all = op(all, block_shared_total[w]);
  }
  *total = all;
  return op(before, value);
}

// All threads of a block as a team.
struct Block {
  __device__ int rank() const { return threadIdx.x; }
  __device__ int size() const { return blockDim.x; }
  __device__ bool first() const { return threadIdx.x == 0; }
  template <class T>
  __device__ T sum(T x) const {
    return block_sum(x);
  }
  __device__ double largest(double x) const { return block_reduce(x, -__builtin_huge_val(), Maximum()); }
  template <class T>
  __device__ T running_sum(T x, T* total) const {
    return block_scan(x, T(0), Add(), total);
  }
  __device__ int64_t running_largest(int64_t x, int64_t* total) const {
    return block_scan(x, int64_t{0}, Maximum(), total);
  }
  __device__ void sync() const { __syncthreads(); }
};

}  // namespace DRPM_ISA
}  // namespace drpm
