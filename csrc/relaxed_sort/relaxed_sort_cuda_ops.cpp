#include <array>
#include <optional>
#include <tuple>

#include "relaxed_sort/band_cuda_ops.h"

namespace drpm {

Tensor sorted_order_cuda(const Tensor& scores) {
  using torch::stable::detail::from;
  std::array<StableIValue, 4> stack{from(scores), from(std::optional<bool>(true)), from(int64_t{-1}), from(true)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  const Tensor values = torch::stable::detail::to<Tensor>(stack[0]);  // owned: freed here
  return torch::stable::detail::to<Tensor>(stack[1]);
}

namespace {

constexpr const char* kOp = "relaxed_sort";
constexpr const char* kMatmulOp = "relaxed_sort_matmul";

void check_rows(const char* op, const Tensor& scores) {
  check_float(op, "scores", scores);
  DRPM_CHECK(scores.dim() == 2, op, "scores", "have two dimensions", scores.dim());
  DRPM_CHECK(scores.is_contiguous(), op, "scores", "be contiguous", "strides");
}

template <class T>
void run_forward(const Tensor& scores, const Tensor& order, double tau, bool hard, const Tensor& out) {
  BandScratchCuda<T> band(scores, order, tau, false);
  band.args.permutation = out.mutable_data_ptr<T>();
  launch_on(kOp, scores, [&](void* stream) {
    if (hard) return band_hard_cuda(band.args, stream);
    return first_error({band.gather_scores(scores, stream), band_dense_cuda(band.args, stream)});
  });
}

std::tuple<Tensor, Tensor> relaxed_sort(const Tensor& scores, double tau, bool hard) {
  check_rows(kOp, scores);
  const int64_t rows = scores.size(0), n = scores.size(1);
  Tensor order = sorted_order_cuda(scores);
  Tensor out = torch::stable::new_empty(scores, {rows, n, n});
  if (is_float64(scores))
    run_forward<double>(scores, order, tau, hard, out);
  else
    run_forward<float>(scores, order, tau, hard, out);
  return {out, order};
}

template <class T>
void run_backward(const Tensor& grad, const Tensor& scores, const Tensor& order, double tau, const Tensor& out) {
  BandScratchCuda<T> band(scores, order, tau, true);
  band.args.grad = checked_data<T>(kOp, "grad", grad, scores.numel() * scores.size(1));
  band.args.grad_scores = out.mutable_data_ptr<T>();
  launch_on(kOp, scores, [&](void* stream) {
    return first_error({band.gather_scores(scores, stream), band_dense_center_cuda(band.args, stream),
                        band_dense_moments_cuda(band.args, stream), band_scores_gradient_cuda(band.args, stream)});
  });
}

Tensor relaxed_sort_backward(const Tensor& grad, const Tensor& scores, const Tensor& order, double tau) {
  check_rows(kOp, scores);
  Tensor out = torch::stable::new_empty(scores, {scores.size(0), scores.size(1)});
  if (is_float64(scores))
    run_backward<double>(grad, scores, order, tau, out);
  else
    run_backward<float>(grad, scores, order, tau, out);
  return out;
}

// (B, n, d) against planes (B, d, n) in the sorted order (`order`) or as it is (null).
template <class T>
CudaPlaneMove<T> column_move(const Tensor& scores, int64_t columns, const int64_t* order, const T* from, T* to) {
  return {scores.size(0), scores.size(1), columns, order, columns, 1, from, to};
}

template <class T>
void run_matmul(const Tensor& scores, const Tensor& values, const Tensor& order, double tau, bool hard,
                const Tensor& out) {
  const int64_t columns = values.size(2);
  BandScratchCuda<T> band(scores, order, tau, false);
  const Tensor right = torch::stable::new_empty(values, {values.numel()});
  const Tensor product = torch::stable::new_empty(values, {hard ? 0 : values.numel()});
  band.args.planes = columns;
  band.args.right = right.const_data_ptr<T>();
  band.args.product = product.mutable_data_ptr<T>();
  const T* data = checked_data<T>(kMatmulOp, "values", values, scores.numel() * columns);
  const auto gather = column_move<T>(scores, columns, band.args.order, data, right.mutable_data_ptr<T>());
  const auto scatter =
      column_move<T>(scores, columns, nullptr, hard ? band.args.right : band.args.product, out.mutable_data_ptr<T>());
  launch_on(kMatmulOp, scores, [&](void* stream) {
    if (hard) return first_error({band_gather_planes_cuda(gather, stream), band_scatter_planes_cuda(scatter, stream)});
    return first_error({band.gather_scores(scores, stream), band_gather_planes_cuda(gather, stream),
                        band_row_sums_cuda(band.args, stream), band_rows_cuda(band.args, stream),
                        band_scatter_planes_cuda(scatter, stream)});
  });
}

std::tuple<Tensor, Tensor> relaxed_sort_matmul(const Tensor& scores, const Tensor& values, double tau, bool hard) {
  check_rows(kMatmulOp, scores);
  DRPM_CHECK(values.dim() == 3 && values.size(0) == scores.size(0) && values.size(1) == scores.size(1), kMatmulOp,
             "values", "have the rows of scores", values.dim());
  Tensor order = sorted_order_cuda(scores);
  Tensor out = torch::stable::new_empty(values, {values.size(0), values.size(1), values.size(2)});
  if (is_float64(scores))
    run_matmul<double>(scores, values, order, tau, hard, out);
  else
    run_matmul<float>(scores, values, order, tau, hard, out);
  return {out, order};
}

template <class T>
void run_matmul_backward(const Tensor& grad, const Tensor& scores, const Tensor& values, const Tensor& order,
                         double tau, bool hard, const Tensor& grad_scores, const Tensor& grad_values) {
  const int64_t columns = values.size(2);
  BandScratchCuda<T> band(scores, order, tau, true);
  const Tensor right = torch::stable::new_empty(values, {values.numel()});
  const Tensor left = torch::stable::new_empty(values, {values.numel()});
  const Tensor sum = torch::stable::new_empty(values, {hard ? 0 : values.numel()});
  band.args.planes = columns;
  band.args.right = right.const_data_ptr<T>();
  band.args.left = left.const_data_ptr<T>();
  band.args.sum = sum.mutable_data_ptr<T>();
  band.args.grad_scores = grad_scores.mutable_data_ptr<T>();
  const T* data = checked_data<T>(kMatmulOp, "values", values, scores.numel() * columns);
  const T* grad_data = checked_data<T>(kMatmulOp, "grad", grad, values.numel());
  const int64_t* sorted = band.args.order;
  const auto gather_right = column_move<T>(scores, columns, sorted, data, right.mutable_data_ptr<T>());
  const auto gather_left = column_move<T>(scores, columns, nullptr, grad_data, left.mutable_data_ptr<T>());
  const auto scatter =
      column_move<T>(scores, columns, sorted, hard ? band.args.left : band.args.sum, grad_values.mutable_data_ptr<T>());
  launch_on(kMatmulOp, scores, [&](void* stream) {
    return first_error({band.gather_scores(scores, stream), band_gather_planes_cuda(gather_right, stream),
                        band_gather_planes_cuda(gather_left, stream), band_center_cuda(band.args, stream),
                        band_moments_cuda(band.args, stream), band_scores_gradient_cuda(band.args, stream),
                        hard ? 0 : band_columns_cuda(band.args, stream), band_scatter_planes_cuda(scatter, stream)});
  });
}

std::tuple<Tensor, Tensor> relaxed_sort_matmul_backward(const Tensor& grad, const Tensor& scores, const Tensor& values,
                                                        const Tensor& order, double tau, bool hard) {
  check_rows(kMatmulOp, scores);
  Tensor grad_scores = torch::stable::new_empty(scores, {scores.size(0), scores.size(1)});
  Tensor grad_values = torch::stable::new_empty(values, {values.size(0), values.size(1), values.size(2)});
  if (is_float64(scores))
    run_matmul_backward<double>(grad, scores, values, order, tau, hard, grad_scores, grad_values);
  else
    run_matmul_backward<float>(grad, scores, values, order, tau, hard, grad_scores, grad_values);
  return {grad_scores, grad_values};
}

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) {
  m.impl("relaxed_sort", TORCH_BOX(&drpm::relaxed_sort));
  m.impl("relaxed_sort_backward", TORCH_BOX(&drpm::relaxed_sort_backward));
  m.impl("relaxed_sort_matmul", TORCH_BOX(&drpm::relaxed_sort_matmul));
  m.impl("relaxed_sort_matmul_backward", TORCH_BOX(&drpm::relaxed_sort_matmul_backward));
}
