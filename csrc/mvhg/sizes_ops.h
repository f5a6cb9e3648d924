// A call that draws subset sizes, by exact or merged conditionals.
#pragma once

#include "mvhg/checked_counts.h"

namespace drpm {

constexpr const char* kMvhgSample = "mvhg_sample";

struct SizesCall {
  const Tensor& log_omega;  // (B, K)
  MvhgCounts counts;
  Seeds seeds;
  double tau;
  int64_t samples;
  bool noise;
  int64_t largest_n;  // a bound on n where the host knows one, or negative
};

// Without a seed there is no noise.
inline SizesCall sizes_call(const Tensor& log_omega, const CallCounts& counts, const std::optional<Tensor>& seed,
                            double tau, int64_t samples, int64_t largest_n) {
  const int64_t batch = log_omega.size(0);
  const Seeds seeds = seed ? checked_seeds(kMvhgSample, *seed, batch) : Seeds{nullptr, batch, batch};
  return {log_omega, counts.get(), seeds, tau, samples, seed.has_value(), largest_n};
}

}  // namespace drpm
