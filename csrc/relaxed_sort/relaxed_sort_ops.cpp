#include <tuple>

#include "band/band_run.h"
#include "glue/register.h"
#include "relaxed_sort/relaxed_sort.h"
#include "sort/sorted_order.h"

namespace drpm {
namespace {

constexpr const char* kOp = "relaxed_sort";

struct Cpu {
  static Tensor order(const Tensor& scores) { return sorted_order_cpu(kOp, scores); }

  template <class T>
  static void forward(const Tensor& scores, const Tensor& order, double tau, bool hard, const Tensor& out) {
    RelaxedSortArgs<T> args{};
    args.band = band_args<T>(kOp, scores, order, tau);
    args.band.every_row = true;
    args.permutation = out.mutable_data_ptr<T>();
    const int64_t rows = args.band.rows, n = args.band.n;
    if (hard) {
      for_rows(rows, n * n, [&](int64_t begin, int64_t end) { relaxed_sort_hard_rows(args, begin, end); });
      return;
    }
    run_band(
        args, 0, [](Carver&, int64_t) {}, relaxed_sort_forward_tasks, [](int64_t) {}, relaxed_sort_forward_chunks,
        [](int64_t) {});
  }

  template <class T>
  static void backward(const Tensor& grad, const Tensor& scores, const Tensor& order, double tau, const Tensor& out) {
    RelaxedSortArgs<T> args{};
    args.band = band_args<T>(kOp, scores, order, tau);
    args.band.every_row = true;
    args.band.grad_scores = out.mutable_data_ptr<T>();
    args.grad = checked_data<T>(kOp, "grad", grad, scores.numel() * scores.size(1));
    run_band(
        args, 2, [](Carver&, int64_t) {}, relaxed_sort_backward_tasks, [](int64_t) {}, relaxed_sort_backward_chunks,
        [&](int64_t slots) { for_items(slots, 16 * args.band.n, args, relaxed_sort_backward_slots); });
  }
};

struct Cuda {
  static Tensor order(const Tensor& scores) { return sorted_order_cuda(scores); }

  template <class T>
  static void forward(const Tensor& scores, const Tensor& order, double tau, bool hard, const Tensor& out) {
    CudaBandRun<T> band(kOp, scores, order, tau, false, [](Carver&, CudaBandArgs<T>&) {});
    band.args.permutation = out.mutable_data_ptr<T>();
    launch_on(kOp, scores, [&](void* stream) {
      if (hard) return band_hard_cuda(band.args, stream);
      return first_error({band.gather_scores(stream), band_dense_cuda(band.args, stream)});
    });
  }

  template <class T>
  static void backward(const Tensor& grad, const Tensor& scores, const Tensor& order, double tau, const Tensor& out) {
    CudaBandRun<T> band(kOp, scores, order, tau, true, [](Carver&, CudaBandArgs<T>&) {});
    band.args.grad = checked_data<T>(kOp, "grad", grad, scores.numel() * scores.size(1));
    band.args.grad_scores = out.mutable_data_ptr<T>();
    launch_on(kOp, scores, [&](void* stream) {
      return first_error({band.gather_scores(stream), band_dense_center_cuda(band.args, stream),
                          band_dense_moments_cuda(band.args, stream), band_scores_gradient_cuda(band.args, stream)});
    });
  }
};

template <class Backend>
std::tuple<Tensor, Tensor> relaxed_sort(const Tensor& scores, double tau, bool hard) {
  check_score_rows(kOp, "scores", scores);
  const int64_t rows = scores.size(0), n = scores.size(1);
  Tensor order = Backend::order(scores);
  Tensor out = new_tensor(scores, {rows, n, n});
  by_dtype(scores, [&](auto zero) { Backend::template forward<decltype(zero)>(scores, order, tau, hard, out); });
  return {out, order};
}

template <class Backend>
Tensor relaxed_sort_backward(const Tensor& grad, const Tensor& scores, const Tensor& order, double tau) {
  check_score_rows(kOp, "scores", scores);
  Tensor out = new_tensor(scores, {scores.size(0), scores.size(1)});
  by_dtype(scores, [&](auto zero) { Backend::template backward<decltype(zero)>(grad, scores, order, tau, out); });
  return out;
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("relaxed_sort", TORCH_BOX(&drpm::relaxed_sort<Backend>));
  m.impl("relaxed_sort_backward", TORCH_BOX(&drpm::relaxed_sort_backward<Backend>));
}
