// Counter-based noise: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011),
// keyed by the seed. The counter names the variate, so that any thread on any device can regenerate it.
#pragma once

#include "lanes/lane_math.h"
#include "noise/seeds.h"
#include "noise/streams.h"

namespace drpm {
namespace DRPM_ISA {

// Key and first coordinate of the noise of one row.
struct NoiseRow {
  uint64_t seed, row;
};

// `row` = sample * batch + parameter row.
DRPM_HD inline NoiseRow noise_row(const Seeds& seeds, int64_t row) {
  if (seeds.group == seeds.batch) return {static_cast<uint64_t>(seeds.values[0]), static_cast<uint64_t>(row)};
  const int64_t sample = row / seeds.batch, parameters = row % seeds.batch;
  return {static_cast<uint64_t>(seeds.values[parameters / seeds.group]),
          static_cast<uint64_t>(sample * seeds.group + parameters % seeds.group)};
}

struct PhiloxBlock {
  uint32_t word[4];
};

// Ten rounds on counters c[word][block], in place: rounds outside, blocks inside, so that the compiler turns the 32-bit
// multiplications of many blocks into vector code.
template <int kBlocks>
DRPM_HD inline void philox4x32_10(uint32_t (&c)[4][kBlocks], uint64_t seed) {
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    for (int b = 0; b < kBlocks; ++b) {
      const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c[0][b];
      const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c[2][b];
      const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c[1][b] ^ k0;
      const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c[3][b] ^ k1;
      c[1][b] = static_cast<uint32_t>(p1);
      c[3][b] = static_cast<uint32_t>(p0);
      c[0][b] = n0;
      c[2][b] = n2;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// Counters of the blocks b .. b + kBlocks - 1; block b holds the variates of elements 4 b .. 4 b + 3 (float) or 2 b,
// 2 b + 1 (double). Counter: (b; class | stream << 28; row, low word; row, high word).
template <int kBlocks>
DRPM_HD inline void noise_blocks(const NoiseRow& at, uint32_t stream, uint32_t klass, uint32_t b,
                                 uint32_t (&c)[4][kBlocks]) {
  for (int i = 0; i < kBlocks; ++i) {
    c[0][i] = b + static_cast<uint32_t>(i);
    c[1][i] = klass | (stream << 28);
    c[2][i] = static_cast<uint32_t>(at.row);
    c[3][i] = static_cast<uint32_t>(at.row >> 32);
  }
  philox4x32_10(c, at.seed);
}

DRPM_HD inline PhiloxBlock noise_block(const NoiseRow& at, uint32_t stream, uint32_t klass, uint32_t b) {
  uint32_t c[4][1];
  noise_blocks(at, stream, klass, b, c);
  return {{c[0][0], c[1][0], c[2][0], c[3][0]}};
}

template <class T>
constexpr int kNoisePerBlock = 16 / sizeof(T);

// Uniform in (0, 1): (bits + 1/2) 2^-b with b = 32 (float, rounded) or 53 (double); small values keep full relative
// resolution.
DRPM_HD inline float uniform_of(const PhiloxBlock& block, int i, float) {
  const float u = (static_cast<float>(block.word[i]) + 0.5f) * 2.3283064365386963e-10f;
  return u < 0.99999994f ? u : 0.99999994f;
}

DRPM_HD inline double uniform_of(const PhiloxBlock& block, int i, double) {
  const uint64_t bits = (static_cast<uint64_t>(block.word[2 * i + 1]) << 32 | block.word[2 * i]) >> 11;
  const double u = (static_cast<double>(bits) + 0.5) * 1.1102230246251565e-16;
  return u < 0.99999999999999989 ? u : 0.99999999999999989;
}

// Standard Gumbel from a uniform: -log(-log(1 - u)). The upper tail comes from small u, where u is finely resolved.
// float: in [-2.81, 22.9]; double: in [-3.62, 37.5].
template <class V>
DRPM_HD inline V gumbel_of_uniform(V u) {
  return -log_lane<V>(-log1p_lane<V>(-u));
}

template <class T>
struct GumbelRange;
template <>
struct GumbelRange<float> {
  static constexpr double kSpan = 25.7;  // largest minus smallest value, rounded up
};
template <>
struct GumbelRange<double> {
  static constexpr double kSpan = 41.1;
};

// One variate; loops over many elements should take whole blocks instead.
template <class T>
DRPM_HD inline T uniform_at(const NoiseRow& at, uint32_t stream, uint32_t klass, uint64_t element) {
  constexpr int kPer = kNoisePerBlock<T>;
  const PhiloxBlock block = noise_block(at, stream, klass, static_cast<uint32_t>(element / kPer));
  return uniform_of(block, static_cast<int>(element % kPer), T());
}

template <class T>
DRPM_HD inline T gumbel_at(const NoiseRow& at, uint32_t stream, uint32_t klass, uint64_t element) {
  return gumbel_of_uniform<T>(uniform_at<T>(at, stream, klass, element));
}

}  // namespace DRPM_ISA
}  // namespace drpm
