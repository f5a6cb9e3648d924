#include "band/band_run.h"
#include "partition/partition.h"
#include "partition/partition_glue.h"

namespace drpm {
namespace {

template <class T>
PartitionArgs<T> common_args(const Tensor& scores, const Tensor& sizes, const Tensor& order, double tau, bool hard,
                             double eps) {
  PartitionArgs<T> args{};
  args.rows = scores.size(0);
  args.n = scores.size(1);
  args.classes = sizes.size(1);
  args.scores = checked_data<T>(kOp, "scores", scores, scores.numel());
  args.sizes = checked_data<T>(kOp, "sizes", sizes, args.rows * args.classes);
  args.order = checked_data<int64_t>(kOp, "order", order, scores.numel());
  args.tau = tau;
  args.eps = eps;
  args.hard = hard;
  return args;
}

template <class T>
void take_partition(Carver& c, PartitionArgs<T>& args, int64_t slots, bool backward) {
  args.boundary = c.take<double>(slots * args.classes);
  args.rest = c.take<double>(slots * args.classes);
  args.cut = c.take<int64_t>(slots * args.classes);
  args.planes = c.take<T>(slots * args.classes * (args.n + kBandPad));
  if (!backward) return;
  args.grad_boundary = c.take<double>(slots * kMaxBandChunks * args.classes);
  args.total = c.take<double>(2 * slots * args.n);
}

template <class T>
void plan(const PartitionArgs<T>& args, int64_t slots) {
  plan_rows(
      slots, args.n, [&](int64_t begin, int64_t end) { partition_gather_segments(args, begin, end); },
      [&](int64_t begin, int64_t end) { partition_scan_segments(args, begin, end); },
      [&](int64_t begin, int64_t end) { partition_plan_segments(args, begin, end); },
      [&](int64_t begin, int64_t end) { partition_plan_slots(args, begin, end); });
}

struct Cpu {
  static Tensor order(const Tensor& scores) { return sorted_order(scores); }

  template <class T>
  static void forward(const Tensor& scores, const Tensor& sizes, const Tensor& order, double tau, bool hard, double eps,
                      const Tensor& assignment, const Tensor& labels) {
    PartitionArgs<T> args = common_args<T>(scores, sizes, order, tau, hard, eps);
    args.assignment = assignment.mutable_data_ptr<T>();
    args.labels = labels.mutable_data_ptr<int64_t>();
    if (hard) {
      for_rows(args.rows * args.classes, args.n,
               [&](int64_t begin, int64_t end) { partition_hard_planes(args, begin, end); });
      return;
    }
    run_band<T>(
        scores, args, args.classes, [&](Carver& c, int64_t slots) { take_partition(c, args, slots, false); },
        [&](int64_t begin, int64_t end) { partition_forward_tasks(args, begin, end); },
        [&](int64_t slots) { plan(args, slots); },
        [&](int64_t begin, int64_t end) { partition_forward_chunks(args, begin, end); },
        [&](int64_t slots) {
          for_items(slots * args.classes,
                    [&](int64_t begin, int64_t end) { partition_forward_planes(args, begin, end); });
        });
  }

  template <class T>
  static void backward(const Tensor& grad, const Tensor& scores, const Tensor& sizes, const Tensor& order, double tau,
                       bool hard, double eps, const Tensor& grad_scores, const Tensor& grad_sizes) {
    PartitionArgs<T> args = common_args<T>(scores, sizes, order, tau, hard, eps);
    args.grad = checked_data<T>(kOp, "grad", grad, args.rows * args.classes * args.n);
    args.grad_scores = grad_scores.mutable_data_ptr<T>();
    args.grad_sizes = grad_sizes.mutable_data_ptr<T>();
    run_band<T>(
        scores, args, 2, [&](Carver& c, int64_t slots) { take_partition(c, args, slots, true); },
        [&](int64_t begin, int64_t end) { partition_backward_tasks(args, begin, end); },
        [&](int64_t slots) {
          plan(args, slots);
          for_items(slots * args.classes,
                    [&](int64_t begin, int64_t end) { partition_gather_planes(args, begin, end); });
        },
        [&](int64_t begin, int64_t end) { partition_backward_chunks(args, begin, end); },
        [&](int64_t slots) {
          for_items(slots, [&](int64_t begin, int64_t end) { partition_backward_slots(args, begin, end); });
        });
  }
};

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) { drpm::implement_partition_ops<drpm::Cpu>(m); }
