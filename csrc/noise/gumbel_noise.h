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

// Launchers: `lines` = rows * classes work items; return the CUDA error code.
int gumbel_noise_cuda(const GumbelNoiseArgs<float>& args, int64_t lines, void* stream);
int gumbel_noise_cuda(const GumbelNoiseArgs<double>& args, int64_t lines, void* stream);

}  // namespace drpm
