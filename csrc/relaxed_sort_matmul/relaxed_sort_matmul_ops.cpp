#include <tuple>

#include "band/band_run.h"
#include "glue/register.h"
#include "relaxed_sort_matmul/relaxed_sort_matmul.h"
#include "sort/sorted_order.h"

namespace drpm {
namespace {

constexpr const char* kOp = "relaxed_sort_matmul";

template <class T>
RelaxedSortMatmulArgs<T> matmul_args(const Tensor& scores, const Tensor& values, const Tensor& order, double tau,
                                     bool hard) {
  RelaxedSortMatmulArgs<T> args{};
  args.band = band_args<T>(kOp, scores, order, tau);
  args.columns = values.size(2);
  args.values = checked_data<T>(kOp, "values", values, scores.numel() * args.columns);
  args.hard = hard;
  return args;
}

struct Cpu {
  static Tensor order(const Tensor& scores) { return sorted_order_cpu(kOp, scores); }

  template <class T>
  static void forward(const Tensor& scores, const Tensor& values, const Tensor& order, double tau, bool hard,
                      const Tensor& out) {
    RelaxedSortMatmulArgs<T> args = matmul_args<T>(scores, values, order, tau, hard);
    if (args.columns == 0) return;
    const int64_t rows = args.band.rows, n = args.band.n, d = args.columns;
    args.product = out.mutable_data_ptr<T>();
    if (hard) {
      for_rows(rows, n * d, [&](int64_t begin, int64_t end) { relaxed_sort_matmul_hard_rows(args, begin, end); });
      return;
    }
    run_band(
        args, 0, [&](Carver& c, int64_t slots) { args.planes = c.take<T>(slots * d * (n + kBandPad)); },
        relaxed_sort_matmul_forward_tasks,
        [&](int64_t slots) { for_items(slots * d, 4 * n, args, relaxed_sort_matmul_gather_planes); },
        relaxed_sort_matmul_forward_chunks, [](int64_t) {});
  }

  template <class T>
  static void backward(const Tensor& grad, const Tensor& scores, const Tensor& values, const Tensor& order, double tau,
                       bool hard, const Tensor& grad_scores, const Tensor& grad_values) {
    RelaxedSortMatmulArgs<T> args = matmul_args<T>(scores, values, order, tau, hard);
    const int64_t n = args.band.n, d = args.columns;
    args.grad = checked_data<T>(kOp, "grad", grad, values.numel());
    args.band.grad_scores = grad_scores.mutable_data_ptr<T>();
    args.grad_values = grad_values.mutable_data_ptr<T>();
    run_band(
        args, 2 + (hard ? 0 : d),
        [&](Carver& c, int64_t slots) { args.planes = c.take<T>(slots * d * (n + kBandPad)); },
        relaxed_sort_matmul_backward_tasks,
        [&](int64_t slots) { for_items(slots * d, 4 * n, args, relaxed_sort_matmul_gather_planes); },
        relaxed_sort_matmul_backward_chunks,
        [&](int64_t slots) { for_items(slots, 16 * n, args, relaxed_sort_matmul_backward_slots); });
  }
};

// (B, n, d) against planes (B, d, n) in the sorted order (`order`) or as it is (null); `data`, where given, are the
// scores.
template <class T>
CudaPlaneMove<T> column_move(const Tensor& scores, int64_t columns, const int64_t* order, const T* from, T* to,
                             const T* data = nullptr) {
  return {scores.size(0), scores.size(1), columns, order, columns, 1, from, to, data};
}

struct Cuda {
  static Tensor order(const Tensor& scores) { return sorted_order_cuda(scores); }

  template <class T>
  static void forward(const Tensor& scores, const Tensor& values, const Tensor& order, double tau, bool hard,
                      const Tensor& out) {
    const int64_t columns = values.size(2), size = values.numel();
    T* right = nullptr;
    CudaBandRun<T> band(kOp, scores, order, tau, false, [&](Carver& c, CudaBandArgs<T>& args) {
      right = c.take<T>(size);
      args.product = c.take<T>(hard ? 0 : size);
    });
    band.args.planes = columns;
    band.args.right = right;
    const T* data = checked_data<T>(kOp, "values", values, scores.numel() * columns);
    const auto gather = column_move<T>(scores, columns, band.args.order, data, right, band.args.scores);
    const auto scatter =
        column_move<T>(scores, columns, nullptr, hard ? right : band.args.product, out.mutable_data_ptr<T>());
    launch_on(kOp, scores, [&](void* stream) {
      if (hard)
        return first_error({band_gather_planes_cuda(gather, stream), band_scatter_planes_cuda(scatter, stream)});
      return first_error({band.gather_scores(stream), band_gather_planes_cuda(gather, stream),
                          band_row_sums_cuda(band.args, stream), band_rows_cuda(band.args, stream),
                          band_scatter_planes_cuda(scatter, stream)});
    });
  }

  template <class T>
  static void backward(const Tensor& grad, const Tensor& scores, const Tensor& values, const Tensor& order, double tau,
                       bool hard, const Tensor& grad_scores, const Tensor& grad_values) {
    const int64_t columns = values.size(2), size = values.numel();
    T *right = nullptr, *left = nullptr;
    CudaBandRun<T> band(kOp, scores, order, tau, true, [&](Carver& c, CudaBandArgs<T>& args) {
      right = c.take<T>(size);
      left = c.take<T>(size);
      args.sum = c.take<T>(hard ? 0 : size);
    });
    band.args.planes = columns;
    band.args.right = right;
    band.args.left = left;
    band.args.grad_scores = grad_scores.mutable_data_ptr<T>();
    const T* data = checked_data<T>(kOp, "values", values, scores.numel() * columns);
    const T* grad_data = checked_data<T>(kOp, "grad", grad, size);
    const int64_t* sorted = band.args.order;
    const auto gather_right = column_move<T>(scores, columns, sorted, data, right);
    const auto gather_left = column_move<T>(scores, columns, nullptr, grad_data, left);
    const auto scatter = column_move<T>(scores, columns, sorted, hard ? left : band.args.sum,
                                        grad_values.mutable_data_ptr<T>(), band.args.scores);
    launch_on(kOp, scores, [&](void* stream) {
      return first_error({band.gather_scores(stream), band_gather_planes_cuda(gather_right, stream),
                          band_gather_planes_cuda(gather_left, stream), band_center_cuda(band.args, stream),
                          band_moments_cuda(band.args, stream), band_scores_gradient_cuda(band.args, stream),
                          hard ? 0 : band_columns_cuda(band.args, stream), band_scatter_planes_cuda(scatter, stream)});
    });
  }
};

Tensor like_columns(const Tensor& t) { return new_tensor(t, {t.size(0), t.size(1), t.size(2)}); }

template <class Backend>
std::tuple<Tensor, Tensor> relaxed_sort_matmul(const Tensor& scores, const Tensor& values, double tau, bool hard) {
  check_score_rows(kOp, "scores", scores);
  DRPM_CHECK(values.dim() == 3 && values.size(0) == scores.size(0) && values.size(1) == scores.size(1), kOp, "values",
             "have the rows of scores", values.dim());
  Tensor order = Backend::order(scores);
  Tensor out = like_columns(values);
  by_dtype(scores,
           [&](auto zero) { Backend::template forward<decltype(zero)>(scores, values, order, tau, hard, out); });
  return {out, order};
}

template <class Backend>
std::tuple<Tensor, Tensor> relaxed_sort_matmul_backward(const Tensor& grad, const Tensor& scores, const Tensor& values,
                                                        const Tensor& order, double tau, bool hard) {
  check_score_rows(kOp, "scores", scores);
  Tensor grad_scores = new_tensor(scores, {scores.size(0), scores.size(1)});
  Tensor grad_values = like_columns(values);
  by_dtype(scores, [&](auto zero) {
    Backend::template backward<decltype(zero)>(grad, scores, values, order, tau, hard, grad_scores, grad_values);
  });
  return {grad_scores, grad_values};
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("relaxed_sort_matmul", TORCH_BOX(&drpm::relaxed_sort_matmul<Backend>));
  m.impl("relaxed_sort_matmul_backward", TORCH_BOX(&drpm::relaxed_sort_matmul_backward<Backend>));
}
