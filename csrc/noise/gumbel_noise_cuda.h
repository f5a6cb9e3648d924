#pragma once

#include "noise/gumbel_noise.h"

namespace drpm {

// Launchers: `lines` = rows * classes work items; return the CUDA error code.
int gumbel_noise_cuda(const GumbelNoiseArgs<float>& args, int64_t lines, void* stream);
int gumbel_noise_cuda(const GumbelNoiseArgs<double>& args, int64_t lines, void* stream);

}  // namespace drpm
