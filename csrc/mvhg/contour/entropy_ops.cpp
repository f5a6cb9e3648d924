#include <tuple>

#include "glue/register.h"
#include "glue/scratch.h"
#include "mvhg/checked_counts.h"
#include "mvhg/contour/entropy.h"

namespace drpm {
namespace {

struct Cpu {
  template <class T>
  static void run(const char*, MvhgEntropyArgs<T> args, const Tensor&) {
    const int64_t classes = args.counts.classes;
    constexpr int64_t kDirect = int64_t{1} << 14;  // faster up to here, and within 1e-11
    args.log_factorials = log_factorials_below(log_factorial_table(kDirect), kDirect);
    for_rows(args.counts.batch, 10000 * classes, [&](int64_t begin, int64_t end) {
      MvhgEntropyArgs<T> task = args;
      const TaskScratch memory([&](Carver& c) {
        task.f = c.take<double>(kEntropyOutcomes);
        task.phi = c.take<double>(kEntropyOutcomes);
        task.contours = c.take<double>(entropy_scratch(classes));
      });
      mvhg_entropy_rows(task, begin, end);
    });
  }
};

struct Cuda {
  template <class T>
  static void run(const char* op, MvhgEntropyArgs<T> args, const Tensor& like) {
    const int64_t doubles = entropy_rows_in_flight(args.counts.batch) * entropy_scratch(args.counts.classes);
    const Tensor memory = carve(like, [&](Carver& c) { args.contours = c.take<double>(doubles); });
    launch_with_log_factorials(op, like, kEntropyFactorials, &args.log_factorials,
                               [&](void* stream) { return mvhg_entropy_cuda(args, stream); });
  }
};

template <class Backend>
void run_entropy(const char* op, const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor* v,
                 const Tensor* entropy, const Tensor& by_class) {
  check_float(op, "log_omega", log_omega);
  const MvhgCounts counts = checked_counts(op, log_omega, m, n);
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    MvhgEntropyArgs<T> args{};
    args.counts = counts;
    args.log_omega = checked_data<T>(op, "log_omega", log_omega, log_omega.numel());
    if (v != nullptr) args.v = checked_data<T>(op, "v", *v, log_omega.numel());
    if (entropy != nullptr) args.entropy = entropy->mutable_data_ptr<T>();
    args.by_class = by_class.mutable_data_ptr<T>();
    Backend::run(op, args, log_omega);
  });
}

template <class Backend>
std::tuple<Tensor, Tensor> mvhg_entropy(const Tensor& log_omega, const Tensor& m, const Tensor& n) {
  Tensor entropy = new_tensor(log_omega, {log_omega.size(0)});
  Tensor grad = new_tensor(log_omega, {log_omega.size(0), log_omega.size(1)});
  run_entropy<Backend>("mvhg_entropy", log_omega, m, n, nullptr, &entropy, grad);
  return {entropy, grad};
}

template <class Backend>
Tensor mvhg_entropy_hessian_product(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& v) {
  Tensor out = new_tensor(log_omega, {log_omega.size(0), log_omega.size(1)});
  run_entropy<Backend>("mvhg_entropy_hessian_product", log_omega, m, n, &v, nullptr, out);
  return out;
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("mvhg_entropy", TORCH_BOX(&drpm::mvhg_entropy<Backend>));
  m.impl("mvhg_entropy_hessian_product", TORCH_BOX(&drpm::mvhg_entropy_hessian_product<Backend>));
}
