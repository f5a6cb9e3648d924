// Dispatcher glue of the exact log-probability, for either backend: `Backend::run(log_scores, labels, num_subsets,
// log_prob, grad)` fills the two outputs; `grad` is empty where no gradient is wanted.
#pragma once

#include <tuple>

#include "glue/tensors.h"

namespace drpm {
namespace {

constexpr const char* kOp = "partition_log_prob";

template <class Backend>
std::tuple<Tensor, Tensor> partition_log_prob(const Tensor& log_scores, const Tensor& labels, int64_t num_subsets,
                                              bool with_gradient) {
  check_score_rows(kOp, "log_scores", log_scores);
  DRPM_CHECK(num_subsets >= 0 && num_subsets < (int64_t{1} << 31), kOp, "num_subsets", "be in [0, 2^31)", num_subsets);
  const int64_t rows = log_scores.size(0), n = log_scores.size(1);
  Tensor log_prob = torch::stable::new_empty(log_scores, {rows});
  Tensor grad = torch::stable::new_empty(log_scores, {rows, with_gradient ? n : 0});
  by_dtype(log_scores,
           [&](auto zero) { Backend::template run<decltype(zero)>(log_scores, labels, num_subsets, log_prob, grad); });
  return {log_prob, grad};
}

}  // namespace
}  // namespace drpm
