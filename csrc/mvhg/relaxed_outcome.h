// One outcome of a size: noise, argmax, and the moments of the softmax that stands for it in the backward.
#pragma once

#include "mvhg/outcome.h"
#include "noise/noise_tile.h"

namespace drpm {
namespace DRPM_ISA {

// Adds the noise of class `klass` to the logits of outcomes low .. low + count - 1; `noise` is scratch.
template <class T>
inline void add_gumbel(const NoiseRow& at, int64_t klass, int64_t low, int64_t count, T* logits, T* noise) {
  constexpr int64_t kPer = kNoisePerBlock<T>;
  const int64_t first = low - low % kPer;
  for (int64_t start = first; start < low + count; start += kNoiseTile<T>)
    gumbel_tile<T>(at, kStreamSizes, static_cast<uint32_t>(klass), static_cast<uint64_t>(start), low + count - start,
                   noise + (start - first));
  for (int64_t i = 0; i < count; ++i) logits[i] += noise[low - first + i];
}

template <class T>
inline int64_t first_maximum(const T* x, int64_t count, T* best) {
  T highest = x[0];
  for (int64_t i = 1; i < count; ++i) highest = x[i] > highest ? x[i] : highest;
  *best = highest;
  int64_t i = 0;
  while (i < count - 1 && x[i] != highest) ++i;
  return i;
}

// Moments of softmax(logits / tau) about the best outcome, which lies where the weight is. `slopes` may be null.
template <class T>
inline void softmax_moments(const T* logits, const T* slopes, int64_t count, int64_t centre, T best, double tau,
                            RelaxedOutcome* out) {
  using V = Pack<T>;
  constexpr int64_t kWidth = Lane<V>::kWidth, kTile = 16 * kWidth;
  const V inverse_tau = splat<V>(static_cast<T>(1 / tau)), best_v = splat<V>(best);
  T lane_index[kWidth];
  for (int64_t i = 0; i < kWidth; ++i) lane_index[i] = static_cast<T>(i);
  const V index = load<V>(lane_index);
  const T slope_at_centre = slopes == nullptr ? T(0) : slopes[centre];
  double s0 = 0, sy = 0, syy = 0, sd = 0, syd = 0;
  for (int64_t start = 0; start < count; start += kTile) {
    V t0{}, ty{}, tyy{}, td{}, tyd{};
    const int64_t stop = start + kTile < count ? start + kTile : count;
    for (int64_t i = start; i < stop; i += kWidth) {  // logits are padded with -inf: weight 0
      const V w = exp_lane<V>((load<V>(logits + i) - best_v) * inverse_tau);
      const V y = index + static_cast<T>(i - centre);
      const V wy = w * y;
      t0 += w;
      ty += wy;
      tyy += wy * y;
      if (slopes != nullptr) {
        const V d = load<V>(slopes + i) - slope_at_centre;
        td += w * d;
        tyd += wy * d;
      }
    }
    s0 += sum_lanes<V>(t0);
    sy += sum_lanes<V>(ty);
    syy += sum_lanes<V>(tyy);
    sd += sum_lanes<V>(td);
    syd += sum_lanes<V>(tyd);
  }
  const double my = sy / s0, md = sd / s0;
  out->mean = my;
  out->variance = syy / s0 - my * my;
  out->slope = syd / s0 - my * md;
}

}  // namespace DRPM_ISA
}  // namespace drpm
