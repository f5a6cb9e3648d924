// The partition as functions of C++, for the ops that end in one.
#pragma once

#include "band/band_run.h"
#include "glue/register.h"
#include "partition/partition.h"
#include "sort/sorted_order.h"

namespace drpm {

constexpr const char* kPartition = "partition";

template <class T>
PartitionArgs<T> partition_args(const Tensor& scores, const Tensor& sizes, const Tensor& order, double tau, bool hard,
                                double eps) {
  PartitionArgs<T> args{};
  args.band = band_args<T>(kPartition, scores, order, tau);
  args.classes = sizes.size(1);
  args.sizes = checked_data<T>(kPartition, "sizes", sizes, args.band.rows * args.classes);
  args.eps = eps;
  args.hard = hard;
  return args;
}

struct PartitionCpu {
  static Tensor order(const Tensor& scores) { return sorted_order_cpu(kPartition, scores); }

  template <class T>
  static void forward(const Tensor& scores, const Tensor& sizes, const Tensor& order, double tau, bool hard, double eps,
                      const Tensor& assignment, const Tensor& labels) {
    PartitionArgs<T> args = partition_args<T>(scores, sizes, order, tau, hard, eps);
    args.assignment = assignment.mutable_data_ptr<T>();
    args.labels = labels.mutable_data_ptr<int64_t>();
    if (hard) {
      for_rows(args.band.rows * args.classes, args.band.n,
               [&](int64_t begin, int64_t end) { partition_hard_planes(args, begin, end); });
      return;
    }
    run_band(
        args, args.classes, [&](Carver& c, int64_t slots) { take_partition(c, args, slots); }, partition_forward_tasks,
        [&](int64_t slots) { for_items(slots, 10 * args.classes, args, partition_boundary_slots); },
        partition_forward_chunks,
        [&](int64_t slots) { for_items(slots * args.classes, 4 * args.band.n, args, partition_forward_planes); });
  }

  // The labels of a hard partition alone.
  template <class T>
  static void labels(const Tensor& scores, const Tensor& sizes, const Tensor& order, double eps, const Tensor& labels) {
    PartitionArgs<T> args = partition_args<T>(scores, sizes, order, 1, true, eps);
    args.labels = labels.mutable_data_ptr<int64_t>();
    for_rows(args.band.rows, 2 * args.band.n,
             [&](int64_t begin, int64_t end) { partition_hard_labels(args, begin, end); });
  }

  template <class T>
  static void backward(const Tensor& grad, const Tensor& scores, const Tensor& sizes, const Tensor& order, double tau,
                       bool hard, double eps, const Tensor& grad_scores, const Tensor& grad_sizes) {
    PartitionArgs<T> args = partition_args<T>(scores, sizes, order, tau, hard, eps);
    args.grad = checked_data<T>(kPartition, "grad", grad, args.band.rows * args.classes * args.band.n);
    args.band.grad_scores = grad_scores.mutable_data_ptr<T>();
    args.grad_sizes = grad_sizes.mutable_data_ptr<T>();
    run_band(
        args, 2, [&](Carver& c, int64_t slots) { take_partition(c, args, slots); }, partition_backward_tasks,
        [&](int64_t slots) {
          for_items(slots, 10 * args.classes, args, partition_boundary_slots);
          for_items(slots * args.classes, 4 * args.band.n, args, partition_gather_planes);
        },
        partition_backward_chunks,
        [&](int64_t slots) { for_items(slots, 16 * args.band.n, args, partition_backward_slots); });
  }
};

template <class T>
PartitionCudaArgs<T> cuda_args(const Tensor& scores, const Tensor& sizes, const Tensor& order, double tau, double eps) {
  PartitionCudaArgs<T> args{};
  args.rows = scores.size(0);
  args.n = scores.size(1);
  args.classes = sizes.size(1);
  args.tau = tau;
  args.eps = eps;
  args.scores = checked_data<T>(kPartition, "scores", scores, scores.numel());
  args.sizes = checked_data<T>(kPartition, "sizes", sizes, args.rows * args.classes);
  args.order = checked_data<int64_t>(kPartition, "order", order, scores.numel());
  return args;
}

template <class T>
void take_subsets(Carver& c, PartitionCudaArgs<T>& args) {
  args.boundary = c.take<double>(args.rows * args.classes);
  args.rest = c.take<double>(args.rows * args.classes);
  args.cut = c.take<int64_t>(args.rows * args.classes);
  args.position_label = c.take<int64_t>(args.rows * args.n);
}

// (B, K, n) of the elements against planes in the sorted order.
template <class T>
CudaPlaneMove<T> class_move(const PartitionCudaArgs<T>& args, const T* from, T* to) {
  return {args.rows, args.n, args.classes, args.order, 1, args.n, from, to, nullptr};
}

struct PartitionCuda {
  static Tensor order(const Tensor& scores) { return sorted_order_cuda(scores); }

  template <class T>
  static void forward(const Tensor& scores, const Tensor& sizes, const Tensor& order, double tau, bool hard, double eps,
                      const Tensor& assignment, const Tensor& labels) {
    PartitionCudaArgs<T> args = cuda_args<T>(scores, sizes, order, tau, eps);
    args.labels = labels.mutable_data_ptr<int64_t>();
    if (hard) {
      const Tensor memory = carve(scores, [&](Carver& c) { take_subsets(c, args); });
      args.assignment = assignment.mutable_data_ptr<T>();
      launch_on(kPartition, scores, [&](void* stream) {
        return first_error({partition_labels_cuda(args, stream), partition_assignment_cuda(args, stream)});
      });
      return;
    }
    CudaBandRun<T> band(kPartition, scores, order, tau, false, [&](Carver& c, CudaBandArgs<T>& planes) {
      take_subsets(c, args);
      args.alpha = c.take<T>(assignment.numel());
      planes.sum = c.take<T>(assignment.numel());
    });
    band.args.planes = args.classes;
    band.args.left = args.alpha;
    const auto scatter = class_move<T>(args, band.args.sum, assignment.mutable_data_ptr<T>());
    launch_on(kPartition, scores, [&](void* stream) {
      return first_error({partition_labels_cuda(args, stream), partition_alpha_cuda(args, stream),
                          band.gather_scores(stream), band_row_sums_cuda(band.args, stream),
                          band_columns_cuda(band.args, stream), band_scatter_planes_cuda(scatter, stream)});
    });
  }

  // The labels of a hard partition alone.
  template <class T>
  static void labels(const Tensor& scores, const Tensor& sizes, const Tensor& order, double eps, const Tensor& labels) {
    PartitionCudaArgs<T> args = cuda_args<T>(scores, sizes, order, 1, eps);
    args.labels = labels.mutable_data_ptr<int64_t>();
    const Tensor memory = carve(scores, [&](Carver& c) { take_subsets(c, args); });
    launch_on(kPartition, scores, [&](void* stream) { return partition_labels_cuda(args, stream); });
  }

  // Hard: alpha is one-hot, its gradient the one of the hard permutation. Relaxed: both from the band.
  template <class T>
  static void backward(const Tensor& grad, const Tensor& scores, const Tensor& sizes, const Tensor& order, double tau,
                       bool hard, double eps, const Tensor& grad_scores, const Tensor& grad_sizes) {
    PartitionCudaArgs<T> args = cuda_args<T>(scores, sizes, order, tau, eps);
    const T* data = checked_data<T>(kPartition, "grad", grad, args.rows * args.classes * args.n);
    T* right = nullptr;
    CudaBandRun<T> band(kPartition, scores, order, tau, true, [&](Carver& c, CudaBandArgs<T>& planes) {
      take_subsets(c, args);
      right = c.take<T>(grad.numel());
      args.alpha = c.take<T>(hard ? 0 : grad.numel());
      planes.product = c.take<T>(hard ? 0 : grad.numel());
    });
    args.grad_alpha = hard ? right : band.args.product;
    args.grad_sizes = grad_sizes.mutable_data_ptr<T>();
    args.grad_scores = grad_scores.mutable_data_ptr<T>();
    band.args.planes = args.classes;
    band.args.right = right;
    band.args.left = args.alpha;
    band.args.label = args.position_label;
    band.args.grad_scores = args.grad_scores;
    const auto gather = class_move<T>(args, data, right);
    launch_on(kPartition, scores, [&](void* stream) {
      int error = first_error(
          {partition_labels_cuda(args, stream), band.gather_scores(stream), band_gather_planes_cuda(gather, stream)});
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

inline void check_partition(const Tensor& scores, const Tensor& sizes) {
  check_score_rows(kPartition, "scores", scores);
  DRPM_CHECK(sizes.dim() == 2 && sizes.size(0) == scores.size(0) && sizes.size(1) > 0, kPartition, "sizes",
             "have the rows of scores and a class", sizes.dim());
}

}  // namespace drpm
