// The order of rows of scores as a tensor, on either device.
#pragma once

#include "glue/scratch.h"
#include "glue/tensors_cuda.h"
#include "sort/sort.h"

namespace drpm {

// Decreasing order of each row of `scores` (B, n), ties by index: (B, n) int64.
inline Tensor sorted_order_cpu(const char* op, const Tensor& scores) {
  const int64_t rows = scores.size(0), n = scores.size(1);
  Tensor order = new_tensor(scores, {rows, n}, ScalarType::Long);
  if (rows == 0 || n == 0) return order;
  by_dtype(scores, [&](auto zero) {
    using T = decltype(zero);
    SortArgs<T> args{};
    args.scores = checked_data<T>(op, "scores", scores, rows * n);
    args.order = order.mutable_data_ptr<int64_t>();
    args.rows = rows;
    args.n = n;
    args.tasks = task_count(rows, 24 * n);
    const TaskScratch memory([&](Carver& c) { args.items = c.take<SortItem>(args.tasks * 2 * n); });
    for_tasks(args.tasks, args, sort_tasks);
  });
  return order;
}

inline Tensor sorted_order_cuda(const Tensor& scores) { return std::get<1>(stable_sort(scores, true)); }

}  // namespace drpm
