// mvhg_sample by exact conditionals as functions of C++, for the ops that draw sizes on the way.
#pragma once

#include "glue/sum_rows.h"
#include "mvhg/sizes_ops.h"
#include "mvhg/tables/exact.h"
#include "mvhg/tables/tables_ops.h"

namespace drpm {

struct ExactCpu {
  template <class T>
  static void sample(MvhgSampleExactArgs<T> args, const Tensor&, int64_t) {
    MvhgExactArgs<T>& common = args.common;
    const TableBounds bounds = checked_bounds(kMvhgSample, common);
    common.log_factorials = log_factorial_table(bounds.counts.max_m + 1);
    const int64_t cost = table_cost(bounds, common.counts.classes);
    for_rows(common.counts.batch * common.samples, cost, [&](int64_t begin, int64_t end) {
      MvhgSampleExactArgs<T> task = args;
      const TaskScratch memory([&](Carver& c) { place_tables(&c, bounds, false, &task.common); });
      mvhg_sample_exact_rows(task, begin, end);
    });
  }

  template <class T>
  static void sample_backward(MvhgSampleExactBackwardArgs<T> args, const Tensor&, int64_t) {
    MvhgExactArgs<T>& common = args.common;
    const TableBounds bounds = checked_bounds(kMvhgSample, common);
    common.log_factorials = log_factorial_table(bounds.counts.max_m + 1);
    const int64_t cost = reverse_table_cost(bounds, common.counts.classes);
    for_rows(common.counts.batch * args.chunks, cost, [&](int64_t begin, int64_t end) {
      MvhgSampleExactBackwardArgs<T> task = args;
      const TaskScratch memory([&](Carver& c) { place_tables(&c, bounds, true, &task.common); });
      mvhg_sample_exact_backward_groups(task, begin, end);
    });
  }
};

struct ExactCuda {
  template <class T>
  static void sample(const MvhgSampleExactArgs<T>& args, const Tensor& like, int64_t largest_n) {
    MvhgSampleExactCuda<T> call{args, {}, nullptr, 0, 0, largest_n < 0 ? kLargestUnknownN : largest_n};
    const MvhgExactArgs<T>& common = args.common;
    const int64_t batch = common.counts.batch;
    if (batch * common.samples == 0) return;
    call.chunks = exact_chunks(batch, common.samples, common.counts.order_stride != 0);
    call.group = (common.samples + call.chunks - 1) / call.chunks;
    call.layout = exact_layout_cuda(common, batch * call.chunks, largest_n, false, 0);
    check_layout(call);
    launch_blocks(kMvhgSample, like, &call,
                  [](const auto& c, void* stream) { return mvhg_sample_exact_cuda(c, stream); });
  }

  template <class T>
  static void sample_backward(const MvhgSampleExactBackwardArgs<T>& args, const Tensor& like, int64_t largest_n) {
    MvhgSampleExactBackwardCuda<T> call{args, {}, nullptr, largest_n < 0 ? kLargestUnknownN : largest_n};
    const MvhgCounts& counts = args.common.counts;
    call.layout =
        exact_layout_cuda(args.common, counts.batch * args.chunks, largest_n, true, 2 * args.group * counts.classes);
    check_layout(call);
    launch_blocks(kMvhgSample, like, &call,
                  [](const auto& c, void* stream) { return mvhg_sample_exact_backward_cuda(c, stream); });
  }

 private:
  // What the CPU refuses is refused here, too, as far as the host knows n.
  template <class Call>
  static void check_layout(const Call& call) {
    check_task_memory(kMvhgSample, static_cast<double>(block_bytes(call.layout)), call.largest_n, call.layout.classes,
                      "block");
  }
};

template <class T>
MvhgExactArgs<T> exact_args(const SizesCall& call, bool hard, TableUse use) {
  MvhgExactArgs<T> args{};
  args.counts = call.counts;
  args.samples = call.samples;
  args.log_omega = checked_data<T>(kMvhgSample, "log_omega", call.log_omega, call.log_omega.numel());
  args.seeds = call.seeds;
  args.tau = call.tau;
  args.hard = hard;
  args.noise = call.noise;
  args.use = use;
  return args;
}

// Sizes (R, K) and, where wanted, what their backward needs: (R, K, 3), the last column the hard sizes.
template <class Backend>
void exact_sizes(const SizesCall& call, bool hard, const Tensor& sizes, const Tensor* statistics) {
  const TableUse use = hard && statistics == nullptr ? TableUse::kSample : TableUse::kRelaxedSample;
  by_dtype(call.log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgSampleExactArgs<T> args{exact_args<T>(call, hard, use), sizes.mutable_data_ptr<T>(),
                                      statistics != nullptr ? statistics->mutable_data_ptr<double>() : nullptr};
    Backend::sample(args, call.log_omega, call.largest_n);
  });
}

// The gradient of log_omega (B, K), from that of the sizes (R, K).
template <class Backend>
Tensor exact_sizes_backward(const SizesCall& call, const Tensor& grad_sizes, const Tensor& statistics) {
  const int64_t batch = call.log_omega.size(0), classes = call.log_omega.size(1);
  const int64_t chunks = (call.samples + kSamplesPerGroup - 1) / kSamplesPerGroup;
  const int64_t elements = call.samples * batch * classes;
  const Tensor by_group = new_tensor(call.log_omega, {batch, chunks, classes}, ScalarType::Double);
  by_dtype(call.log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgSampleExactBackwardArgs<T> args{exact_args<T>(call, true, TableUse::kRelaxedSample),
                                              checked_data<T>(kMvhgSample, "grad", grad_sizes, elements),
                                              checked_data<double>(kMvhgSample, "statistics", statistics, 3 * elements),
                                              by_group.mutable_data_ptr<double>(),
                                              chunks,
                                              kSamplesPerGroup};
    Backend::sample_backward(args, call.log_omega, call.largest_n);
  });
  return sum_rows(by_group, batch, chunks, classes, classes, chunks * classes, call.log_omega);
}

}  // namespace drpm
