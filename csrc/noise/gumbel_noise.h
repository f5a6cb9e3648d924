// The Gumbel noise that a seed stands for, written out: for tests, for the reference, and to perturb log-scores.
#pragma once

#include "lanes/simd.h"
#include "noise/seeds.h"

namespace drpm {

template <class T>
struct GumbelNoiseArgs {
  Seeds seeds;
  uint32_t stream;
  int64_t classes, width;
  T* noise;  // (rows, classes, width); a work item is one (row, class)
};

DRPM_DECLARE_KERNEL(gumbel_noise_lines, GumbelNoiseArgs<float>)
DRPM_DECLARE_KERNEL(gumbel_noise_lines, GumbelNoiseArgs<double>)

}  // namespace drpm
