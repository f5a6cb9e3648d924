#include <memory>
#include <tuple>
#include <utility>

#include "common/tensors.h"
#include "mvhg/mvhg_contour.h"
#include "mvhg/mvhg_exact.h"
#include "mvhg/task_memory.h"

namespace drpm {
namespace {

constexpr const char* kOp = "mvhg_sample";

// How large the tables of these parameter rows may get. Throws where they would not fit.
template <class T>
TableSizes table_sizes(const char* op, const MvhgExactArgs<T>& args, int64_t largest_n = INT64_MAX) {
  TableSizes sizes{};
  mvhg_table_sizes(MvhgTableSizesArgs<T>{args, largest_n, &sizes}, 0, args.batch);
  const double values = 5.0 * static_cast<double>(args.classes) * static_cast<double>(sizes.widest);
  check_task_memory(op, sizeof(double) * values, sizes.max_n, args.classes);
  return sizes;
}

template <class T>
MvhgExactArgs<T> make_args(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& seed,
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
  args.seed = checked_data<int64_t>(kOp, "seed", seed, 1);
  args.tau = tau;
  args.hard = hard;
  args.noise = noise;
  args.use = use;
  return args;
}

// One task's memory; pages that the tables do not reach are never touched.
template <class T>
class TaskMemory {
 public:
  TaskMemory(const TableSizes& size, int64_t classes, bool backward, MvhgExactArgs<T>* args)
      : windows_(new int64_t[static_cast<size_t>(8 * classes)]) {
    const int64_t widest = size.widest, work = 4 * (widest + kTablePadding);
    const int64_t b_capacity = classes * (widest + 2 * kTablePadding);
    const int64_t f_capacity = std::min(b_capacity, size.outcomes + 2 * classes * kTablePadding);
    const int64_t tables = 2 * f_capacity + (backward ? 3 : 2) * b_capacity;
    doubles_.reset(new double[static_cast<size_t>(2 * classes + tables + work)]);
    double* at = doubles_.get();
    ExactScratch& scratch = args->scratch;
    auto take = [&](int64_t count) { return std::exchange(at, at + count); };
    scratch.windows = windows_.get();
    scratch.classes = take(2 * classes);
    scratch.f = take(f_capacity);
    scratch.log_f = take(f_capacity);
    scratch.b = take(b_capacity);
    scratch.log_b = take(b_capacity);
    scratch.h = backward ? take(b_capacity) : nullptr;
    scratch.work = take(work);
    scratch.widest = widest;
    args->outcome_width = widest + 256;  // whole noise tiles and packs
    outcomes_.reset(new T[static_cast<size_t>(2 * args->outcome_width)]);
    args->outcomes = outcomes_.get();
  }

 private:
  std::unique_ptr<int64_t[]> windows_;
  std::unique_ptr<double[]> doubles_;
  std::unique_ptr<T[]> outcomes_;
};

// Operations that the tables of a row take, roughly.
int64_t table_cost(const TableSizes& size, int64_t classes) {
  return classes * (64 + 20 * size.widest + size.widest * size.widest / 8);
}

template <class T>
void run_forward(MvhgExactArgs<T> common, const Tensor& sizes, const Tensor* statistics) {
  const TableSizes size = table_sizes(kOp, common);
  common.log_factorials = log_factorial_table(size.max_m + 1);
  const MvhgSampleExactArgs<T> args{common, sizes.mutable_data_ptr<T>(),
                                    statistics == nullptr ? nullptr : statistics->mutable_data_ptr<double>()};
  for_rows(common.batch * common.samples, table_cost(size, common.classes), [&](int64_t begin, int64_t end) {
    MvhgSampleExactArgs<T> local = args;
    const TaskMemory<T> memory(size, common.classes, false, &local.common);
    mvhg_sample_exact_rows(local, begin, end);
  });
}

std::tuple<Tensor, Tensor> mvhg_sample_exact(const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                             const Tensor& seed, const Tensor& class_order, double tau, int64_t samples,
                                             bool hard, bool noise, bool with_statistics) {
  check_float(kOp, "log_omega", log_omega);
  const int64_t rows = samples * log_omega.size(0), classes = log_omega.size(1);
  const TableUse use = hard && !with_statistics ? TableUse::kSample : TableUse::kRelaxedSample;
  Tensor sizes = torch::stable::new_empty(log_omega, {rows, classes});
  Tensor statistics = torch::stable::new_empty(log_omega, {with_statistics ? rows : 0, classes, 3}, ScalarType::Double);
  const Tensor* wanted = with_statistics ? &statistics : nullptr;
  if (is_float64(log_omega))
    run_forward(make_args<double>(log_omega, m, n, seed, class_order, tau, samples, hard, noise, use), sizes, wanted);
  else
    run_forward(make_args<float>(log_omega, m, n, seed, class_order, tau, samples, hard, noise, use), sizes, wanted);
  return {sizes, statistics};
}

constexpr int64_t kGroup = 64;  // samples whose cotangents go through the tables together; fixed: results do not
                                // depend on the number of threads

template <class T>
void run_backward(MvhgExactArgs<T> common, const Tensor& grad_sizes, const Tensor& statistics, const Tensor& grad,
                  int64_t chunks) {
  const TableSizes size = table_sizes(kOp, common);
  common.log_factorials = log_factorial_table(size.max_m + 1);
  const int64_t elements = common.batch * common.samples * common.classes;
  const MvhgSampleExactBackwardArgs<T> args{common,
                                            checked_data<T>(kOp, "grad", grad_sizes, elements),
                                            checked_data<double>(kOp, "statistics", statistics, 3 * elements),
                                            grad.mutable_data_ptr<double>(),
                                            chunks,
                                            kGroup};
  for_rows(common.batch * chunks, 4 * table_cost(size, common.classes), [&](int64_t begin, int64_t end) {
    MvhgSampleExactBackwardArgs<T> local = args;
    const TaskMemory<T> memory(size, common.classes, true, &local.common);
    mvhg_sample_exact_backward_groups(local, begin, end);
  });
}

// (B, C, K) float64: to be summed over the C groups of samples.
Tensor mvhg_sample_exact_backward(const Tensor& grad_sizes, const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                  const Tensor& seed, const Tensor& class_order, double tau, int64_t samples,
                                  bool noise, const Tensor& statistics) {
  check_float(kOp, "log_omega", log_omega);
  const int64_t chunks = (samples + kGroup - 1) / kGroup;
  Tensor grad = torch::stable::new_empty(log_omega, {log_omega.size(0), chunks, log_omega.size(1)}, ScalarType::Double);
  if (is_float64(log_omega))
    run_backward(
        make_args<double>(log_omega, m, n, seed, class_order, tau, samples, true, noise, TableUse::kRelaxedSample),
        grad_sizes, statistics, grad, chunks);
  else
    run_backward(
        make_args<float>(log_omega, m, n, seed, class_order, tau, samples, true, noise, TableUse::kRelaxedSample),
        grad_sizes, statistics, grad, chunks);
  return grad;
}

template <class T>
Tensor run_draw(MvhgExactArgs<T> common, const Tensor& log_omega, int64_t largest_table) {
  Tensor sizes = torch::stable::new_empty(log_omega, {common.batch * common.samples, common.classes});
  const TableSizes size = table_sizes("mvhg_draw", common, largest_table);
  bool tables = true;  // for all rows
  for (int64_t row = 0; row < common.batch; ++row) tables = tables && common.n[row * common.n_stride] <= largest_table;
  common.log_factorials = log_factorial_table(size.max_m + 1);
  const int64_t cost = tables ? table_cost(size, common.classes) : 30000 * common.classes * common.classes;
  const MvhgDrawArgs<T> args{common, sizes.mutable_data_ptr<T>(), nullptr, largest_table};
  for_rows(common.batch * common.samples, cost, [&](int64_t begin, int64_t end) {
    MvhgDrawArgs<T> local = args;
    const TaskMemory<T> memory(size, common.classes, false, &local.common);
    const std::unique_ptr<double[]> contours(new double[static_cast<size_t>(contour_scratch(common.classes))]);
    local.contours = contours.get();
    mvhg_draw_rows(local, begin, end);
  });
  return sizes;
}

Tensor mvhg_draw(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& seed, int64_t samples,
                 int64_t largest_table) {
  check_float(kOp, "log_omega", log_omega);
  const Tensor natural = torch::stable::new_empty(m, {0});
  if (is_float64(log_omega))
    return run_draw(make_args<double>(log_omega, m, n, seed, natural, 1, samples, true, true, TableUse::kPlain),
                    log_omega, largest_table);
  return run_draw(make_args<float>(log_omega, m, n, seed, natural, 1, samples, true, true, TableUse::kPlain), log_omega,
                  largest_table);
}

template <class T>
void run_entropy(const char* op, const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor* v,
                 const Tensor* entropy, const Tensor& by_class) {
  const Tensor none = torch::stable::new_empty(m, {0}), seed = torch::stable::new_empty(m, {1});
  MvhgExactArgs<T> common = make_args<T>(log_omega, m, n, seed, none, 1, 1, true, false, TableUse::kEntropy);
  const TableSizes size = table_sizes(op, common);
  common.log_factorials = log_factorial_table(size.max_m + 1);
  const int64_t stretch = size.widest + kTablePadding, contour = contour_scratch(common.classes) + 2 * common.classes;
  const MvhgEntropyArgs<T> args{common, v == nullptr ? nullptr : checked_data<T>(op, "v", *v, log_omega.numel()),
                                entropy == nullptr ? nullptr : entropy->mutable_data_ptr<T>(),
                                by_class.mutable_data_ptr<T>(), nullptr};
  for_rows(common.batch, common.classes * (2000 + 40 * size.widest), [&](int64_t begin, int64_t end) {
    const std::unique_ptr<double[]> memory(new double[static_cast<size_t>(2 * stretch + contour)]);
    MvhgEntropyArgs<T> local = args;
    local.common.scratch.f = memory.get();
    local.common.scratch.log_f = memory.get() + stretch;
    local.common.scratch.widest = size.widest;
    local.contours = memory.get() + 2 * stretch;
    mvhg_entropy_rows(local, begin, end);
  });
}

std::tuple<Tensor, Tensor> mvhg_entropy(const Tensor& log_omega, const Tensor& m, const Tensor& n) {
  check_float("mvhg_entropy", "log_omega", log_omega);
  Tensor entropy = torch::stable::new_empty(log_omega, {log_omega.size(0)});
  Tensor grad = torch::stable::new_empty(log_omega, {log_omega.size(0), log_omega.size(1)});
  if (is_float64(log_omega))
    run_entropy<double>("mvhg_entropy", log_omega, m, n, nullptr, &entropy, grad);
  else
    run_entropy<float>("mvhg_entropy", log_omega, m, n, nullptr, &entropy, grad);
  return {entropy, grad};
}

Tensor mvhg_entropy_hessian_product(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& v) {
  check_float("mvhg_entropy_hessian_product", "log_omega", log_omega);
  Tensor out = torch::stable::new_empty(log_omega, {log_omega.size(0), log_omega.size(1)});
  if (is_float64(log_omega))
    run_entropy<double>("mvhg_entropy_hessian_product", log_omega, m, n, &v, nullptr, out);
  else
    run_entropy<float>("mvhg_entropy_hessian_product", log_omega, m, n, &v, nullptr, out);
  return out;
}

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) {
  m.impl("mvhg_draw", TORCH_BOX(&drpm::mvhg_draw));
  m.impl("mvhg_entropy", TORCH_BOX(&drpm::mvhg_entropy));
  m.impl("mvhg_entropy_hessian_product", TORCH_BOX(&drpm::mvhg_entropy_hessian_product));
  m.impl("mvhg_sample_exact", TORCH_BOX(&drpm::mvhg_sample_exact));
  m.impl("mvhg_sample_exact_backward", TORCH_BOX(&drpm::mvhg_sample_exact_backward));
}
