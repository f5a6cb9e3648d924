// Merged conditionals as functions of C++, for the ops that draw sizes on the way.
#pragma once

#include <algorithm>

#include "glue/register.h"
#include "glue/scratch.h"
#include "glue/sum_rows.h"
#include "mvhg/concave_window.h"
#include "mvhg/outcome.h"
#include "mvhg/sizes_ops.h"
#include "mvhg/task_memory.h"
#include "mvhg/two_class/merged.h"

namespace drpm {

constexpr const char* kMvhgLogProb = "mvhg_log_prob";

struct MergedCpu {
  template <class T>
  static void sample(MvhgSampleMergedArgs<T> args, int64_t rows, const Tensor&) {
    const CountBounds bounds = DRPM_ISA::count_bounds(args.counts, INT64_MAX);
    const double cut = DRPM_ISA::outcome_cut<T>(args.noise, !args.hard || args.statistics != nullptr, args.tau);
    args.width = DRPM_ISA::widest_window(std::min(bounds.max_m, bounds.max_n), cut) + kOutcomePadding;
    check_task_memory(kMvhgSample, 2.0 * sizeof(T) * static_cast<double>(args.width), bounds.max_n,
                      args.counts.classes);
    const int64_t cost = 20 * size_outcomes(bounds, &args);
    for_rows(rows, cost, [&](int64_t begin, int64_t end) {
      MvhgSampleMergedArgs<T> task = args;
      const TaskScratch memory([&](Carver& c) {
        task.outcomes = c.take<T>(2 * args.width);
        task.classes = c.take<double>(2 * args.counts.classes);
      });
      mvhg_sample_merged_rows(task, begin, end);
    });
  }

  template <class T>
  static void sample_backward(const MvhgSampleMergedBackwardArgs<T>& args, int64_t rows, const Tensor&) {
    for_rows(rows, 200 * args.counts.classes, [&](int64_t begin, int64_t end) {
      MvhgSampleMergedBackwardArgs<T> task = args;
      const TaskScratch memory([&](Carver& c) { task.classes = c.take<double>(3 * args.counts.classes); });
      mvhg_sample_merged_backward_rows(task, begin, end);
    });
  }

  template <class T>
  static void log_prob(MvhgLogProbMergedArgs<T> args, const Tensor&) {
    const int64_t cost = 10 * size_outcomes(DRPM_ISA::count_bounds(args.counts, INT64_MAX), &args);
    args.log_factorials = log_factorials_below(args.log_factorials, kLargestSummedFactorials);
    for_rows(args.counts.batch, cost, [&](int64_t begin, int64_t end) {
      MvhgLogProbMergedArgs<T> task = args;
      const TaskScratch memory([&](Carver& c) {
        task.outcomes = c.take<double>(2 * kSummedOutcomes);
        task.classes = c.take<double>(2 * args.counts.classes);
      });
      mvhg_log_prob_merged_rows(task, begin, end);
    });
  }

  template <class T>
  static void log_prob_backward(const MvhgLogProbMergedBackwardArgs<T>& args, const Tensor&) {
    for_rows(args.counts.batch, 200 * args.counts.classes, [&](int64_t begin, int64_t end) {
      MvhgLogProbMergedBackwardArgs<T> task = args;
      const TaskScratch memory([&](Carver& c) { task.classes = c.take<double>(3 * args.counts.classes); });
      mvhg_log_prob_merged_backward_rows(task, begin, end);
    });
  }

 private:
  // What depends on how large the counts are; returns the outcomes that a row looks at, roughly: the windows grow with
  // the square root of the counts.
  template <class Args>
  static int64_t size_outcomes(const CountBounds& bounds, Args* args) {
    args->log_factorials = log_factorial_table(bounds.max_total + 1);
    const double root = __builtin_sqrt(static_cast<double>(bounds.max_m));
    return args->counts.classes * std::min(bounds.max_m + 1, 16 + 8 * static_cast<int64_t>(root));
  }
};

struct MergedCuda {
  template <class T>
  static void sample(MvhgSampleMergedArgs<T> args, int64_t rows, const Tensor& like) {
    const Tensor memory = class_scratch(like, rows, 2, &args);
    launch_with_log_factorials(kMvhgSample, like, kMergedTableSize, &args.log_factorials,
                               [&](void* stream) { return mvhg_sample_merged_cuda(args, rows, stream); });
  }

  template <class T>
  static void sample_backward(MvhgSampleMergedBackwardArgs<T> args, int64_t rows, const Tensor& like) {
    const Tensor memory = class_scratch(like, rows, 3, &args);
    launch_on(kMvhgSample, like, [&](void* stream) { return mvhg_sample_merged_backward_cuda(args, rows, stream); });
  }

  template <class T>
  static void log_prob(MvhgLogProbMergedArgs<T> args, const Tensor& like) {
    const int64_t rows = args.counts.batch;
    const Tensor memory = class_scratch(like, rows, 2, &args);
    launch_with_log_factorials(kMvhgLogProb, like, kMergedTableSize, &args.log_factorials,
                               [&](void* stream) { return mvhg_log_prob_merged_cuda(args, rows, stream); });
  }

  template <class T>
  static void log_prob_backward(MvhgLogProbMergedBackwardArgs<T> args, const Tensor& like) {
    const int64_t rows = args.counts.batch;
    const Tensor memory = class_scratch(like, rows, 3, &args);
    launch_on(kMvhgLogProb, like, [&](void* stream) { return mvhg_log_prob_merged_backward_cuda(args, rows, stream); });
  }

 private:
  // `per_class` doubles a class for every row in flight.
  template <class Args>
  static Tensor class_scratch(const Tensor& like, int64_t rows, int64_t per_class, Args* args) {
    return carve(like, [&](Carver& c) {
      args->classes = c.take<double>(merged_rows_in_flight(rows) * per_class * args->counts.classes);
    });
  }
};

// Sizes (R, K) and, where wanted, what their backward needs: (R, K, 2).
template <class Backend>
void merged_sizes(const SizesCall& call, bool hard, const Tensor& sizes, const Tensor* statistics) {
  by_dtype(call.log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgSampleMergedArgs<T> args{
        call.counts,
        checked_data<T>(kMvhgSample, "log_omega", call.log_omega, call.log_omega.numel()),
        call.seeds,
        sizes.mutable_data_ptr<T>(),
        statistics != nullptr ? statistics->mutable_data_ptr<double>() : nullptr,
        call.tau,
        hard,
        call.noise,
        {},
        nullptr,
        nullptr,
        0};
    Backend::sample(args, call.samples * call.counts.batch, call.log_omega);
  });
}

// The gradient of log_omega (B, K), from that of the sizes (R, K).
template <class Backend>
Tensor merged_sizes_backward(const char* op, const MvhgCounts& counts, const Tensor& log_omega,
                             const Tensor& grad_sizes, const Tensor& statistics) {
  const int64_t rows = grad_sizes.size(0), classes = counts.classes;
  const Tensor by_row = new_tensor(log_omega, {rows, classes});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgSampleMergedBackwardArgs<T> args{counts,
                                               checked_data<T>(op, "grad", grad_sizes, rows * classes),
                                               checked_data<T>(op, "log_omega", log_omega, log_omega.numel()),
                                               checked_data<double>(op, "statistics", statistics, rows * classes * 2),
                                               by_row.mutable_data_ptr<T>(),
                                               nullptr};
    Backend::sample_backward(args, rows, log_omega);
  });
  if (rows == counts.batch) return by_row;
  const int64_t samples = counts.batch == 0 ? 0 : rows / counts.batch;
  return sum_rows(by_row, counts.batch, samples, classes, counts.batch * classes, classes, log_omega);
}

}  // namespace drpm
