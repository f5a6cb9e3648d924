// How work is spread over threads: the one policy of all ops on the CPU.
//
// A thread takes part where it gets work for at least 200 us. To wake it costs 5 to 10 us; where its core is busy with
// something else, the call waits for it, a time slice of milliseconds, for what one thread alone had done long before.
// Work is stated in operations, about half a nanosecond of one thread each, as well as a formula of the sizes can tell.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>

namespace drpm {

constexpr double kOperationsPerThread = 400e3;

inline int64_t thread_count() { return std::max<int64_t>(1, torch::stable::get_num_threads()); }

// Tasks, one a thread, that `items` items of about `cost` operations each are worth.
inline int64_t task_count(int64_t items, int64_t cost) {
  const double work = static_cast<double>(items) * static_cast<double>(cost);
  if (work < 2 * kOperationsPerThread) return 1;
  const double worth = std::min(work / kOperationsPerThread, 1e6);
  return std::max<int64_t>(1, std::min<int64_t>({items, thread_count(), static_cast<int64_t>(worth)}));
}

// f(begin, end) over [0, items) in that many tasks.
template <class F>
void in_tasks(int64_t items, int64_t tasks, const F& f) {
  if (items <= 0) return;
  if (tasks <= 1)
    f(int64_t{0}, items);
  else
    torch::stable::parallel_for(0, items, (items + tasks - 1) / tasks, f);
}

// f(begin, end) over rows that cost about `cost` operations each.
template <class F>
void for_rows(int64_t rows, int64_t cost, const F& f) {
  in_tasks(rows, task_count(rows, cost), f);
}

// A kernel of the CPU (lanes/simd.h): work items [begin, end).
template <class Args>
using Kernel = void (*)(const Args& args, int64_t begin, int64_t end);

template <class Args>
void for_items(int64_t items, int64_t cost, const Args& args, Kernel<Args> kernel) {
  for_rows(items, cost, [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

// Tasks that task_count() gave, each with scratch of its own.
template <class Args>
void for_tasks(int64_t tasks, const Args& args, Kernel<Args> kernel) {
  in_tasks(tasks, tasks, [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

}  // namespace drpm
