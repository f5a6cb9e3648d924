// Test-only stand-in for <cuda_runtime.h>: a plain C++ compiler reads the unmodified .cu files, and every CUDA thread
// of a block runs as a fiber on one OS thread. This folder comes first on the include path. See scheduler.cpp.
// Not covered: half types, cooperative groups, asynchronous copies, fast-math accuracy, memory-order subtleties.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#define __CUDA_ON_CPU__ 1
#define __host__
#define __device__
#define __global__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static  // one block at a time on one OS thread: static storage is block storage
#define DRPM_DYNAMIC_SHARED(name) unsigned char* const name = cuda_on_cpu_dynamic_shared()

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

using cudaStream_t = struct CUstream_st*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
struct cudaLaunchAttribute;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

extern "C" {  // scheduler.cpp
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
unsigned char* cuda_on_cpu_dynamic_shared();
size_t cuda_on_cpu_dynamic_shared_bytes();
uint64_t cuda_on_cpu_switches();
uint64_t cuda_on_cpu_launches();
uint64_t cuda_on_cpu_meetings();  // of the running thread, in this launch: barriers and warp intrinsics
int cuda_on_cpu_launch(dim3 grid, dim3 block, size_t shared_bytes, const void* kernel, void (*body)(void*),
                       void* context);
int cuda_on_cpu_allow_shared(const void* kernel, size_t bytes);
// All live threads of the block meet at `site`; returns how many passed a non-zero predicate.
int cuda_on_cpu_block_barrier(const char* site, int predicate);
// The lanes named in `mask` meet in the intrinsic `kind` (a literal); `values` gets each one's `mine`. Returns the
// lanes that took part.
unsigned cuda_on_cpu_warp_meet(const char* kind, unsigned mask, uint64_t mine, uint64_t values[32], bool fences);
[[noreturn]] void cuda_on_cpu_fail(const char* what);
}
constexpr int warpSize = 32;

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
  struct Call {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
  } call{kernel, std::tuple<P...>(std::forward<A>(arguments)...)};
  return cudaError_t(cuda_on_cpu_launch(
      config->gridDim, config->blockDim, config->dynamicSmemBytes, reinterpret_cast<const void*>(kernel),
      [](void* p) {
        auto* c = static_cast<Call*>(p);
        std::apply(c->kernel, c->arguments);
      },
      &call));
}
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  return cudaError_t(cuda_on_cpu_allow_shared(kernel, size_t(value)));
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t e) { return e == cudaSuccess ? "no error" : "invalid launch"; }

// Block barriers: every thread of the block must wait at the same source line.
#define CUDA_ON_CPU_STRING2(x) #x
#define CUDA_ON_CPU_STRING(x) CUDA_ON_CPU_STRING2(x)
#define CUDA_ON_CPU_SITE __FILE__ ":" CUDA_ON_CPU_STRING(__LINE__)
#define __syncthreads() ((void)cuda_on_cpu_block_barrier(CUDA_ON_CPU_SITE, 0))
#define __syncthreads_count(p) cuda_on_cpu_block_barrier(CUDA_ON_CPU_SITE, (p) != 0)
#define __syncthreads_or(p) (cuda_on_cpu_block_barrier(CUDA_ON_CPU_SITE, (p) != 0) != 0)
#define __syncthreads_and(p) (cuda_on_cpu_block_barrier(CUDA_ON_CPU_SITE, (p) == 0) == 0)

// Warp intrinsics.
inline unsigned cuda_on_cpu_lane() {
  return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32u;
}
inline void __syncwarp(unsigned mask = ~0u) {
  uint64_t values[32];
  cuda_on_cpu_warp_meet("__syncwarp", mask, 0, values, true);
}

template <class T>
uint64_t cuda_on_cpu_bits(T x) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "a warp intrinsic of an unsupported type");
  uint64_t bits = 0;
  std::memcpy(&bits, &x, sizeof(T));
  return bits;
}
template <class T>
T cuda_on_cpu_value(uint64_t bits) {
  T x;
  std::memcpy(&x, &bits, sizeof(T));
  return x;
}

template <class T>
T cuda_on_cpu_shuffle(const char* kind, unsigned mask, T mine, int source) {
  uint64_t values[32];
  const unsigned present = cuda_on_cpu_warp_meet(kind, mask, cuda_on_cpu_bits(mine), values, false);
  if (!(present >> source & 1)) cuda_on_cpu_fail("shuffle reads a lane that does not take part");
  return cuda_on_cpu_value<T>(values[source]);
}
template <class T>
T __shfl_sync(unsigned mask, T x, int source, int width = 32) {
  const int lane = cuda_on_cpu_lane();
  return cuda_on_cpu_shuffle("__shfl_sync", mask, x, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T x, int flip, int width = 32) {
  const int lane = cuda_on_cpu_lane(), source = lane ^ flip;
  return cuda_on_cpu_shuffle("__shfl_xor_sync", mask, x, source > (lane | (width - 1)) ? lane : source);
}
template <class T>
T __shfl_down_sync(unsigned mask, T x, unsigned delta, int width = 32) {
  const int lane = cuda_on_cpu_lane(), source = lane + int(delta);
  return cuda_on_cpu_shuffle("__shfl_down_sync", mask, x, source > (lane | (width - 1)) ? lane : source);
}
template <class T>
T __shfl_up_sync(unsigned mask, T x, unsigned delta, int width = 32) {
  const int lane = cuda_on_cpu_lane(), source = lane - int(delta);
  return cuda_on_cpu_shuffle("__shfl_up_sync", mask, x, source < (lane & ~(width - 1)) ? lane : source);
}

template <class R, class T, class F>
R cuda_on_cpu_fold(const char* kind, unsigned mask, T mine, R start, F f) {
  uint64_t values[32];
  const unsigned present = cuda_on_cpu_warp_meet(kind, mask, cuda_on_cpu_bits(mine), values, false);
  for (int lane = 0; lane < 32; ++lane)
    if (present >> lane & 1) start = f(start, cuda_on_cpu_value<T>(values[lane]), lane);
  return start;
}
inline unsigned __ballot_sync(unsigned mask, int p) {
  return cuda_on_cpu_fold("__ballot_sync", mask, int(p != 0), 0u,
                          [](unsigned a, int b, int lane) { return a | unsigned(b) << lane; });
}
inline int __any_sync(unsigned mask, int p) {
  return cuda_on_cpu_fold("__any_sync", mask, int(p != 0), 0, [](int a, int b, int) { return a | b; });
}
inline int __all_sync(unsigned mask, int p) {
  return cuda_on_cpu_fold("__all_sync", mask, int(p != 0), 1, [](int a, int b, int) { return a & b; });
}

// Atomics: real ones, so that ThreadSanitizer tells them from plain accesses.
template <class T, class F>
T cuda_on_cpu_update(T* p, F f) {
  T old, next;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  do {
    next = f(old);
  } while (!__atomic_compare_exchange(p, &old, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}
template <class T>
using cuda_on_cpu_same = typename std::common_type<T>::type;
template <class T>
T atomicAdd(T* p, cuda_on_cpu_same<T> x) {
  return cuda_on_cpu_update(p, [x](T old) { return T(old + x); });
}
template <class T>
T atomicMin(T* p, cuda_on_cpu_same<T> x) {
  return cuda_on_cpu_update(p, [x](T old) { return std::min(old, x); });
}
template <class T>
T atomicMax(T* p, cuda_on_cpu_same<T> x) {
  return cuda_on_cpu_update(p, [x](T old) { return std::max(old, x); });
}
template <class T>
T atomicCAS(T* p, cuda_on_cpu_same<T> expected, cuda_on_cpu_same<T> x) {
  return cuda_on_cpu_update(p, [expected, x](T old) { return old == expected ? x : old; });
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

// Scalar intrinsics.
template <class T>
T __ldg(const T* p) {
  return *p;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
