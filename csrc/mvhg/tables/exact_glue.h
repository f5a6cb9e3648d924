// Dispatcher glue of the exact conditionals, for either backend: arguments are checked and outputs allocated here;
// `Backend` sizes the scratch and runs the kernels. `largest_n` bounds n where the host knows a bound, else it is
// negative.
#pragma once

#include <tuple>

#include "glue/tensors.h"
#include "mvhg/tables/exact.h"

namespace drpm {
namespace {

constexpr const char* kOp = "mvhg_sample";

template <class T>
MvhgExactArgs<T> exact_args(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& seed,
                            const Tensor& order, double tau, int64_t samples, bool hard, bool noise, TableUse use) {
  const int64_t batch = log_omega.size(0), classes = log_omega.size(1), rows = samples * batch;
  DRPM_CHECK(classes >= 1, kOp, "log_omega", "have at least one class", classes);
  const bool shared_m = m.size(0) == 1, shared_n = n.numel() == 1;
  MvhgExactArgs<T> args{};
  args.m = checked_data<int64_t>(kOp, "m", m, (shared_m ? 1 : batch) * classes);
  args.n = checked_data<int64_t>(kOp, "n", n, shared_n ? 1 : batch);
  args.batch = batch;
  args.samples = samples;
  args.classes = classes;
  args.m_stride = shared_m ? 0 : classes;
  args.n_stride = shared_n ? 0 : 1;
  if (order.numel() > 0) {
    const bool shared = order.size(0) == 1;
    args.order = checked_data<int64_t>(kOp, "class_order", order, (shared ? 1 : rows) * classes);
    args.order_stride = shared ? 0 : classes;
  }
  args.log_omega = checked_data<T>(kOp, "log_omega", log_omega, batch * classes);
  args.seeds = checked_seeds(kOp, seed, batch);
  args.tau = tau;
  args.hard = hard;
  args.noise = noise;
  args.use = use;
  return args;
}

template <class Backend>
std::tuple<Tensor, Tensor> mvhg_sample_exact(const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                             const Tensor& seed, const Tensor& class_order, double tau, int64_t samples,
                                             bool hard, bool noise, bool with_statistics, int64_t largest_n) {
  check_float(kOp, "log_omega", log_omega);
  const int64_t rows = samples * log_omega.size(0), classes = log_omega.size(1);
  const TableUse use = hard && !with_statistics ? TableUse::kSample : TableUse::kRelaxedSample;
  Tensor sizes = torch::stable::new_empty(log_omega, {rows, classes});
  Tensor statistics = torch::stable::new_empty(log_omega, {with_statistics ? rows : 0, classes, 3}, ScalarType::Double);
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgSampleExactArgs<T> args{exact_args<T>(log_omega, m, n, seed, class_order, tau, samples, hard, noise, use),
                                      sizes.mutable_data_ptr<T>(),
                                      with_statistics ? statistics.mutable_data_ptr<double>() : nullptr};
    Backend::sample(args, log_omega, largest_n);
  });
  return {sizes, statistics};
}

constexpr int64_t kGroup = 64;  // samples whose cotangents go through the tables together; fixed: results do not
                                // depend on the number of threads

// (B, C, K) float64: to be summed over the C groups of samples.
template <class Backend>
Tensor mvhg_sample_exact_backward(const Tensor& grad_sizes, const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                  const Tensor& seed, const Tensor& class_order, double tau, int64_t samples,
                                  bool noise, const Tensor& statistics, int64_t largest_n) {
  check_float(kOp, "log_omega", log_omega);
  const int64_t chunks = (samples + kGroup - 1) / kGroup, elements = samples * log_omega.numel();
  Tensor grad = torch::stable::new_empty(log_omega, {log_omega.size(0), chunks, log_omega.size(1)}, ScalarType::Double);
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgSampleExactBackwardArgs<T> args{
        exact_args<T>(log_omega, m, n, seed, class_order, tau, samples, true, noise, TableUse::kRelaxedSample),
        checked_data<T>(kOp, "grad", grad_sizes, elements),
        checked_data<double>(kOp, "statistics", statistics, 3 * elements),
        grad.mutable_data_ptr<double>(),
        chunks,
        kGroup};
    Backend::sample_backward(args, log_omega, largest_n);
  });
  return grad;
}

template <class Backend>
Tensor mvhg_draw(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& seed, int64_t samples,
                 int64_t largest_table) {
  check_float("mvhg_draw", "log_omega", log_omega);
  const Tensor natural = torch::stable::new_empty(m, {0});
  Tensor sizes = torch::stable::new_empty(log_omega, {samples * log_omega.size(0), log_omega.size(1)});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgDrawArgs<T> args{exact_args<T>(log_omega, m, n, seed, natural, 1, samples, true, true, TableUse::kPlain),
                               sizes.mutable_data_ptr<T>(), nullptr, largest_table};
    Backend::draw(args, log_omega);
  });
  return sizes;
}

template <class Backend>
void run_entropy(const char* op, const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor* v,
                 const Tensor* entropy, const Tensor& by_class) {
  check_float(op, "log_omega", log_omega);
  const Tensor none = torch::stable::new_empty(m, {0}), seed = torch::stable::new_empty(m, {1});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgEntropyArgs<T> args{exact_args<T>(log_omega, m, n, seed, none, 1, 1, true, false, TableUse::kEntropy),
                                  v == nullptr ? nullptr : checked_data<T>(op, "v", *v, log_omega.numel()),
                                  entropy == nullptr ? nullptr : entropy->mutable_data_ptr<T>(),
                                  by_class.mutable_data_ptr<T>(), nullptr};
    Backend::entropy(op, args, log_omega);
  });
}

template <class Backend>
std::tuple<Tensor, Tensor> mvhg_entropy(const Tensor& log_omega, const Tensor& m, const Tensor& n) {
  Tensor entropy = torch::stable::new_empty(log_omega, {log_omega.size(0)});
  Tensor grad = torch::stable::new_empty(log_omega, {log_omega.size(0), log_omega.size(1)});
  run_entropy<Backend>("mvhg_entropy", log_omega, m, n, nullptr, &entropy, grad);
  return {entropy, grad};
}

template <class Backend>
Tensor mvhg_entropy_hessian_product(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& v) {
  Tensor out = torch::stable::new_empty(log_omega, {log_omega.size(0), log_omega.size(1)});
  run_entropy<Backend>("mvhg_entropy_hessian_product", log_omega, m, n, &v, nullptr, out);
  return out;
}

template <class Backend, class Library>
void implement_exact_ops(Library& m) {
  m.impl("mvhg_sample_exact", TORCH_BOX(&mvhg_sample_exact<Backend>));
  m.impl("mvhg_sample_exact_backward", TORCH_BOX(&mvhg_sample_exact_backward<Backend>));
  m.impl("mvhg_draw", TORCH_BOX(&mvhg_draw<Backend>));
  m.impl("mvhg_entropy", TORCH_BOX(&mvhg_entropy<Backend>));
  m.impl("mvhg_entropy_hessian_product", TORCH_BOX(&mvhg_entropy_hessian_product<Backend>));
}

}  // namespace
}  // namespace drpm
