#pragma once

#include "mvhg/two_class/merged.h"

namespace drpm {

// Entries of the log-factorial table on the device: counts are not known to the host, so its size is fixed; Stirling's
// series takes over beyond (16 is exact enough). 16 KB stay in the first cache.
constexpr int64_t kMergedTableSize = 2048;

// Rows in flight (`warps`) or threads, each with its own part of `classes`.
inline int64_t merged_rows_in_flight(int64_t rows) { return rows < 8192 ? rows : 8192; }

// Launchers over `rows` work items. `outcomes` and `width` are not used; `classes` holds
// (merged_rows_in_flight(rows), 2, K) doubles forward and (merged_rows_in_flight(rows), 3, K) backward.
int mvhg_sample_merged_cuda(const MvhgSampleMergedArgs<float>& args, int64_t rows, void* stream);
int mvhg_sample_merged_cuda(const MvhgSampleMergedArgs<double>& args, int64_t rows, void* stream);
int mvhg_sample_merged_backward_cuda(const MvhgSampleMergedBackwardArgs<float>& args, int64_t rows, void* stream);
int mvhg_sample_merged_backward_cuda(const MvhgSampleMergedBackwardArgs<double>& args, int64_t rows, void* stream);
int mvhg_log_prob_merged_cuda(const MvhgLogProbMergedArgs<float>& args, int64_t rows, void* stream);
int mvhg_log_prob_merged_cuda(const MvhgLogProbMergedArgs<double>& args, int64_t rows, void* stream);
int mvhg_log_prob_merged_backward_cuda(const MvhgLogProbMergedBackwardArgs<float>& args, int64_t rows, void* stream);
int mvhg_log_prob_merged_backward_cuda(const MvhgLogProbMergedBackwardArgs<double>& args, int64_t rows, void* stream);

}  // namespace drpm
