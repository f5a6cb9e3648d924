#include <optional>
#include <tuple>

#include "common/tensors_cuda.h"
#include "plackett_luce/plackett_luce_cuda.h"

namespace drpm {
namespace {

constexpr const char* kOp = "plackett_luce_log_prob";

template <class T>
void run(const Tensor& log_scores, const std::optional<Tensor>& order, const Tensor& log_prob, const Tensor& grad) {
  const int64_t rows = log_scores.size(0), n = log_scores.size(1);
  const Tensor scratch = scratch_doubles(log_scores, plackett_luce_cuda_blocks(rows) * n);
  PlackettLuceArgs<T> args{};
  args.log_scores = checked_data<T>(kOp, "log_scores", log_scores, rows * n);
  if (order.has_value()) args.order = checked_data<int64_t>(kOp, "order", *order, rows * n);
  args.log_prob = log_prob.mutable_data_ptr<T>();
  if (grad.numel() > 0) args.grad_log_scores = grad.mutable_data_ptr<T>();
  args.log_suffix_sum = scratch.mutable_data_ptr<double>();
  args.n = n;
  launch_on(kOp, log_scores, [&](void* stream) { return plackett_luce_cuda(args, rows, stream); });
}

std::tuple<Tensor, Tensor> plackett_luce_log_prob(const Tensor& log_scores, const std::optional<Tensor>& order,
                                                  bool with_gradient) {
  check_float(kOp, "log_scores", log_scores);
  const int64_t rows = log_scores.size(0), n = log_scores.size(1);
  Tensor log_prob = torch::stable::new_empty(log_scores, {rows});
  Tensor grad = torch::stable::new_empty(log_scores, {rows, with_gradient ? n : 0});
  if (is_float64(log_scores))
    run<double>(log_scores, order, log_prob, grad);
  else
    run<float>(log_scores, order, log_prob, grad);
  return {log_prob, grad};
}

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { m.impl("plackett_luce_log_prob", TORCH_BOX(&drpm::plackett_luce_log_prob)); }
