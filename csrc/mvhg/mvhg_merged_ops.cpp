#include <memory>
#include <tuple>

#include "common/tensors.h"
#include "mvhg/mvhg_merged.h"
#include "mvhg/task_memory.h"

namespace drpm {
namespace {

constexpr const char* kSample = "mvhg_sample";
constexpr const char* kLogProb = "mvhg_log_prob";

constexpr int64_t kScratchPadding = 256;  // whole noise tiles and packs beyond the last outcome

struct Sizing {
  int64_t max_m, max_total;
  int64_t width;  // of one class's outcomes, padded
};

Sizing sizing(const char* op, const MergedCounts& counts, int64_t m_rows, int64_t n_rows) {
  Sizing out{0, 0, 0};
  for (int64_t row = 0; row < m_rows; ++row) {
    int64_t total = 0;
    for (int64_t k = 0; k < counts.classes; ++k) {
      const int64_t m = counts.m[row * counts.classes + k];
      if (m < 0) break;  // the kernel answers with NaN
      out.max_m = std::max(out.max_m, m);
      total += m;
    }
    out.max_total = std::max(out.max_total, total);
  }
  int64_t max_n = 0;
  for (int64_t row = 0; row < n_rows; ++row) max_n = std::max(max_n, std::min(counts.n[row], out.max_total));
  out.width = std::min(out.max_m, max_n) + 2 + kScratchPadding;
  check_task_memory(op, 2.0 * sizeof(double) * static_cast<double>(out.width), max_n, counts.classes);
  return out;
}

MergedCounts make_counts(const char* op, const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor* order,
                         int64_t rows) {
  DRPM_CHECK(log_omega.dim() == 2, op, "log_omega", "have 2 dimensions", log_omega.dim());
  const int64_t batch = log_omega.size(0), classes = log_omega.size(1);
  DRPM_CHECK(classes >= 1, op, "log_omega", "have at least one class", classes);
  const bool shared_m = m.size(0) == 1, shared_n = n.numel() == 1;
  MergedCounts counts{checked_data<int64_t>(op, "m", m, (shared_m ? 1 : batch) * classes),
                      checked_data<int64_t>(op, "n", n, shared_n ? 1 : batch),
                      nullptr,
                      batch,
                      classes,
                      shared_m ? 0 : classes,
                      shared_n ? 0 : 1,
                      0};
  if (order != nullptr && order->numel() > 0) {
    const bool shared = order->size(0) == 1;
    counts.order = checked_data<int64_t>(op, "class_order", *order, (shared ? 1 : rows) * classes);
    counts.order_stride = shared ? 0 : classes;
  }
  return counts;
}

// Outcomes of one class that a row looks at, roughly: the windows grow with the square root of the counts.
int64_t typical_window(int64_t max_m) {
  int64_t root = 1;
  while (root * root < max_m) ++root;
  return std::min(max_m + 1, 16 + 8 * root);
}

// Uninitialised memory of one task.
template <class T>
std::unique_ptr<T[]> scratch(int64_t count) {
  return std::unique_ptr<T[]>(new T[static_cast<size_t>(count)]);
}

template <class T>
void run_sample(const MergedCounts& counts, const Sizing& size, const Tensor& log_omega, const Tensor& seed, double tau,
                int64_t rows, bool hard, bool noise, const Tensor& sizes, const Tensor* statistics) {
  MvhgSampleMergedArgs<T> args{counts,
                               checked_data<T>(kSample, "log_omega", log_omega, counts.batch * counts.classes),
                               checked_data<int64_t>(kSample, "seed", seed, 1),
                               sizes.mutable_data_ptr<T>(),
                               statistics == nullptr ? nullptr : statistics->mutable_data_ptr<double>(),
                               tau,
                               hard,
                               noise,
                               log_factorial_table(size.max_total + 1),
                               nullptr,
                               nullptr,
                               size.width};
  for_rows(rows, 20 * counts.classes * typical_window(size.max_m), [&](int64_t begin, int64_t end) {
    const auto outcomes = scratch<T>(2 * args.width);
    const auto classes = scratch<double>(2 * counts.classes);
    MvhgSampleMergedArgs<T> local = args;
    local.outcomes = outcomes.get();
    local.classes = classes.get();
    mvhg_sample_merged_rows(local, begin, end);
  });
}

std::tuple<Tensor, Tensor> mvhg_sample_merged(const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                              const Tensor& seed, const Tensor& class_order, double tau,
                                              int64_t samples, bool hard, bool noise, bool with_statistics) {
  check_float(kSample, "log_omega", log_omega);
  const int64_t rows = samples * log_omega.size(0), classes = log_omega.size(1);
  const MergedCounts counts = make_counts(kSample, log_omega, m, n, &class_order, rows);
  const Sizing size = sizing(kSample, counts, m.size(0), n.numel());
  Tensor sizes = torch::stable::new_empty(log_omega, {rows, classes});
  Tensor statistics = torch::stable::new_empty(log_omega, {with_statistics ? rows : 0, classes, 2}, ScalarType::Double);
  const Tensor* wanted = with_statistics ? &statistics : nullptr;
  if (is_float64(log_omega))
    run_sample<double>(counts, size, log_omega, seed, tau, rows, hard, noise, sizes, wanted);
  else
    run_sample<float>(counts, size, log_omega, seed, tau, rows, hard, noise, sizes, wanted);
  return {sizes, statistics};
}

template <class T>
void run_sample_backward(const MergedCounts& counts, int64_t rows, const Tensor& grad_sizes, const Tensor& log_omega,
                         const Tensor& statistics, const Tensor& grad) {
  const MvhgSampleMergedBackwardArgs<T> args{
      counts,
      checked_data<T>(kSample, "grad", grad_sizes, rows * counts.classes),
      checked_data<T>(kSample, "log_omega", log_omega, counts.batch * counts.classes),
      checked_data<double>(kSample, "statistics", statistics, rows * counts.classes * 2),
      grad.mutable_data_ptr<T>(),
      nullptr};
  for_rows(rows, 100 * counts.classes, [&](int64_t begin, int64_t end) {
    const auto classes = scratch<double>(3 * counts.classes);
    MvhgSampleMergedBackwardArgs<T> local = args;
    local.classes = classes.get();
    mvhg_sample_merged_backward_rows(local, begin, end);
  });
}

Tensor mvhg_sample_merged_backward(const Tensor& grad_sizes, const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                   const Tensor& class_order, const Tensor& statistics) {
  check_float(kSample, "log_omega", log_omega);
  const int64_t rows = grad_sizes.size(0);
  const MergedCounts counts = make_counts(kSample, log_omega, m, n, &class_order, rows);
  Tensor grad = torch::stable::new_empty(log_omega, {rows, counts.classes});
  if (is_float64(log_omega))
    run_sample_backward<double>(counts, rows, grad_sizes, log_omega, statistics, grad);
  else
    run_sample_backward<float>(counts, rows, grad_sizes, log_omega, statistics, grad);
  return grad;
}

template <class T>
void run_log_prob(const MergedCounts& counts, const Sizing& size, const Tensor& sizes, const Tensor& log_omega,
                  const Tensor& log_prob, const Tensor& statistics) {
  const int64_t elements = counts.batch * counts.classes;
  MvhgLogProbMergedArgs<T> args{counts,
                                checked_data<T>(kLogProb, "sizes", sizes, elements),
                                checked_data<T>(kLogProb, "log_omega", log_omega, elements),
                                log_prob.mutable_data_ptr<T>(),
                                statistics.mutable_data_ptr<double>(),
                                log_factorial_table(size.max_total + 1),
                                nullptr,
                                nullptr,
                                size.width};
  for_rows(counts.batch, 10 * counts.classes * typical_window(size.max_m), [&](int64_t begin, int64_t end) {
    const auto outcomes = scratch<double>(2 * args.width);
    const auto classes = scratch<double>(2 * counts.classes);
    MvhgLogProbMergedArgs<T> local = args;
    local.outcomes = outcomes.get();
    local.classes = classes.get();
    mvhg_log_prob_merged_rows(local, begin, end);
  });
}

std::tuple<Tensor, Tensor> mvhg_log_prob_merged(const Tensor& sizes, const Tensor& log_omega, const Tensor& m,
                                                const Tensor& n) {
  check_float(kLogProb, "log_omega", log_omega);
  const MergedCounts counts = make_counts(kLogProb, log_omega, m, n, nullptr, log_omega.size(0));
  const Sizing size = sizing(kLogProb, counts, m.size(0), n.numel());
  Tensor log_prob = torch::stable::new_empty(log_omega, {counts.batch});
  Tensor statistics = torch::stable::new_empty(log_omega, {counts.batch, counts.classes, 2}, ScalarType::Double);
  if (is_float64(log_omega))
    run_log_prob<double>(counts, size, sizes, log_omega, log_prob, statistics);
  else
    run_log_prob<float>(counts, size, sizes, log_omega, log_prob, statistics);
  return {log_prob, statistics};
}

template <class T>
void run_log_prob_backward(const MergedCounts& counts, const Tensor& grad_log_prob, const Tensor& sizes,
                           const Tensor& log_omega, const Tensor& log_prob, const Tensor& statistics,
                           const Tensor& grad_sizes, const Tensor& grad_log_omega) {
  const int64_t elements = counts.batch * counts.classes;
  const MvhgLogProbMergedBackwardArgs<T> args{counts,
                                              checked_data<T>(kLogProb, "grad", grad_log_prob, counts.batch),
                                              checked_data<T>(kLogProb, "sizes", sizes, elements),
                                              checked_data<T>(kLogProb, "log_omega", log_omega, elements),
                                              checked_data<T>(kLogProb, "log_prob", log_prob, counts.batch),
                                              checked_data<double>(kLogProb, "statistics", statistics, 2 * elements),
                                              grad_sizes.mutable_data_ptr<T>(),
                                              grad_log_omega.mutable_data_ptr<T>(),
                                              nullptr};
  for_rows(counts.batch, 200 * counts.classes, [&](int64_t begin, int64_t end) {
    const auto classes = scratch<double>(3 * counts.classes);
    MvhgLogProbMergedBackwardArgs<T> local = args;
    local.classes = classes.get();
    mvhg_log_prob_merged_backward_rows(local, begin, end);
  });
}

std::tuple<Tensor, Tensor> mvhg_log_prob_merged_backward(const Tensor& grad_log_prob, const Tensor& sizes,
                                                         const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                                         const Tensor& log_prob, const Tensor& statistics) {
  check_float(kLogProb, "log_omega", log_omega);
  const MergedCounts counts = make_counts(kLogProb, log_omega, m, n, nullptr, log_omega.size(0));
  Tensor grad_sizes = torch::stable::new_empty(log_omega, {counts.batch, counts.classes});
  Tensor grad_log_omega = torch::stable::new_empty(log_omega, {counts.batch, counts.classes});
  if (is_float64(log_omega))
    run_log_prob_backward<double>(counts, grad_log_prob, sizes, log_omega, log_prob, statistics, grad_sizes,
                                  grad_log_omega);
  else
    run_log_prob_backward<float>(counts, grad_log_prob, sizes, log_omega, log_prob, statistics, grad_sizes,
                                 grad_log_omega);
  return {grad_sizes, grad_log_omega};
}

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) {
  m.impl("mvhg_sample_merged", TORCH_BOX(&drpm::mvhg_sample_merged));
  m.impl("mvhg_sample_merged_backward", TORCH_BOX(&drpm::mvhg_sample_merged_backward));
  m.impl("mvhg_log_prob_merged", TORCH_BOX(&drpm::mvhg_log_prob_merged));
  m.impl("mvhg_log_prob_merged_backward", TORCH_BOX(&drpm::mvhg_log_prob_merged_backward));
}
