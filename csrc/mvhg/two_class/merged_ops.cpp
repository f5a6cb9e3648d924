#include "mvhg/two_class/merged_ops.h"

#include <tuple>

namespace drpm {
namespace {

using Cpu = MergedCpu;
using Cuda = MergedCuda;

// `largest_n`: the number drawn where there is no n.
template <class Backend>
std::tuple<Tensor, Tensor> mvhg_sample_merged(const Tensor& log_omega, const std::optional<Tensor>& m,
                                              const std::optional<Tensor>& n, const std::optional<Tensor>& seed,
                                              const std::optional<Tensor>& class_order, double tau, int64_t samples,
                                              bool hard, bool with_statistics, int64_t capacity, int64_t largest_n) {
  check_float(kMvhgSample, "log_omega", log_omega);
  const int64_t rows = samples * log_omega.size(0), classes = log_omega.size(1);
  const CallCounts counts(kMvhgSample, log_omega, m, n, class_order, rows, capacity, largest_n);
  Tensor sizes = new_tensor(log_omega, {rows, classes});
  Tensor statistics = new_tensor(log_omega, {with_statistics ? rows : 0, classes, 2}, ScalarType::Double);
  merged_sizes<Backend>(sizes_call(log_omega, counts, seed, tau, samples, largest_n), hard, sizes,
                        with_statistics ? &statistics : nullptr);
  return {sizes, statistics};
}

template <class Backend>
Tensor mvhg_sample_merged_backward(const Tensor& grad_sizes, const Tensor& log_omega, const std::optional<Tensor>& m,
                                   const std::optional<Tensor>& n, const std::optional<Tensor>& class_order,
                                   const Tensor& statistics, int64_t capacity, int64_t largest_n) {
  check_float(kMvhgSample, "log_omega", log_omega);
  const CallCounts counts(kMvhgSample, log_omega, m, n, class_order, grad_sizes.size(0), capacity, largest_n);
  return merged_sizes_backward<Backend>(kMvhgSample, counts.get(), log_omega, grad_sizes, statistics);
}

template <class Backend>
std::tuple<Tensor, Tensor> mvhg_log_prob_merged(const Tensor& sizes, const Tensor& log_omega, const Tensor& m,
                                                const Tensor& n) {
  check_float(kMvhgLogProb, "log_omega", log_omega);
  const MvhgCounts counts = checked_counts(kMvhgLogProb, log_omega, m, n);
  const int64_t elements = log_omega.numel();
  Tensor log_prob = new_tensor(log_omega, {counts.batch});
  Tensor statistics = new_tensor(log_omega, {counts.batch, counts.classes, 2}, ScalarType::Double);
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgLogProbMergedArgs<T> args{counts,
                                        checked_data<T>(kMvhgLogProb, "sizes", sizes, elements),
                                        checked_data<T>(kMvhgLogProb, "log_omega", log_omega, elements),
                                        log_prob.mutable_data_ptr<T>(),
                                        statistics.mutable_data_ptr<double>(),
                                        {},
                                        nullptr,
                                        nullptr};
    Backend::log_prob(args, log_omega);
  });
  return {log_prob, statistics};
}

template <class Backend>
std::tuple<Tensor, Tensor> mvhg_log_prob_merged_backward(const Tensor& grad_log_prob, const Tensor& sizes,
                                                         const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                                         const Tensor& log_prob, const Tensor& statistics) {
  check_float(kMvhgLogProb, "log_omega", log_omega);
  const MvhgCounts counts = checked_counts(kMvhgLogProb, log_omega, m, n);
  const int64_t elements = log_omega.numel();
  Tensor grad_sizes = new_tensor(log_omega, {counts.batch, counts.classes});
  Tensor grad_log_omega = new_tensor(log_omega, {counts.batch, counts.classes});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgLogProbMergedBackwardArgs<T> args{
        counts,
        checked_data<T>(kMvhgLogProb, "grad", grad_log_prob, counts.batch),
        checked_data<T>(kMvhgLogProb, "sizes", sizes, elements),
        checked_data<T>(kMvhgLogProb, "log_omega", log_omega, elements),
        checked_data<T>(kMvhgLogProb, "log_prob", log_prob, counts.batch),
        checked_data<double>(kMvhgLogProb, "statistics", statistics, 2 * elements),
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
