#include "sort/sort.h"
#include "sort/sort_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class T>
void sort_rows(const SortArgs<T>& args, int64_t task) {
  const int64_t n = args.n, end = args.rows * (task + 1) / args.tasks;
  for (int64_t row = args.rows * task / args.tasks; row < end; ++row)
    sort_order(args.scores + row * n, n, args.items + 2 * task * n, args.order + row * n);
}

}  // namespace

void sort_tasks(const SortArgs<float>& args, int64_t begin, int64_t end) {
  for (int64_t task = begin; task < end; ++task) sort_rows(args, task);
}

void sort_tasks(const SortArgs<double>& args, int64_t begin, int64_t end) {
  for (int64_t task = begin; task < end; ++task) sort_rows(args, task);
}

}  // namespace DRPM_ISA
}  // namespace drpm
