#include <tuple>

#include "common/log_factorial_cuda.h"
#include "common/tensors_cuda.h"
#include "mvhg/mvhg_merged_cuda.h"

namespace drpm {
namespace {

constexpr const char* kSample = "mvhg_sample";
constexpr const char* kLogProb = "mvhg_log_prob";

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

// The log-factorials on the device, filled before `launch(stream)` on the same stream.
template <class F>
void launch_with_table(const char* op, const Tensor& like, const Tensor& table, const F& launch) {
  launch_on(op, like, [&](void* stream) {
    const int error = fill_log_factorials_cuda(table.mutable_data_ptr<double>(), kMergedTableSize, stream);
    return error != 0 ? error : launch(stream);
  });
}

template <class T>
void run_sample(const MergedCounts& counts, const Tensor& log_omega, const Tensor& seed, double tau, int64_t rows,
                bool hard, bool noise, const Tensor& sizes, const Tensor* statistics) {
  const Tensor table = scratch_doubles(log_omega, kMergedTableSize);
  const Tensor classes = scratch_doubles(log_omega, merged_rows_in_flight(rows) * 2 * counts.classes);
  const MvhgSampleMergedArgs<T> args{counts,
                                     checked_data<T>(kSample, "log_omega", log_omega, counts.batch * counts.classes),
                                     checked_data<int64_t>(kSample, "seed", seed, 1),
                                     sizes.mutable_data_ptr<T>(),
                                     statistics == nullptr ? nullptr : statistics->mutable_data_ptr<double>(),
                                     tau,
                                     hard,
                                     noise,
                                     {table.const_data_ptr<double>(), kMergedTableSize},
                                     nullptr,
                                     classes.mutable_data_ptr<double>(),
                                     0};
  launch_with_table(kSample, log_omega, table, [&](void* s) { return mvhg_sample_merged_cuda(args, rows, s); });
}

std::tuple<Tensor, Tensor> mvhg_sample_merged(const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                              const Tensor& seed, const Tensor& class_order, double tau,
                                              int64_t samples, bool hard, bool noise, bool with_statistics) {
  check_float(kSample, "log_omega", log_omega);
  const int64_t rows = samples * log_omega.size(0), classes = log_omega.size(1);
  const MergedCounts counts = make_counts(kSample, log_omega, m, n, &class_order, rows);
  Tensor sizes = torch::stable::new_empty(log_omega, {rows, classes});
  Tensor statistics = torch::stable::new_empty(log_omega, {with_statistics ? rows : 0, classes, 2}, ScalarType::Double);
  const Tensor* wanted = with_statistics ? &statistics : nullptr;
  if (is_float64(log_omega))
    run_sample<double>(counts, log_omega, seed, tau, rows, hard, noise, sizes, wanted);
  else
    run_sample<float>(counts, log_omega, seed, tau, rows, hard, noise, sizes, wanted);
  return {sizes, statistics};
}

template <class T>
void run_sample_backward(const MergedCounts& counts, int64_t rows, const Tensor& grad_sizes, const Tensor& log_omega,
                         const Tensor& statistics, const Tensor& grad) {
  const Tensor classes = scratch_doubles(log_omega, merged_rows_in_flight(rows) * 3 * counts.classes);
  const MvhgSampleMergedBackwardArgs<T> args{
      counts,
      checked_data<T>(kSample, "grad", grad_sizes, rows * counts.classes),
      checked_data<T>(kSample, "log_omega", log_omega, counts.batch * counts.classes),
      checked_data<double>(kSample, "statistics", statistics, rows * counts.classes * 2),
      grad.mutable_data_ptr<T>(),
      classes.mutable_data_ptr<double>()};
  launch_on(kSample, log_omega, [&](void* s) { return mvhg_sample_merged_backward_cuda(args, rows, s); });
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
void run_log_prob(const MergedCounts& counts, const Tensor& sizes, const Tensor& log_omega, const Tensor& log_prob,
                  const Tensor& statistics) {
  const int64_t elements = counts.batch * counts.classes;
  const Tensor table = scratch_doubles(log_omega, kMergedTableSize);
  const Tensor classes = scratch_doubles(log_omega, merged_rows_in_flight(counts.batch) * 2 * counts.classes);
  const MvhgLogProbMergedArgs<T> args{counts,
                                      checked_data<T>(kLogProb, "sizes", sizes, elements),
                                      checked_data<T>(kLogProb, "log_omega", log_omega, elements),
                                      log_prob.mutable_data_ptr<T>(),
                                      statistics.mutable_data_ptr<double>(),
                                      {table.const_data_ptr<double>(), kMergedTableSize},
                                      nullptr,
                                      classes.mutable_data_ptr<double>(),
                                      0};
  launch_with_table(kLogProb, log_omega, table,
                    [&](void* s) { return mvhg_log_prob_merged_cuda(args, counts.batch, s); });
}

std::tuple<Tensor, Tensor> mvhg_log_prob_merged(const Tensor& sizes, const Tensor& log_omega, const Tensor& m,
                                                const Tensor& n) {
  check_float(kLogProb, "log_omega", log_omega);
  const MergedCounts counts = make_counts(kLogProb, log_omega, m, n, nullptr, log_omega.size(0));
  Tensor log_prob = torch::stable::new_empty(log_omega, {counts.batch});
  Tensor statistics = torch::stable::new_empty(log_omega, {counts.batch, counts.classes, 2}, ScalarType::Double);
  if (is_float64(log_omega))
    run_log_prob<double>(counts, sizes, log_omega, log_prob, statistics);
  else
    run_log_prob<float>(counts, sizes, log_omega, log_prob, statistics);
  return {log_prob, statistics};
}

template <class T>
void run_log_prob_backward(const MergedCounts& counts, const Tensor& grad_log_prob, const Tensor& sizes,
                           const Tensor& log_omega, const Tensor& log_prob, const Tensor& statistics,
                           const Tensor& grad_sizes, const Tensor& grad_log_omega) {
  const int64_t elements = counts.batch * counts.classes;
  const Tensor classes = scratch_doubles(log_omega, merged_rows_in_flight(counts.batch) * 3 * counts.classes);
  const MvhgLogProbMergedBackwardArgs<T> args{counts,
                                              checked_data<T>(kLogProb, "grad", grad_log_prob, counts.batch),
                                              checked_data<T>(kLogProb, "sizes", sizes, elements),
                                              checked_data<T>(kLogProb, "log_omega", log_omega, elements),
                                              checked_data<T>(kLogProb, "log_prob", log_prob, counts.batch),
                                              checked_data<double>(kLogProb, "statistics", statistics, 2 * elements),
                                              grad_sizes.mutable_data_ptr<T>(),
                                              grad_log_omega.mutable_data_ptr<T>(),
                                              classes.mutable_data_ptr<double>()};
  launch_on(kLogProb, log_omega, [&](void* s) { return mvhg_log_prob_merged_backward_cuda(args, counts.batch, s); });
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

DRPM_CUDA_LIBRARY_IMPL(m) {
  m.impl("mvhg_sample_merged", TORCH_BOX(&drpm::mvhg_sample_merged));
  m.impl("mvhg_sample_merged_backward", TORCH_BOX(&drpm::mvhg_sample_merged_backward));
  m.impl("mvhg_log_prob_merged", TORCH_BOX(&drpm::mvhg_log_prob_merged));
  m.impl("mvhg_log_prob_merged_backward", TORCH_BOX(&drpm::mvhg_log_prob_merged_backward));
}
