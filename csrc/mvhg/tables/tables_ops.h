// What the glue of ops that build tables shares.
#pragma once

#include "glue/register.h"
#include "glue/scratch.h"
#include "mvhg/checked_counts.h"
#include "mvhg/tables/tables.h"
#include "mvhg/task_memory.h"

namespace drpm {

// How large the tables of these parameter rows may get. Throws where they would not fit.
template <class T>
TableBounds checked_bounds(const char* op, const MvhgExactArgs<T>& args, int64_t largest_n = INT64_MAX) {
  TableBounds bounds{};
  mvhg_table_bounds(MvhgTableBoundsArgs<T>{args, largest_n, &bounds}, 0, 1);
  const double values = 5.0 * static_cast<double>(args.counts.classes) * static_cast<double>(bounds.widest);
  check_task_memory(op, sizeof(double) * values, bounds.counts.max_n, args.counts.classes);
  return bounds;
}

// Operations that the tables of a row take, and a draw from each; and those of the reverse mode. Fitted at K = 10 and
// n = 64, 256, 4096; the bounds are about twice as wide as the tables.
inline int64_t table_cost(const TableBounds& bounds, int64_t classes) {
  return classes * (1200 + 8 * bounds.widest + bounds.widest * bounds.widest / 32);
}

inline int64_t reverse_table_cost(const TableBounds& bounds, int64_t classes) {
  return classes * (1500 + 20 * bounds.widest + bounds.widest * bounds.widest / 10);
}

// Launches a kernel on scratch for the blocks in flight and a table of log-factorials.
template <class Call, class Launch>
void launch_blocks(const char* op, const Tensor& like, Call* call, const Launch& launch) {
  const Tensor memory =
      carve(like, [&](Carver& c) { call->scratch = c.take<char>(call->layout.blocks * block_bytes(call->layout)); });
  launch_with_log_factorials(op, like, kExactTableSize, &call->args.common.log_factorials,
                             [&](void* stream) { return launch(*call, stream); });
}

}  // namespace drpm
