#include "band/band_cuda_ops.h"
#include "relaxed_sort/relaxed_sort_glue.h"

namespace drpm {
namespace {

// (B, n, d) against planes (B, d, n) in the sorted order (`order`) or as it is (null).
template <class T>
CudaPlaneMove<T> column_move(const Tensor& scores, int64_t columns, const int64_t* order, const T* from, T* to) {
  return {scores.size(0), scores.size(1), columns, order, columns, 1, from, to};
}

struct Cuda {
  static Tensor order(const Tensor& scores) { return sorted_order_cuda(scores); }

  template <class T>
  static void forward(const Tensor& scores, const Tensor& order, double tau, bool hard, const Tensor& out) {
    BandScratchCuda<T> band(scores, order, tau, false);
    band.args.permutation = out.mutable_data_ptr<T>();
    launch_on(kOp, scores, [&](void* stream) {
      if (hard) return band_hard_cuda(band.args, stream);
      return first_error({band.gather_scores(scores, stream), band_dense_cuda(band.args, stream)});
    });
  }

  template <class T>
  static void backward(const Tensor& grad, const Tensor& scores, const Tensor& order, double tau, const Tensor& out) {
    BandScratchCuda<T> band(scores, order, tau, true);
    band.args.grad = checked_data<T>(kOp, "grad", grad, scores.numel() * scores.size(1));
    band.args.grad_scores = out.mutable_data_ptr<T>();
    launch_on(kOp, scores, [&](void* stream) {
      return first_error({band.gather_scores(scores, stream), band_dense_center_cuda(band.args, stream),
                          band_dense_moments_cuda(band.args, stream), band_scores_gradient_cuda(band.args, stream)});
    });
  }

  template <class T>
  static void matmul(const Tensor& scores, const Tensor& values, const Tensor& order, double tau, bool hard,
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
      if (hard)
        return first_error({band_gather_planes_cuda(gather, stream), band_scatter_planes_cuda(scatter, stream)});
      return first_error({band.gather_scores(scores, stream), band_gather_planes_cuda(gather, stream),
                          band_row_sums_cuda(band.args, stream), band_rows_cuda(band.args, stream),
                          band_scatter_planes_cuda(scatter, stream)});
    });
  }

  template <class T>
  static void matmul_backward(const Tensor& grad, const Tensor& scores, const Tensor& values, const Tensor& order,
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
    const auto scatter = column_move<T>(scores, columns, sorted, hard ? band.args.left : band.args.sum,
                                        grad_values.mutable_data_ptr<T>());
    launch_on(kMatmulOp, scores, [&](void* stream) {
      return first_error({band.gather_scores(scores, stream), band_gather_planes_cuda(gather_right, stream),
                          band_gather_planes_cuda(gather_left, stream), band_center_cuda(band.args, stream),
                          band_moments_cuda(band.args, stream), band_scores_gradient_cuda(band.args, stream),
                          hard ? 0 : band_columns_cuda(band.args, stream), band_scatter_planes_cuda(scatter, stream)});
    });
  }
};

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { drpm::implement_relaxed_sort_ops<drpm::Cuda>(m); }
