#include "band/band_cuda_ops.h"
#include "partition/partition_cuda.h"
#include "partition/partition_glue.h"

namespace drpm {
namespace {

// Arguments and scratch of the subset weights.
template <class T>
struct SubsetScratch {
  Tensor boundary, cut, position_label;
  PartitionCudaArgs<T> args{};

  SubsetScratch(const Tensor& scores, const Tensor& sizes, const Tensor& order, double tau, double eps)
      : boundary(scratch_doubles(scores, 2 * sizes.numel())),
        cut(torch::stable::new_empty(order, {sizes.numel()})),
        position_label(torch::stable::new_empty(order, {order.numel()})) {
    args.rows = scores.size(0);
    args.n = scores.size(1);
    args.classes = sizes.size(1);
    args.tau = tau;
    args.eps = eps;
    args.sizes = checked_data<T>(kOp, "sizes", sizes, args.rows * args.classes);
    args.order = checked_data<int64_t>(kOp, "order", order, scores.numel());
    args.boundary = boundary.mutable_data_ptr<double>();
    args.rest = args.boundary + sizes.numel();
    args.cut = cut.mutable_data_ptr<int64_t>();
    args.position_label = position_label.mutable_data_ptr<int64_t>();
  }
};

// (B, K, n) of the elements against planes in the sorted order.
template <class T>
CudaPlaneMove<T> class_move(const PartitionCudaArgs<T>& args, const T* from, T* to) {
  return {args.rows, args.n, args.classes, args.order, 1, args.n, from, to};
}

struct Cuda {
  static Tensor order(const Tensor& scores) { return sorted_order_cuda(scores); }

  template <class T>
  static void forward(const Tensor& scores, const Tensor& sizes, const Tensor& order, double tau, bool hard, double eps,
                      const Tensor& assignment, const Tensor& labels) {
    SubsetScratch<T> subsets(scores, sizes, order, tau, eps);
    PartitionCudaArgs<T>& args = subsets.args;
    args.labels = labels.mutable_data_ptr<int64_t>();
    if (hard) {
      args.assignment = assignment.mutable_data_ptr<T>();
      launch_on(kOp, scores, [&](void* stream) {
        return first_error({partition_labels_cuda(args, stream), partition_assignment_cuda(args, stream)});
      });
      return;
    }
    BandScratchCuda<T> band(scores, order, tau, false);
    const Tensor alpha = torch::stable::new_empty(scores, {assignment.numel()});
    const Tensor sum = torch::stable::new_empty(scores, {assignment.numel()});
    args.alpha = alpha.mutable_data_ptr<T>();
    band.args.planes = args.classes;
    band.args.left = args.alpha;
    band.args.sum = sum.mutable_data_ptr<T>();
    const auto scatter = class_move<T>(args, band.args.sum, assignment.mutable_data_ptr<T>());
    launch_on(kOp, scores, [&](void* stream) {
      return first_error({partition_labels_cuda(args, stream), partition_alpha_cuda(args, stream),
                          band.gather_scores(scores, stream), band_row_sums_cuda(band.args, stream),
                          band_columns_cuda(band.args, stream), band_scatter_planes_cuda(scatter, stream)});
    });
  }

  // Hard: alpha is one-hot, its gradient the one of the hard permutation. Relaxed: both from the band.
  template <class T>
  static void backward(const Tensor& grad, const Tensor& scores, const Tensor& sizes, const Tensor& order, double tau,
                       bool hard, double eps, const Tensor& grad_scores, const Tensor& grad_sizes) {
    SubsetScratch<T> subsets(scores, sizes, order, tau, eps);
    BandScratchCuda<T> band(scores, order, tau, true);
    PartitionCudaArgs<T>& args = subsets.args;
    const Tensor right = torch::stable::new_empty(scores, {grad.numel()});
    const Tensor alpha = torch::stable::new_empty(scores, {hard ? 0 : grad.numel()});
    const Tensor product = torch::stable::new_empty(scores, {hard ? 0 : grad.numel()});
    args.alpha = alpha.mutable_data_ptr<T>();
    args.grad_alpha = hard ? right.const_data_ptr<T>() : product.const_data_ptr<T>();
    args.grad_sizes = grad_sizes.mutable_data_ptr<T>();
    band.args.planes = args.classes;
    band.args.right = right.const_data_ptr<T>();
    band.args.left = args.alpha;
    band.args.label = args.position_label;
    band.args.product = product.mutable_data_ptr<T>();
    band.args.grad_scores = grad_scores.mutable_data_ptr<T>();
    const T* data = checked_data<T>(kOp, "grad", grad, args.rows * args.classes * args.n);
    const auto gather = class_move<T>(args, data, right.mutable_data_ptr<T>());
    launch_on(kOp, scores, [&](void* stream) {
      int error = first_error({partition_labels_cuda(args, stream), band.gather_scores(scores, stream),
                               band_gather_planes_cuda(gather, stream)});
      if (error == 0 && hard)
        error = first_error({band_label_center_cuda(band.args, stream), band_label_moments_cuda(band.args, stream)});
      else if (error == 0)
        error = first_error({partition_alpha_cuda(args, stream), band_center_cuda(band.args, stream),
                             band_rows_cuda(band.args, stream), band_moments_cuda(band.args, stream)});
      return first_error(
          {error, band_scores_gradient_cuda(band.args, stream), partition_sizes_gradient_cuda(args, stream)});
    });
  }
};

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { drpm::implement_partition_ops<drpm::Cuda>(m); }
