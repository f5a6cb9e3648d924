// What the C++ drivers of the emulated CUDA kernels share: buffers as a device would allocate them, deterministic
// random inputs, and the comparison of a CUDA kernel's output with the CPU kernel's.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

namespace drpm_test {

// Aligned to 256 bytes as device memory is; of the exact size, so that AddressSanitizer sees one element past the end.
template <class T>
struct DeviceAllocator {
  using value_type = T;
  DeviceAllocator() = default;
  template <class U>
  DeviceAllocator(const DeviceAllocator<U>&) {}
  T* allocate(size_t count) {
    return static_cast<T*>(::operator new(count == 0 ? 1 : count * sizeof(T), std::align_val_t(256)));
  }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(256)); }
  template <class U>
  bool operator==(const DeviceAllocator<U>&) const {
    return true;
  }
  template <class U>
  bool operator!=(const DeviceAllocator<U>&) const {
    return false;
  }
};
template <class T>
using Buffer = std::vector<T, DeviceAllocator<T>>;

// Output buffers hold a value that no kernel writes, so that an element left out is seen.
template <class T>
Buffer<T> poisoned(int64_t count) {
  return Buffer<T>(count, static_cast<T>(-12345.678));
}

// Scratch: what is read before it is written makes NaN of what comes of it.
inline Buffer<double> unset(int64_t count) { return Buffer<double>(count, NAN); }

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  uint64_t bits() {  // splitmix64
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  double uniform() { return (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53; }
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()); }
  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }
  template <class T>
  Buffer<T> normals(int64_t count, double scale) {
    Buffer<T> x(count);
    for (T& v : x) v = static_cast<T>(scale * normal());
    return x;
  }

 private:
  uint64_t state_;
};

// ThreadSanitizer across the grid holds about 7000 threads: large launches are left out there.
inline bool small_grids_only() {
  const char* races = std::getenv("CUDA_ON_CPU_RACES");
  return races != nullptr && std::strcmp(races, "grid") == 0;
}

inline int& failures() {
  static int count = 0;
  return count;
}

// DRPM_FIRST_FAILURE ends the program there: enough to know that a mutant is noticed.
inline void count_failure() {
  ++failures();
  if (std::getenv("DRPM_FIRST_FAILURE") != nullptr) std::_Exit(1);
}

inline void fail(const char* what) {
  std::printf("FAIL %s\n", what);
  count_failure();
}

inline void expect_launched(const char* what, int error) {
  if (error == 0) return;
  std::printf("FAIL %s: launch returned error %d\n", what, error);
  count_failure();
}

// |got - want| <= tolerance * max(1, largest |want|); NaN and infinities must agree exactly.
template <class T>
void expect_close(const char* what, const Buffer<T>& got, const Buffer<T>& want, double tolerance) {
  double scale = 1, worst = 0;
  size_t wrong = 0, first = 0;
  for (const T w : want)
    if (std::isfinite(static_cast<double>(w))) scale = std::max(scale, std::fabs(static_cast<double>(w)));
  for (size_t i = 0; i < want.size(); ++i) {
    const double g = static_cast<double>(got[i]), w = static_cast<double>(want[i]);
    if (g == w || (std::isnan(g) && std::isnan(w))) continue;
    const double error = std::fabs(g - w) / scale;
    if (error <= tolerance) {
      worst = std::max(worst, error);
      continue;
    }
    if (wrong++ == 0) first = i;
  }
  if (wrong == 0) return;
  std::printf("FAIL %s: %zu of %zu differ, first at %zu: got %.9g, want %.9g (tolerance %.1e, largest value %.3g)\n",
              what, wrong, want.size(), first, static_cast<double>(got[first]), static_cast<double>(want[first]),
              tolerance, scale);
  count_failure();
}

template <class T>
constexpr double kRounding = sizeof(T) == 4 ? 4e-7 : 1e-15;

}  // namespace drpm_test

// Defines main(): runs `body` with the baseline CPU kernels as the other side.
#define DRPM_CUDA_DRIVER(body)                                         \
  int main() {                                                         \
    setenv("DRPM_SIMD", "baseline", 1);                                \
    body();                                                            \
    std::printf("%s: %d failures\n", __FILE__, drpm_test::failures()); \
    return drpm_test::failures() == 0 ? 0 : 1;                         \
  }
