// Gumbel noise of consecutive elements, many Philox blocks at a time.
#pragma once

#include "noise/philox.h"

namespace drpm {
namespace DRPM_ISA {

template <class T>
constexpr int kNoiseTile = 16 * kNoisePerBlock<T>;

// Uniforms of the elements first .. first + kNoiseTile<T> - 1 of a line; `first` is a multiple of kNoisePerBlock<T>.
template <class T>
inline void uniform_tile(const NoiseRow& at, uint32_t stream, uint32_t klass, uint64_t first, T* out) {
  constexpr int kPer = kNoisePerBlock<T>, kBlocks = 16;
  uint32_t c[4][kBlocks];
  noise_blocks(at, stream, klass, static_cast<uint32_t>(first / kPer), c);
  for (int b = 0; b < kBlocks; ++b) {
    const PhiloxBlock block{{c[0][b], c[1][b], c[2][b], c[3][b]}};
    for (int i = 0; i < kPer; ++i) out[b * kPer + i] = uniform_of(block, i, T());
  }
}

// Their Gumbel variates, at least the first `count`; what comes after whole packs of them is unspecified.
template <class T>
inline void gumbel_tile(const NoiseRow& at, uint32_t stream, uint32_t klass, uint64_t first, int64_t count, T* out) {
  uniform_tile(at, stream, klass, first, out);
  using V = Pack<T>;
  const int64_t end = count < kNoiseTile<T> ? count : kNoiseTile<T>;
  for (int64_t i = 0; i < end; i += Lane<V>::kWidth) store<V>(out + i, gumbel_of_uniform<V>(load<V>(out + i)));
}

}  // namespace DRPM_ISA
}  // namespace drpm
