#include <optional>
#include <tuple>

#include "glue/register.h"
#include "glue/scratch.h"
#include "plackett_luce_log_prob/plackett_luce_log_prob.h"

namespace drpm {
namespace {

constexpr const char* kOp = "plackett_luce_log_prob";

struct Cpu {
  template <class T>
  static void run(const PlackettLuceArgs<T>& args, int64_t rows, const Tensor&) {
    for_rows(rows, 40 * args.n, [&](int64_t begin, int64_t end) {
      PlackettLuceArgs<T> task = args;
      const TaskScratch scratch([&](Carver& c) {
        task.log_suffix_sum = c.take<double>(args.n);
        task.ranked = c.take<double>(args.n);
      });
      plackett_luce_rows(task, begin, end);
    });
  }
};

struct Cuda {
  template <class T>
  static void run(PlackettLuceArgs<T> args, int64_t rows, const Tensor& like) {
    const Tensor scratch =
        carve(like, [&](Carver& c) { args.log_suffix_sum = c.take<double>(plackett_luce_cuda_blocks(rows) * args.n); });
    launch_on(kOp, like, [&](void* stream) { return plackett_luce_cuda(args, rows, stream); });
  }
};

template <class Backend>
std::tuple<Tensor, Tensor> plackett_luce_log_prob(const Tensor& log_scores, const std::optional<Tensor>& order,
                                                  bool with_gradient) {
  check_float(kOp, "log_scores", log_scores);
  const int64_t rows = log_scores.size(0), n = log_scores.size(1);
  Tensor log_prob = new_tensor(log_scores, {rows});
  Tensor grad = new_tensor(log_scores, {rows, with_gradient ? n : 0});
  by_dtype(log_scores, [&](auto zero) {
    using T = decltype(zero);
    PlackettLuceArgs<T> args{};
    args.log_scores = checked_data<T>(kOp, "log_scores", log_scores, rows * n);
    if (order.has_value()) args.order = checked_data<int64_t>(kOp, "order", *order, rows * n);
    args.log_prob = log_prob.mutable_data_ptr<T>();
    if (grad.numel() > 0) args.grad_log_scores = grad.mutable_data_ptr<T>();
    args.n = n;
    Backend::run(args, rows, log_scores);
  });
  return {log_prob, grad};
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) { m.impl("plackett_luce_log_prob", TORCH_BOX(&drpm::plackett_luce_log_prob<Backend>)); }
