// Gumbel noise of consecutive elements, many Philox blocks at a time: rounds outside, blocks inside, so that the
// compiler turns the 32-bit multiplications into vector code.
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
  uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    c0[b] = static_cast<uint32_t>(first / kPer) + static_cast<uint32_t>(b);
    c1[b] = klass | (stream << 28);
    c2[b] = static_cast<uint32_t>(at.row);
    c3[b] = static_cast<uint32_t>(at.row >> 32);
  }
  uint32_t k0 = static_cast<uint32_t>(at.seed), k1 = static_cast<uint32_t>(at.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int b = 0; b < kBlocks; ++b) {
      const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0[b];
      const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2[b];
      const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1[b] ^ k0;
      const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3[b] ^ k1;
      c1[b] = static_cast<uint32_t>(p1);
      c3[b] = static_cast<uint32_t>(p0);
      c0[b] = n0;
      c2[b] = n2;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int b = 0; b < kBlocks; ++b) {
    const PhiloxBlock block{{c0[b], c1[b], c2[b], c3[b]}};
    for (int i = 0; i < kPer; ++i) out[b * kPer + i] = uniform_of(block, i, T());
  }
}

// Their Gumbel variates.
template <class T>
inline void gumbel_tile(const NoiseRow& at, uint32_t stream, uint32_t klass, uint64_t first, T* out) {
  uniform_tile(at, stream, klass, first, out);
  using V = Pack<T>;
  for (int i = 0; i < kNoiseTile<T>; i += Lane<V>::kWidth) store<V>(out + i, gumbel_of_uniform<V>(load<V>(out + i)));
}

}  // namespace DRPM_ISA
}  // namespace drpm
