#include <tuple>

#include "glue/register.h"
#include "glue/scratch.h"
#include "mvhg/checked_counts.h"
#include "mvhg/contour/contour.h"

namespace drpm {
namespace {

// `doubles` of scratch for each row in flight.
struct Cpu {
  template <class Args>
  static void run(const char*, const Tensor&, const Args& args, int64_t rows, int64_t doubles) {
    for_rows(rows, 500 * args.counts.classes, [&](int64_t begin, int64_t end) {
      Args task = args;
      const TaskScratch memory([&](Carver& c) { task.scratch = c.take<double>(doubles); });
      mvhg_contour_rows(task, begin, end);
    });
  }
};

struct Cuda {
  template <class Args>
  static void run(const char* op, const Tensor& like, Args args, int64_t rows, int64_t doubles) {
    const Tensor memory =
        carve(like, [&](Carver& c) { args.scratch = c.take<double>(contour_rows_in_flight(rows) * doubles); });
    launch_on(op, like, [&](void* stream) { return mvhg_contour_cuda(args, rows, doubles, stream); });
  }
};

template <class T>
T* data_or_null(const Tensor& t) {
  return t.numel() == 0 ? nullptr : t.mutable_data_ptr<T>();
}

template <class Backend>
std::tuple<Tensor, Tensor> mvhg_log_normalizer(const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                               bool with_mean) {
  constexpr const char* kOp = "mvhg_log_normalizer";
  check_float(kOp, "log_omega", log_omega);
  const MvhgCounts counts = checked_counts(kOp, log_omega, m, n);
  const int64_t rows = log_omega.size(0);
  Tensor value = new_tensor(log_omega, {rows});
  Tensor mean = new_tensor(log_omega, {with_mean ? rows : 0, counts.classes});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgNormalizerArgs<T> args{counts, checked_data<T>(kOp, "log_omega", log_omega, rows * counts.classes),
                                     value.mutable_data_ptr<T>(), data_or_null<T>(mean), nullptr};
    Backend::run(kOp, log_omega, args, rows, contour_scratch(counts.classes));
  });
  return {value, mean};
}

template <class Backend>
std::tuple<Tensor, Tensor> mvhg_log_prob(const Tensor& sizes, const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                         bool with_mean) {
  constexpr const char* kOp = "mvhg_log_prob";
  check_float(kOp, "log_omega", log_omega);
  const MvhgCounts counts = checked_counts(kOp, log_omega, m, n);
  const int64_t rows = log_omega.size(0), elements = rows * counts.classes;
  Tensor value = new_tensor(log_omega, {rows});
  Tensor mean = new_tensor(log_omega, {with_mean ? rows : 0, counts.classes});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgLogProbArgs<T> args{counts,
                                  checked_data<T>(kOp, "sizes", sizes, elements),
                                  checked_data<T>(kOp, "log_omega", log_omega, elements),
                                  value.mutable_data_ptr<T>(),
                                  data_or_null<T>(mean),
                                  nullptr};
    Backend::run(kOp, log_omega, args, rows, contour_scratch(counts.classes));
  });
  return {value, mean};
}

template <class Backend>
Tensor run_cumulant(const char* op, const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& u,
                    const Tensor* v = nullptr, const Tensor* w = nullptr) {
  check_float(op, "log_omega", log_omega);
  const MvhgCounts counts = checked_counts(op, log_omega, m, n);
  const int64_t rows = log_omega.size(0), elements = rows * counts.classes;
  Tensor out = new_tensor(log_omega, {rows, counts.classes});
  by_dtype(log_omega, [&](auto zero) {
    using T = decltype(zero);
    const MvhgCumulantArgs<T> args{counts,
                                   checked_data<T>(op, "log_omega", log_omega, elements),
                                   checked_data<T>(op, "u", u, elements),
                                   v == nullptr ? nullptr : checked_data<T>(op, "v", *v, elements),
                                   w == nullptr ? nullptr : checked_data<T>(op, "w", *w, elements),
                                   out.mutable_data_ptr<T>(),
                                   nullptr};
    Backend::run(op, log_omega, args, rows, contour_scratch(counts.classes) + counts.classes);
  });
  return out;
}

template <class Backend>
Tensor mvhg_covariance_product(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& u) {
  return run_cumulant<Backend>("mvhg_covariance_product", log_omega, m, n, u);
}

template <class Backend>
Tensor mvhg_third_cumulant(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& u,
                           const Tensor& v) {
  return run_cumulant<Backend>("mvhg_third_cumulant", log_omega, m, n, u, &v);
}

template <class Backend>
Tensor mvhg_fourth_cumulant(const Tensor& log_omega, const Tensor& m, const Tensor& n, const Tensor& u, const Tensor& v,
                            const Tensor& w) {
  return run_cumulant<Backend>("mvhg_fourth_cumulant", log_omega, m, n, u, &v, &w);
}

template <class Backend>
std::tuple<Tensor, Tensor, Tensor> mvhg_kl(const Tensor& log_omega_q, const Tensor& log_omega_p, const Tensor& m,
                                           const Tensor& n) {
  constexpr const char* kOp = "mvhg_kl";
  check_float(kOp, "log_omega_q", log_omega_q);
  const MvhgCounts counts = checked_counts(kOp, log_omega_q, m, n);
  const int64_t rows = log_omega_q.size(0), elements = rows * counts.classes;
  Tensor kl = new_tensor(log_omega_q, {rows});
  Tensor mean_q = new_tensor(log_omega_q, {rows, counts.classes});
  Tensor mean_p = new_tensor(log_omega_q, {rows, counts.classes});
  by_dtype(log_omega_q, [&](auto zero) {
    using T = decltype(zero);
    const MvhgKlArgs<T> args{counts,
                             checked_data<T>(kOp, "log_omega_q", log_omega_q, elements),
                             checked_data<T>(kOp, "log_omega_p", log_omega_p, elements),
                             kl.mutable_data_ptr<T>(),
                             mean_q.mutable_data_ptr<T>(),
                             mean_p.mutable_data_ptr<T>(),
                             nullptr};
    Backend::run(kOp, log_omega_q, args, rows, 2 * contour_scratch(counts.classes));
  });
  return {kl, mean_q, mean_p};
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("mvhg_log_normalizer", TORCH_BOX(&drpm::mvhg_log_normalizer<Backend>));
  m.impl("mvhg_log_prob", TORCH_BOX(&drpm::mvhg_log_prob<Backend>));
  m.impl("mvhg_covariance_product", TORCH_BOX(&drpm::mvhg_covariance_product<Backend>));
  m.impl("mvhg_third_cumulant", TORCH_BOX(&drpm::mvhg_third_cumulant<Backend>));
  m.impl("mvhg_fourth_cumulant", TORCH_BOX(&drpm::mvhg_fourth_cumulant<Backend>));
  m.impl("mvhg_kl", TORCH_BOX(&drpm::mvhg_kl<Backend>));
}
