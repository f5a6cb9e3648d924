#include "mvhg/tables/exact_ops.h"

#include <tuple>

namespace drpm {
namespace {

using Cpu = ExactCpu;
using Cuda = ExactCuda;

// `largest_n`: the number drawn where there is no n; else a bound on it where the host knows one, or negative.
template <class Backend>
std::tuple<Tensor, Tensor> mvhg_sample_exact(const Tensor& log_omega, const std::optional<Tensor>& m,
                                             const std::optional<Tensor>& n, const std::optional<Tensor>& seed,
                                             const std::optional<Tensor>& class_order, double tau, int64_t samples,
                                             bool hard, bool with_statistics, int64_t capacity, int64_t largest_n) {
  check_float(kMvhgSample, "log_omega", log_omega);
  const int64_t rows = samples * log_omega.size(0), classes = log_omega.size(1);
  const CallCounts counts(kMvhgSample, log_omega, m, n, class_order, rows, capacity, largest_n);
  Tensor sizes = new_tensor(log_omega, {rows, classes});
  Tensor statistics = new_tensor(log_omega, {with_statistics ? rows : 0, classes, 3}, ScalarType::Double);
  exact_sizes<Backend>(sizes_call(log_omega, counts, seed, tau, samples, largest_n), hard, sizes,
                       with_statistics ? &statistics : nullptr);
  return {sizes, statistics};
}

template <class Backend>
Tensor mvhg_sample_exact_backward(const Tensor& grad_sizes, const Tensor& log_omega, const std::optional<Tensor>& m,
                                  const std::optional<Tensor>& n, const std::optional<Tensor>& seed,
                                  const std::optional<Tensor>& class_order, double tau, int64_t samples,
                                  const Tensor& statistics, int64_t capacity, int64_t largest_n) {
  check_float(kMvhgSample, "log_omega", log_omega);
  const int64_t rows = samples * log_omega.size(0);
  const CallCounts counts(kMvhgSample, log_omega, m, n, class_order, rows, capacity, largest_n);
  return exact_sizes_backward<Backend>(sizes_call(log_omega, counts, seed, tau, samples, largest_n), grad_sizes,
                                       statistics);
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("mvhg_sample_exact", TORCH_BOX(&drpm::mvhg_sample_exact<Backend>));
  m.impl("mvhg_sample_exact_backward", TORCH_BOX(&drpm::mvhg_sample_exact_backward<Backend>));
}
