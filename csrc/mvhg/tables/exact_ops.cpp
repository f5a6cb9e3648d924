#include <memory>
#include <utility>

#include "mvhg/contour/contour.h"
#include "mvhg/tables/exact_glue.h"
#include "mvhg/task_memory.h"

namespace drpm {
namespace {

// How large the tables of these parameter rows may get. Throws where they would not fit.
template <class T>
TableSizes table_sizes(const char* op, const MvhgExactArgs<T>& args, int64_t largest_n = INT64_MAX) {
  TableSizes sizes{};
  mvhg_table_sizes(MvhgTableSizesArgs<T>{args, largest_n, &sizes}, 0, args.batch);
  const double values = 5.0 * static_cast<double>(args.classes) * static_cast<double>(sizes.widest);
  check_task_memory(op, sizeof(double) * values, sizes.max_n, args.classes);
  return sizes;
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

struct Cpu {
  template <class T>
  static void sample(MvhgSampleExactArgs<T> args, const Tensor&, int64_t) {
    MvhgExactArgs<T>& common = args.common;
    const TableSizes size = table_sizes(kOp, common);
    common.log_factorials = log_factorial_table(size.max_m + 1);
    for_rows(common.batch * common.samples, table_cost(size, common.classes), [&](int64_t begin, int64_t end) {
      MvhgSampleExactArgs<T> local = args;
      const TaskMemory<T> memory(size, common.classes, false, &local.common);
      mvhg_sample_exact_rows(local, begin, end);
    });
  }

  template <class T>
  static void sample_backward(MvhgSampleExactBackwardArgs<T> args, const Tensor&, int64_t) {
    MvhgExactArgs<T>& common = args.common;
    const TableSizes size = table_sizes(kOp, common);
    common.log_factorials = log_factorial_table(size.max_m + 1);
    for_rows(common.batch * args.chunks, 4 * table_cost(size, common.classes), [&](int64_t begin, int64_t end) {
      MvhgSampleExactBackwardArgs<T> local = args;
      const TaskMemory<T> memory(size, common.classes, true, &local.common);
      mvhg_sample_exact_backward_groups(local, begin, end);
    });
  }

  template <class T>
  static void draw(MvhgDrawArgs<T> args, const Tensor&) {
    MvhgExactArgs<T>& common = args.common;
    const TableSizes size = table_sizes("mvhg_draw", common, args.largest_table);
    bool tables = true;  // for all rows
    for (int64_t row = 0; row < common.batch; ++row)
      tables = tables && common.n[row * common.n_stride] <= args.largest_table;
    common.log_factorials = log_factorial_table(size.max_m + 1);
    const int64_t cost = tables ? table_cost(size, common.classes) : 30000 * common.classes * common.classes;
    for_rows(common.batch * common.samples, cost, [&](int64_t begin, int64_t end) {
      MvhgDrawArgs<T> local = args;
      const TaskMemory<T> memory(size, common.classes, false, &local.common);
      const std::unique_ptr<double[]> contours(new double[static_cast<size_t>(contour_scratch(common.classes))]);
      local.contours = contours.get();
      mvhg_draw_rows(local, begin, end);
    });
  }

  template <class T>
  static void entropy(const char* op, MvhgEntropyArgs<T> args, const Tensor&) {
    MvhgExactArgs<T>& common = args.common;
    const TableSizes size = table_sizes(op, common);
    common.log_factorials = log_factorial_table(size.max_m + 1);
    const int64_t stretch = size.widest + kTablePadding;
    const int64_t contour = contour_scratch(common.classes) + 2 * common.classes;
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
};

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) { drpm::implement_exact_ops<drpm::Cpu>(m); }
