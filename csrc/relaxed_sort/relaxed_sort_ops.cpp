#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "band/band_run.h"
#include "relaxed_sort/relaxed_sort.h"
#include "relaxed_sort/relaxed_sort_glue.h"

namespace drpm {
namespace {

template <int kNodes>
struct TableStorage {
  std::array<double, kNodes> position;
  std::array<double, kNodes * kNodes> transform;
  std::array<double, kBandLimits> limit;

  explicit TableStorage(double tolerance) {
    const double pi = std::acos(-1.0);
    for (int m = 0; m < kNodes; ++m) {
      position[m] = std::cos((2 * m + 1) * pi / (2 * kNodes));
      for (int r = 0; r < kNodes; ++r)
        transform[m * kNodes + r] = (r == 0 ? 1.0 : 2.0) / kNodes * std::cos(r * (2 * m + 1) * pi / (2 * kNodes));
    }
    // log(2 I_R(a) / tolerance) with the uniform expansion of the modified Bessel function                (Eq. 12)
    limit[0] = -1e300;
    for (int a = 1; a < kBandLimits; ++a) {
      const double root = std::sqrt(static_cast<double>(kNodes) * kNodes + static_cast<double>(a) * a);
      const double log_bessel = root + kNodes * std::log(a / (kNodes + root)) - 0.5 * std::log(2 * pi * root);
      limit[a] = std::log(2 / tolerance) + log_bessel;
    }
  }

  BandTables tables() const { return {kNodes, position.data(), transform.data(), limit.data()}; }
};

// DRPM_INTERPOLATE=0, read once, computes every row of wide bands: to measure and to test the interpolation.
bool interpolates() {
  static const bool result = [] {
    const char* wanted = std::getenv("DRPM_INTERPOLATE");
    return wanted == nullptr || std::strcmp(wanted, "0") != 0;
  }();
  return result;
}

}  // namespace

template <>
BandTables band_tables<float>() {
  static const TableStorage<DRPM_ISA::BandConstants<float>::kNodes> storage(3e-8);
  return interpolates() ? storage.tables() : BandTables{};
}

template <>
BandTables band_tables<double>() {
  static const TableStorage<DRPM_ISA::BandConstants<double>::kNodes> storage(1e-15);
  return interpolates() ? storage.tables() : BandTables{};
}

namespace {

template <class T>
void run_sort(const Tensor& scores, const Tensor& order) {
  SortArgs<T> args{};
  args.rows = scores.size(0);
  args.n = scores.size(1);
  if (args.rows == 0 || args.n == 0) return;
  args.scores = checked_data<T>("relaxed_sort", "scores", scores, scores.numel());
  args.order = order.mutable_data_ptr<int64_t>();
  args.tasks = task_count(args.rows, 16 * args.n);
  const Tensor memory = carve(scores, [&](Carver& c) { args.items = c.take<SortItem>(args.tasks * 2 * args.n); });
  for_items(args.tasks, [&](int64_t begin, int64_t end) { sort_tasks(args, begin, end); });
}

}  // namespace

Tensor sorted_order(const Tensor& scores) {
  Tensor order = torch::stable::new_empty(scores, {scores.size(0), scores.size(1)}, ScalarType::Long);
  if (is_float64(scores))
    run_sort<double>(scores, order);
  else
    run_sort<float>(scores, order);
  return order;
}

namespace {

template <class T>
RelaxedSortArgs<T> sort_args(const Tensor& scores, const Tensor& order, double tau, bool hard) {
  RelaxedSortArgs<T> args{};
  args.scores = checked_data<T>(kOp, "scores", scores, scores.numel());
  args.order = checked_data<int64_t>(kOp, "order", order, scores.numel());
  args.rows = scores.size(0);
  args.n = scores.size(1);
  args.tau = tau;
  args.hard = hard;
  return args;
}

template <class T>
RelaxedSortMatmulArgs<T> matmul_args(const Tensor& scores, const Tensor& values, const Tensor& order, double tau,
                                     bool hard) {
  RelaxedSortMatmulArgs<T> args{};
  args.rows = scores.size(0);
  args.n = scores.size(1);
  args.columns = values.size(2);
  args.scores = checked_data<T>(kMatmulOp, "scores", scores, scores.numel());
  args.values = checked_data<T>(kMatmulOp, "values", values, args.rows * args.n * args.columns);
  args.order = checked_data<int64_t>(kMatmulOp, "order", order, scores.numel());
  args.tau = tau;
  args.hard = hard;
  return args;
}

template <class T>
void plan(const RelaxedSortArgs<T>& args, int64_t slots) {
  plan_rows(
      slots, args.n, [&](int64_t begin, int64_t end) { relaxed_sort_gather_segments(args, begin, end); },
      [&](int64_t begin, int64_t end) { relaxed_sort_scan_segments(args, begin, end); },
      [&](int64_t begin, int64_t end) { relaxed_sort_plan_segments(args, begin, end); },
      [&](int64_t begin, int64_t end) { relaxed_sort_plan_slots(args, begin, end); });
}

template <class T>
void plan(const RelaxedSortMatmulArgs<T>& args, int64_t slots) {
  plan_rows(
      slots, args.n, [&](int64_t begin, int64_t end) { relaxed_sort_matmul_gather_segments(args, begin, end); },
      [&](int64_t begin, int64_t end) { relaxed_sort_matmul_scan_segments(args, begin, end); },
      [&](int64_t begin, int64_t end) { relaxed_sort_matmul_plan_segments(args, begin, end); },
      [&](int64_t begin, int64_t end) { relaxed_sort_matmul_plan_slots(args, begin, end); });
}

struct Cpu {
  static Tensor order(const Tensor& scores) { return sorted_order(scores); }

  template <class T>
  static void forward(const Tensor& scores, const Tensor& order, double tau, bool hard, const Tensor& out) {
    RelaxedSortArgs<T> args = sort_args<T>(scores, order, tau, hard);
    args.permutation = out.mutable_data_ptr<T>();
    if (hard) {
      for_rows(args.rows, args.n * args.n, [&](int64_t b, int64_t e) { relaxed_sort_hard_rows(args, b, e); });
      return;
    }
    run_band<T>(
        scores, args, 0, [](Carver&, int64_t) {},
        [&](int64_t begin, int64_t end) { relaxed_sort_forward_tasks(args, begin, end); },
        [&](int64_t slots) { plan(args, slots); },
        [&](int64_t begin, int64_t end) { relaxed_sort_forward_chunks(args, begin, end); }, [](int64_t) {});
  }

  template <class T>
  static void backward(const Tensor& grad, const Tensor& scores, const Tensor& order, double tau, const Tensor& out) {
    RelaxedSortArgs<T> args = sort_args<T>(scores, order, tau, false);
    args.grad = checked_data<T>(kOp, "grad", grad, args.rows * args.n * args.n);
    args.grad_scores = out.mutable_data_ptr<T>();
    run_band<T>(
        scores, args, 2, [&](Carver& c, int64_t slots) { args.total = c.take<double>(2 * slots * args.n); },
        [&](int64_t begin, int64_t end) { relaxed_sort_backward_tasks(args, begin, end); },
        [&](int64_t slots) { plan(args, slots); },
        [&](int64_t begin, int64_t end) { relaxed_sort_backward_chunks(args, begin, end); },
        [&](int64_t slots) {
          for_items(slots, [&](int64_t begin, int64_t end) { relaxed_sort_backward_slots(args, begin, end); });
        });
  }

  template <class T>
  static void matmul(const Tensor& scores, const Tensor& values, const Tensor& order, double tau, bool hard,
                     const Tensor& out) {
    RelaxedSortMatmulArgs<T> args = matmul_args<T>(scores, values, order, tau, hard);
    if (args.columns == 0) return;
    args.product = out.mutable_data_ptr<T>();
    if (hard) {
      for_rows(args.rows, args.n * args.columns,
               [&](int64_t begin, int64_t end) { relaxed_sort_matmul_hard_rows(args, begin, end); });
      return;
    }
    run_band<T>(
        scores, args, 0,
        [&](Carver& c, int64_t slots) { args.planes = c.take<T>(slots * args.columns * (args.n + kBandPad)); },
        [&](int64_t begin, int64_t end) { relaxed_sort_matmul_forward_tasks(args, begin, end); },
        [&](int64_t slots) { plan(args, slots); },
        [&](int64_t begin, int64_t end) { relaxed_sort_matmul_forward_chunks(args, begin, end); }, [](int64_t) {});
  }

  template <class T>
  static void matmul_backward(const Tensor& grad, const Tensor& scores, const Tensor& values, const Tensor& order,
                              double tau, bool hard, const Tensor& grad_scores, const Tensor& grad_values) {
    RelaxedSortMatmulArgs<T> args = matmul_args<T>(scores, values, order, tau, hard);
    args.grad = checked_data<T>(kMatmulOp, "grad", grad, values.numel());
    args.grad_scores = grad_scores.mutable_data_ptr<T>();
    args.grad_values = grad_values.mutable_data_ptr<T>();
    run_band<T>(
        scores, args, 2 + (hard ? 0 : args.columns),
        [&](Carver& c, int64_t slots) {
          args.planes = c.take<T>(slots * args.columns * (args.n + kBandPad));
          args.total = c.take<double>(2 * slots * args.n);
        },
        [&](int64_t begin, int64_t end) { relaxed_sort_matmul_backward_tasks(args, begin, end); },
        [&](int64_t slots) { plan(args, slots); },
        [&](int64_t begin, int64_t end) { relaxed_sort_matmul_backward_chunks(args, begin, end); },
        [&](int64_t slots) {
          for_items(slots, [&](int64_t begin, int64_t end) { relaxed_sort_matmul_backward_slots(args, begin, end); });
        });
  }
};

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) { drpm::implement_relaxed_sort_ops<drpm::Cpu>(m); }
