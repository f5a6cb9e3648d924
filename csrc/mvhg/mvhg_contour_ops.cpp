#include <memory>
#include <tuple>

#include "common/tensors.h"
#include "mvhg/mvhg_contour.h"

namespace drpm {
namespace {

MvhgCounts make_counts(const char* op, const Tensor& log_omega, const Tensor& m, const Tensor& n) {
  DRPM_CHECK(log_omega.dim() == 2, op, "log_omega", "have 2 dimensions", log_omega.dim());
  const int64_t batch = log_omega.size(0), classes = log_omega.size(1);
  DRPM_CHECK(classes >= 1, op, "log_omega", "have at least one class", classes);
  const bool shared_m = m.size(0) == 1, shared_n = n.numel() == 1;
  return {checked_data<int64_t>(op, "m", m, (shared_m ? 1 : batch) * classes),
          checked_data<int64_t>(op, "n", n, shared_n ? 1 : batch), classes, shared_m ? 0 : classes, shared_n ? 0 : 1};
}

template <class T>
T* data_or_null(const Tensor& t) {
  return t.numel() == 0 ? nullptr : t.mutable_data_ptr<T>();
}

// Runs a kernel over the rows, each task with its own `doubles` of scratch.
template <class Args, class Kernel>
void run_rows(const Args& args, int64_t rows, int64_t doubles, const Kernel& kernel) {
  for_rows(rows, 1500 * args.counts.classes, [&](int64_t begin, int64_t end) {
    const std::unique_ptr<double[]> memory(new double[static_cast<size_t>(doubles)]);
    Args local = args;
    local.scratch = memory.get();
    kernel(local, begin, end);
  });
}

// Calls f with a value of the tensor's type.
template <class F>
void by_dtype(const Tensor& t, const F& f) {
  if (is_float64(t))
    f(double{});
  else
    f(float{});
}

std::tuple<Tensor, Tensor> mvhg_log_normalizer(const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                               bool with_mean) {
  constexpr const char* kOp = "mvhg_log_normalizer";
  check_float(kOp, "log_omega", log_omega);
  const MvhgCounts counts = make_counts(kOp, log_omega, m, n);
  const int64_t rows = log_omega.size(0);
  Tensor value = torch::stable::new_empty(log_omega, {rows});
  Tensor mean = torch::stable::new_empty(log_omega, {with_mean ? rows : 0, counts.classes});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgNormalizerArgs<T> args{counts, checked_data<T>(kOp, "log_omega", log_omega, rows * counts.classes),
                                     value.mutable_data_ptr<T>(), data_or_null<T>(mean), nullptr};
    run_rows(args, rows, contour_scratch(counts.classes),
             [](const auto& a, int64_t begin, int64_t end) { mvhg_normalizer_rows(a, begin, end); });
  });
  return {value, mean};
}

std::tuple<Tensor, Tensor> mvhg_log_prob(const Tensor& sizes, const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                         bool with_mean) {
  constexpr const char* kOp = "mvhg_log_prob";
  check_float(kOp, "log_omega", log_omega);
  const MvhgCounts counts = make_counts(kOp, log_omega, m, n);
  const int64_t rows = log_omega.size(0), elements = rows * counts.classes;
  Tensor value = torch::stable::new_empty(log_omega, {rows});
  Tensor mean = torch::stable::new_empty(log_omega, {with_mean ? rows : 0, counts.classes});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgLogProbArgs<T> args{counts,
                                  checked_data<T>(kOp, "sizes", sizes, elements),
                                  checked_data<T>(kOp, "log_omega", log_omega, elements),
                                  value.mutable_data_ptr<T>(),
                                  data_or_null<T>(mean),
                                  nullptr};
    run_rows(args, rows, contour_scratch(counts.classes),
             [](const auto& a, int64_t begin, int64_t end) { mvhg_log_prob_rows(a, begin, end); });
  });
  return {value, mean};
}

Tensor run_cumulant(const char* op, const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& v,
                    const Tensor* w) {
  check_float(op, "log_omega", log_omega);
  const MvhgCounts counts = make_counts(op, log_omega, m, n);
  const int64_t rows = log_omega.size(0), elements = rows * counts.classes;
  Tensor out = torch::stable::new_empty(log_omega, {rows, counts.classes});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgCumulantArgs<T> args{counts,
                                   checked_data<T>(op, "log_omega", log_omega, elements),
                                   checked_data<T>(op, "v", v, elements),
                                   w == nullptr ? nullptr : checked_data<T>(op, "w", *w, elements),
                                   out.mutable_data_ptr<T>(),
                                   nullptr};
    run_rows(args, rows, contour_scratch(counts.classes) + counts.classes,
             [](const auto& a, int64_t begin, int64_t end) { mvhg_cumulant_rows(a, begin, end); });
  });
  return out;
}

Tensor mvhg_covariance_product(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& v) {
  return run_cumulant("mvhg_covariance_product", log_omega, m, n, v, nullptr);
}

Tensor mvhg_third_cumulant(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& v,
                           const Tensor& w) {
  return run_cumulant("mvhg_third_cumulant", log_omega, m, n, v, &w);
}

std::tuple<Tensor, Tensor, Tensor> mvhg_kl(const Tensor& log_omega_q, const Tensor& log_omega_p, const Tensor& m,
                                           const Tensor& n) {
  constexpr const char* kOp = "mvhg_kl";
  check_float(kOp, "log_omega_q", log_omega_q);
  const MvhgCounts counts = make_counts(kOp, log_omega_q, m, n);
  const int64_t rows = log_omega_q.size(0), elements = rows * counts.classes;
  Tensor kl = torch::stable::new_empty(log_omega_q, {rows});
  Tensor mean_q = torch::stable::new_empty(log_omega_q, {rows, counts.classes});
  Tensor mean_p = torch::stable::new_empty(log_omega_q, {rows, counts.classes});
  by_dtype(log_omega_q, [&](auto zero) {
    using T = decltype(zero);
    const MvhgKlArgs<T> args{counts,
                             checked_data<T>(kOp, "log_omega_q", log_omega_q, elements),
                             checked_data<T>(kOp, "log_omega_p", log_omega_p, elements),
                             kl.mutable_data_ptr<T>(),
                             mean_q.mutable_data_ptr<T>(),
                             mean_p.mutable_data_ptr<T>(),
                             nullptr};
    run_rows(args, rows, 2 * contour_scratch(counts.classes),
             [](const auto& a, int64_t begin, int64_t end) { mvhg_kl_rows(a, begin, end); });
  });
  return {kl, mean_q, mean_p};
}

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) {
  m.impl("mvhg_log_normalizer", TORCH_BOX(&drpm::mvhg_log_normalizer));
  m.impl("mvhg_log_prob", TORCH_BOX(&drpm::mvhg_log_prob));
  m.impl("mvhg_covariance_product", TORCH_BOX(&drpm::mvhg_covariance_product));
  m.impl("mvhg_third_cumulant", TORCH_BOX(&drpm::mvhg_third_cumulant));
  m.impl("mvhg_kl", TORCH_BOX(&drpm::mvhg_kl));
}
