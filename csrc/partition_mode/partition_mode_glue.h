// Dispatcher glue of the most probable partition, for either backend: `Backend::run(log_omega, m, log_scores, labels)`
// fills labels (B, n), B and n > 0.
#pragma once

#include "glue/tensors.h"
#include "partition_mode/partition_mode.h"

namespace drpm {
namespace {

constexpr const char* kOp = "partition_mode";

template <class Backend>
Tensor partition_mode(const Tensor& log_omega, const Tensor& m, const Tensor& log_scores) {
  check_score_rows(kOp, "log_scores", log_scores);
  const int64_t rows = log_scores.size(0), n = log_scores.size(1);
  DRPM_CHECK(n <= kPartitionModeLimit, kOp, "log_scores", "have at most 4096 elements (memory grows as n^2)", n);
  Tensor labels = torch::stable::new_empty(log_scores, {rows, n}, ScalarType::Long);
  if (rows > 0 && n > 0)
    by_dtype(log_scores, [&](auto zero) { Backend::template run<decltype(zero)>(log_omega, m, log_scores, labels); });
  return labels;
}

}  // namespace
}  // namespace drpm
