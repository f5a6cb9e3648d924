#include <tuple>

#include "glue/register.h"
#include "glue/scratch.h"
#include "mvhg/checked_counts.h"
#include "mvhg/outcome.h"
#include "mvhg/task_memory.h"
#include "mvhg/two_class/merged.h"

namespace drpm {
namespace {

constexpr const char* kSample = "mvhg_sample";
constexpr const char* kLogProb = "mvhg_log_prob";

struct Cpu {
  template <class T>
  static void sample(MvhgSampleMergedArgs<T> args, int64_t rows, const Tensor&) {
    const int64_t cost = 20 * size_outcomes(kSample, &args);
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
    for_rows(rows, 100 * args.counts.classes, [&](int64_t begin, int64_t end) {
      MvhgSampleMergedBackwardArgs<T> task = args;
      const TaskScratch memory([&](Carver& c) { task.classes = c.take<double>(3 * args.counts.classes); });
      mvhg_sample_merged_backward_rows(task, begin, end);
    });
  }

  template <class T>
  static void log_prob(MvhgLogProbMergedArgs<T> args, const Tensor&) {
    const int64_t cost = 10 * size_outcomes(kLogProb, &args);
    for_rows(args.counts.batch, cost, [&](int64_t begin, int64_t end) {
      MvhgLogProbMergedArgs<T> task = args;
      const TaskScratch memory([&](Carver& c) {
        task.outcomes = c.take<double>(2 * args.width);
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
  static int64_t size_outcomes(const char* op, Args* args) {
    const int64_t classes = args->counts.classes;
    const CountBounds bounds = DRPM_ISA::count_bounds(args->counts, INT64_MAX);
    args->width = std::min(bounds.max_m, bounds.max_n) + 2 + kOutcomePadding;
    check_task_memory(op, 2.0 * sizeof(double) * static_cast<double>(args->width), bounds.max_n, classes);
    args->log_factorials = log_factorial_table(bounds.max_total + 1);
    int64_t root = 1;
    while (root * root < bounds.max_m) ++root;
    return classes * std::min(bounds.max_m + 1, 16 + 8 * root);
  }
};

struct Cuda {
  template <class T>
  static void sample(MvhgSampleMergedArgs<T> args, int64_t rows, const Tensor& like) {
    const Tensor memory = class_scratch(like, rows, 2, &args);
    launch_with_log_factorials(kSample, like, kMergedTableSize, &args.log_factorials,
                               [&](void* stream) { return mvhg_sample_merged_cuda(args, rows, stream); });
  }

  template <class T>
  static void sample_backward(MvhgSampleMergedBackwardArgs<T> args, int64_t rows, const Tensor& like) {
    const Tensor memory = class_scratch(like, rows, 3, &args);
    launch_on(kSample, like, [&](void* stream) { return mvhg_sample_merged_backward_cuda(args, rows, stream); });
  }

  template <class T>
  static void log_prob(MvhgLogProbMergedArgs<T> args, const Tensor& like) {
    const int64_t rows = args.counts.batch;
    const Tensor memory = class_scratch(like, rows, 2, &args);
    launch_with_log_factorials(kLogProb, like, kMergedTableSize, &args.log_factorials,
                               [&](void* stream) { return mvhg_log_prob_merged_cuda(args, rows, stream); });
  }

  template <class T>
  static void log_prob_backward(MvhgLogProbMergedBackwardArgs<T> args, const Tensor& like) {
    const int64_t rows = args.counts.batch;
    const Tensor memory = class_scratch(like, rows, 3, &args);
    launch_on(kLogProb, like, [&](void* stream) { return mvhg_log_prob_merged_backward_cuda(args, rows, stream); });
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

template <class Backend>
std::tuple<Tensor, Tensor> mvhg_sample_merged(const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                              const Tensor& seed, const Tensor& class_order, double tau,
                                              int64_t samples, bool hard, bool noise, bool with_statistics) {
  check_float(kSample, "log_omega", log_omega);
  const int64_t rows = samples * log_omega.size(0), classes = log_omega.size(1);
  const MvhgCounts counts = checked_counts(kSample, log_omega, m, n, class_order, rows);
  Tensor sizes = torch::stable::new_empty(log_omega, {rows, classes});
  Tensor statistics = torch::stable::new_empty(log_omega, {with_statistics ? rows : 0, classes, 2}, ScalarType::Double);
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgSampleMergedArgs<T> args{counts,
                                       checked_data<T>(kSample, "log_omega", log_omega, log_omega.numel()),
                                       checked_seeds(kSample, seed, counts.batch),
                                       sizes.mutable_data_ptr<T>(),
                                       with_statistics ? statistics.mutable_data_ptr<double>() : nullptr,
                                       tau,
                                       hard,
                                       noise,
                                       {},
                                       nullptr,
                                       nullptr,
                                       0};
    Backend::sample(args, rows, log_omega);
  });
  return {sizes, statistics};
}

template <class Backend>
Tensor mvhg_sample_merged_backward(const Tensor& grad_sizes, const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                   const Tensor& class_order, const Tensor& statistics) {
  check_float(kSample, "log_omega", log_omega);
  const int64_t rows = grad_sizes.size(0);
  const MvhgCounts counts = checked_counts(kSample, log_omega, m, n, class_order, rows);
  Tensor grad = torch::stable::new_empty(log_omega, {rows, counts.classes});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgSampleMergedBackwardArgs<T> args{
        counts,
        checked_data<T>(kSample, "grad", grad_sizes, rows * counts.classes),
        checked_data<T>(kSample, "log_omega", log_omega, log_omega.numel()),
        checked_data<double>(kSample, "statistics", statistics, rows * counts.classes * 2),
        grad.mutable_data_ptr<T>(),
        nullptr};
    Backend::sample_backward(args, rows, log_omega);
  });
  return grad;
}

template <class Backend>
std::tuple<Tensor, Tensor> mvhg_log_prob_merged(const Tensor& sizes, const Tensor& log_omega, const Tensor& m,
                                                const Tensor& n) {
  check_float(kLogProb, "log_omega", log_omega);
  const MvhgCounts counts = checked_counts(kLogProb, log_omega, m, n);
  const int64_t elements = log_omega.numel();
  Tensor log_prob = torch::stable::new_empty(log_omega, {counts.batch});
  Tensor statistics = torch::stable::new_empty(log_omega, {counts.batch, counts.classes, 2}, ScalarType::Double);
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgLogProbMergedArgs<T> args{counts,
                                        checked_data<T>(kLogProb, "sizes", sizes, elements),
                                        checked_data<T>(kLogProb, "log_omega", log_omega, elements),
                                        log_prob.mutable_data_ptr<T>(),
                                        statistics.mutable_data_ptr<double>(),
                                        {},
                                        nullptr,
                                        nullptr,
                                        0};
    Backend::log_prob(args, log_omega);
  });
  return {log_prob, statistics};
}

template <class Backend>
std::tuple<Tensor, Tensor> mvhg_log_prob_merged_backward(const Tensor& grad_log_prob, const Tensor& sizes,
                                                         const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                                         const Tensor& log_prob, const Tensor& statistics) {
  check_float(kLogProb, "log_omega", log_omega);
  const MvhgCounts counts = checked_counts(kLogProb, log_omega, m, n);
  const int64_t elements = log_omega.numel();
  Tensor grad_sizes = torch::stable::new_empty(log_omega, {counts.batch, counts.classes});
  Tensor grad_log_omega = torch::stable::new_empty(log_omega, {counts.batch, counts.classes});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgLogProbMergedBackwardArgs<T> args{counts,
                                                checked_data<T>(kLogProb, "grad", grad_log_prob, counts.batch),
                                                checked_data<T>(kLogProb, "sizes", sizes, elements),
                                                checked_data<T>(kLogProb, "log_omega", log_omega, elements),
                                                checked_data<T>(kLogProb, "log_prob", log_prob, counts.batch),
                                                checked_data<double>(kLogProb, "statistics", statistics, 2 * elements),
                                                grad_sizes.mutable_data_ptr<T>(),
                                                grad_log_omega.mutable_data_ptr<T>(),
                                                nullptr};
    Backend::log_prob_backward(args, log_omega);
  });
  return {grad_sizes, grad_log_omega};
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("mvhg_sample_merged", TORCH_BOX(&drpm::mvhg_sample_merged<Backend>));
  m.impl("mvhg_sample_merged_backward", TORCH_BOX(&drpm::mvhg_sample_merged_backward<Backend>));
  m.impl("mvhg_log_prob_merged", TORCH_BOX(&drpm::mvhg_log_prob_merged<Backend>));
  m.impl("mvhg_log_prob_merged_backward", TORCH_BOX(&drpm::mvhg_log_prob_merged_backward<Backend>));
}
