#include <algorithm>
#include <tuple>

#include "glue/register.h"
#include "glue/scratch.h"
#include "partition_marginals/boundary_law.h"
#include "partition_marginals/node_scratch.h"
#include "partition_marginals/partition_marginals.h"
#include "partition_marginals/partition_marginals_math.h"
#include "sort/sorted_order.h"

namespace drpm {
namespace {

constexpr const char* kOp = "partition_marginals";

// The scratch of args.rows rows at a time, except for `block`.
template <class T>
void take_rows(Carver& c, PartitionMarginalsArgs<T>& args, bool backward) {
  const int64_t rows = args.rows, n = args.n, size = args.num_subsets * n;
  args.top = c.take<double>(rows);
  args.score = c.take<double>(rows * n);
  args.law = c.take<double>(rows * DRPM_ISA::boundary_law_doubles(n, args.num_subsets));
  args.density = c.take<double>(rows * (kMarginalBins + 2));
  args.map = c.take<MarginalMap>(rows);
  args.inside = c.take<double>(rows * size);
  args.partial = c.take<double>(rows * args.slots * size);
  if (!backward) return;
  args.sorted_grad = c.take<double>(rows * size);
  args.partial_score = c.take<double>(rows * args.slots * n);
  args.grad_inside = c.take<double>(rows * size);
}

// f(args of up to args.rows rows) for one wave of the `rows` rows after the other, until it returns an error.
template <class T, class F>
int for_waves(const PartitionMarginalsArgs<T>& args, int64_t rows, const F& f) {
  const int64_t n = args.n, subsets = args.num_subsets;
  int error = 0;
  for (int64_t row = 0; row < rows && error == 0; row += args.rows) {
    PartitionMarginalsArgs<T> here = args;
    here.rows = std::min(args.rows, rows - row);
    here.log_scores += row * n;
    here.order += row * n;
    here.log_omega += row * subsets;
    here.m += row * subsets;
    if (here.marginals != nullptr) here.marginals += row * subsets * n;
    if (here.grad != nullptr) {
      here.grad += row * subsets * n;
      here.grad_log_omega += row * subsets;
      here.grad_log_scores += row * n;
    }
    error = f(here);
  }
  return error;
}

struct Cpu {
  static Tensor order(const Tensor& log_scores) { return sorted_order_cpu(kOp, log_scores); }

  template <class T>
  static void run(PartitionMarginalsArgs<T> args, int64_t rows, const Tensor& like) {
    constexpr int64_t kWaveDoubles = int64_t{1} << 23;  // partial sums held at a time
    const int64_t n = args.n, subsets = args.num_subsets;
    const bool backward = args.grad != nullptr;
    args.slots = kMarginalSlots;
    args.rows = std::min(rows, std::max<int64_t>(1, kWaveDoubles / (kMarginalSlots * subsets * n)));
    const Tensor memory = carve(like, [&](Carver& c) { take_rows(c, args, backward); });
    const auto by_row = [&](const auto& here, int64_t cost, auto kernel) {
      for_rows(here.rows, cost, [&](int64_t begin, int64_t end) { kernel(here, begin, end); });
    };
    const auto by_node = [&](const MarginalRows& here, void (*kernel)(const MarginalRows&, int64_t, int64_t)) {
      for_rows(here.rows * here.slots, 10 * n * (8 + n / 8) * (subsets + 4), [&](int64_t begin, int64_t end) {
        MarginalRows task = here;
        const TaskScratch scratch(
            [&](Carver& c) { task.block = c.take<double>(DRPM_ISA::node_scratch_doubles(n, subsets)); });
        kernel(task, begin, end);
      });
    };
    using Kernel = void (*)(const PartitionMarginalsArgs<T>&, int64_t, int64_t);
    const int64_t law_cost = subsets * n * (n / 4 + 20), sum_cost = 2 * kMarginalSlots * subsets * n;
    for_waves(args, rows, [&](const PartitionMarginalsArgs<T>& here) {
      by_row(here, law_cost + 400 * n, static_cast<Kernel>(marginal_windows));
      if (backward) {
        by_row(here, 2 * subsets * n, static_cast<Kernel>(marginal_sort_gradient));
        by_node(here, marginal_nodes_backward);
        by_row(here, law_cost + sum_cost, static_cast<Kernel>(marginal_windows_backward));
      } else {
        by_node(here, marginal_nodes);
        by_row(here, sum_cost, static_cast<Kernel>(marginal_totals));
      }
      return 0;
    });
  }
};

struct Cuda {
  static Tensor order(const Tensor& log_scores) { return sorted_order_cuda(log_scores); }

  // Rows at a time, and slots of nodes for each: enough blocks to fill a device, within the memory.
  static void choose_wave(MarginalRows* args, int64_t rows, bool backward) {
    constexpr int64_t kWaveDoubles = int64_t{1} << 24;  // 128 MB of scratch at a time
    constexpr int64_t kWantedBlocks = 2112, kMostSlots = 256, kLeastSlots = kMarginalSlots;
    const int64_t n = args->n;
    const int64_t item = DRPM_ISA::marginal_block_scratch(n, backward) + (args->num_subsets + 1) * n;
    const int64_t items = std::max(kLeastSlots, std::min(kWantedBlocks, kWaveDoubles / item));
    const int64_t most = std::clamp(n / 2, kLeastSlots, kMostSlots);  // few elements: nodes are not worth a block
    args->slots = std::clamp(items / rows, kLeastSlots, most);
    args->rows = std::min(rows, std::max<int64_t>(1, kWaveDoubles / (args->slots * item)));
  }

  template <class T>
  static void run(PartitionMarginalsArgs<T> args, int64_t rows, const Tensor& like) {
    const bool backward = args.grad != nullptr;
    choose_wave(&args, rows, backward);
    const Tensor memory = carve(like, [&](Carver& c) {
      take_rows(c, args, backward);
      args.block = c.take<double>(args.rows * args.slots * DRPM_ISA::marginal_block_scratch(args.n, backward));
    });
    launch_on(kOp, like, [&](void* stream) {
      return for_waves(args, rows, [&](const PartitionMarginalsArgs<T>& here) {
        return backward ? partition_marginals_backward_cuda(here, stream) : partition_marginals_cuda(here, stream);
      });
    });
  }
};

template <class T>
PartitionMarginalsArgs<T> checked_args(const Tensor& log_omega, const Tensor& m, const Tensor& log_scores,
                                       const Tensor& order) {
  const int64_t rows = log_scores.size(0);
  PartitionMarginalsArgs<T> args{};
  args.n = log_scores.size(1);
  args.num_subsets = log_omega.size(1);
  args.rule = marginal_rule<T>();
  args.log_scores = checked_data<T>(kOp, "log_scores", log_scores, rows * args.n);
  args.order = order.const_data_ptr<int64_t>();
  args.log_omega = checked_data<T>(kOp, "log_omega", log_omega, rows * args.num_subsets);
  args.m = checked_data<int64_t>(kOp, "m", m, rows * args.num_subsets);
  return args;
}

template <class Backend>
Tensor partition_marginals(const Tensor& log_omega, const Tensor& m, const Tensor& log_scores) {
  check_score_rows(kOp, "log_scores", log_scores);
  Tensor out = new_tensor(log_scores, {log_scores.size(0), log_omega.size(1), log_scores.size(1)});
  if (out.numel() == 0) return out;
  const Tensor order = Backend::order(log_scores);
  by_dtype(log_scores, [&](auto zero) {
    using T = decltype(zero);
    PartitionMarginalsArgs<T> args = checked_args<T>(log_omega, m, log_scores, order);
    args.marginals = out.mutable_data_ptr<T>();
    Backend::run(args, log_scores.size(0), log_scores);
  });
  return out;
}

template <class Backend>
std::tuple<Tensor, Tensor> partition_marginals_backward(const Tensor& grad, const Tensor& log_omega, const Tensor& m,
                                                        const Tensor& log_scores) {
  check_score_rows(kOp, "log_scores", log_scores);
  Tensor grad_omega = new_tensor(log_omega, {log_omega.size(0), log_omega.size(1)});
  Tensor grad_scores = new_tensor(log_scores, {log_scores.size(0), log_scores.size(1)});
  if (grad.numel() == 0) {
    torch::stable::zero_(grad_omega);
    torch::stable::zero_(grad_scores);
    return {grad_omega, grad_scores};
  }
  const Tensor order = Backend::order(log_scores);
  by_dtype(log_scores, [&](auto zero) {
    using T = decltype(zero);
    PartitionMarginalsArgs<T> args = checked_args<T>(log_omega, m, log_scores, order);
    args.grad = checked_data<T>(kOp, "grad", grad, log_scores.numel() * log_omega.size(1));
    args.grad_log_omega = grad_omega.mutable_data_ptr<T>();
    args.grad_log_scores = grad_scores.mutable_data_ptr<T>();
    Backend::run(args, log_scores.size(0), log_scores);
  });
  return {grad_omega, grad_scores};
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("partition_marginals", TORCH_BOX(&drpm::partition_marginals<Backend>));
  m.impl("partition_marginals_backward", TORCH_BOX(&drpm::partition_marginals_backward<Backend>));
}
