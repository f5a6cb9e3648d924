#pragma once

#include "plackett_luce_log_prob/plackett_luce_log_prob.h"

namespace drpm {

// Blocks of the grid; each has its own scratch.
inline int64_t plackett_luce_cuda_blocks(int64_t rows) { return rows < 1024 ? rows : 1024; }

// Launchers over `rows` work items. `log_suffix_sum` holds plackett_luce_cuda_blocks(rows) * n doubles; `ranked` is
// not used.
int plackett_luce_cuda(const PlackettLuceArgs<float>& args, int64_t rows, void* stream);
int plackett_luce_cuda(const PlackettLuceArgs<double>& args, int64_t rows, void* stream);

}  // namespace drpm
