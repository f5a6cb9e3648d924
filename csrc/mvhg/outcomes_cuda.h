// Perturbed logits of one conditional, taken by a warp 32 noise blocks at a time: noise, argmax, moments. The device's
// side of relaxed_outcome.h.
#pragma once

#include "device/cuda_launch.h"
#include "mvhg/outcome.h"
#include "noise/philox.h"

namespace drpm {
namespace DRPM_ISA {

// `logit(x)`, in double, for the outcomes low .. high.
template <class T, class Logit>
struct NoisyOutcomes {
  Logit logit;
  int64_t low, high;
  NoiseRow source;
  uint32_t klass;
  bool noise;

  // visit(x, perturbed logit) for those in the noise block that begins at `block_start`.
  template <class Visit>
  __device__ void visit_block(int64_t block_start, const Visit& visit) const {
    constexpr int kPer = kNoisePerBlock<T>;
    PhiloxBlock block{};
    if (noise) block = noise_block(source, kStreamSizes, klass, static_cast<uint32_t>(block_start / kPer));
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
      const int64_t x = block_start + i;
      if (x < low || x > high) continue;
      T value = static_cast<T>(logit(x));
      if (noise) value += gumbel_of_uniform<T>(uniform_of(block, i, T()));
      visit(x, value);
    }
  }

  __device__ T at(int64_t x) const {
    T value = static_cast<T>(logit(x));
    if (noise) value += gumbel_at<T>(source, kStreamSizes, klass, static_cast<uint64_t>(x));
    return value;
  }

  __device__ int64_t first_tile() const { return low - low % kNoisePerBlock<T>; }
  static constexpr int64_t kTile = kWarpSize * kNoisePerBlock<T>;
};

template <class T>
struct BestOutcome {
  T logit;
  int64_t x;
};

// The largest logit, the first of equal ones; the same in every lane.
template <class T, class Logit>
__device__ BestOutcome<T> best_outcome(const NoisyOutcomes<T, Logit>& outcomes) {
  BestOutcome<T> best{static_cast<T>(-__builtin_huge_val()), outcomes.high};
  for (int64_t tile = outcomes.first_tile(); tile <= outcomes.high; tile += outcomes.kTile)
    outcomes.visit_block(tile + Warp().rank() * kNoisePerBlock<T>, [&](int64_t x, T logit) {
      if (logit > best.logit) best = {logit, x};
    });
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    const T logit = __shfl_xor_sync(kFullWarp, best.logit, offset);
    const int64_t x = __shfl_xor_sync(kFullWarp, best.x, offset);
    if (logit > best.logit || (logit == best.logit && x < best.x)) best = {logit, x};
  }
  return best;
}

// Moments of softmax(logits / tau) about the best outcome. `slopes.enter(start)` is called by all lanes together with
// the first outcome of each one's block, then `slopes.next(x)` for the outcomes of the block in order.
template <class T, class Logit, class Slopes>
__device__ void softmax_moments(const NoisyOutcomes<T, Logit>& outcomes, const BestOutcome<T>& best, double tau,
                                Slopes slopes, RelaxedOutcome* out) {
  const T inverse_tau = static_cast<T>(1 / tau);
  double s0 = 0, sy = 0, syy = 0, sd = 0, syd = 0;
  for (int64_t tile = outcomes.first_tile(); tile <= outcomes.high; tile += outcomes.kTile) {
    const int64_t start = tile + Warp().rank() * kNoisePerBlock<T>;
    slopes.enter(start);
    outcomes.visit_block(start, [&](int64_t x, T logit) {
      const double w = static_cast<double>(exp_lane<T>((logit - best.logit) * inverse_tau));
      const double y = static_cast<double>(x - best.x), slope = slopes.next(x);
      s0 += w;
      sy += w * y;
      syy += w * y * y;
      sd += w * slope;
      syd += w * y * slope;
    });
  }
  s0 = Warp().sum(s0);
  const double my = Warp().sum(sy) / s0, md = Warp().sum(sd) / s0;
  out->mean = static_cast<double>(best.x) + my;
  out->variance = Warp().sum(syy) / s0 - my * my;
  out->slope = Warp().sum(syd) / s0 - my * md;
}

}  // namespace DRPM_ISA
}  // namespace drpm
