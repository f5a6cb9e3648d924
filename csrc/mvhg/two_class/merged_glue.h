// Dispatcher glue of the merged chain, for either backend: arguments are checked and outputs allocated here; `Backend`
// sizes the scratch and runs the kernels.
#pragma once

#include <tuple>

#include "glue/tensors.h"
#include "mvhg/two_class/merged.h"

namespace drpm {
namespace {

constexpr const char* kSample = "mvhg_sample";
constexpr const char* kLogProb = "mvhg_log_prob";

inline MergedCounts merged_counts(const char* op, const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                  const Tensor* order, int64_t rows) {
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

template <class Backend>
std::tuple<Tensor, Tensor> mvhg_sample_merged(const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                              const Tensor& seed, const Tensor& class_order, double tau,
                                              int64_t samples, bool hard, bool noise, bool with_statistics) {
  check_float(kSample, "log_omega", log_omega);
  const int64_t rows = samples * log_omega.size(0), classes = log_omega.size(1);
  const MergedCounts counts = merged_counts(kSample, log_omega, m, n, &class_order, rows);
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
  const MergedCounts counts = merged_counts(kSample, log_omega, m, n, &class_order, rows);
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
  const MergedCounts counts = merged_counts(kLogProb, log_omega, m, n, nullptr, log_omega.size(0));
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
  const MergedCounts counts = merged_counts(kLogProb, log_omega, m, n, nullptr, log_omega.size(0));
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

template <class Backend, class Library>
void implement_merged_ops(Library& m) {
  m.impl("mvhg_sample_merged", TORCH_BOX(&mvhg_sample_merged<Backend>));
  m.impl("mvhg_sample_merged_backward", TORCH_BOX(&mvhg_sample_merged_backward<Backend>));
  m.impl("mvhg_log_prob_merged", TORCH_BOX(&mvhg_log_prob_merged<Backend>));
  m.impl("mvhg_log_prob_merged_backward", TORCH_BOX(&mvhg_log_prob_merged_backward<Backend>));
}

}  // namespace
}  // namespace drpm
