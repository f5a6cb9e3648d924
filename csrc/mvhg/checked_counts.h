// The counts of a call, checked: glue of every op of this folder.
#pragma once

#include "glue/tensors.h"
#include "mvhg/law.h"

namespace drpm {

inline MvhgCounts checked_counts(const char* op, const Tensor& log_omega, const Tensor& m, const Tensor& n) {
  DRPM_CHECK(log_omega.dim() == 2, op, "log_omega", "have 2 dimensions", log_omega.dim());
  const int64_t batch = log_omega.size(0), classes = log_omega.size(1);
  DRPM_CHECK(classes >= 1, op, "log_omega", "have at least one class", classes);
  const bool shared_m = m.size(0) == 1, shared_n = n.numel() == 1;
  return {checked_data<int64_t>(op, "m", m, (shared_m ? 1 : batch) * classes),
          checked_data<int64_t>(op, "n", n, shared_n ? 1 : batch),
          nullptr,
          batch,
          classes,
          shared_m ? 0 : classes,
          shared_n ? 0 : 1,
          0};
}

// With the order of classes of each of the `rows` rows, or of all of them; none where the tensor is empty.
inline MvhgCounts checked_counts(const char* op, const Tensor& log_omega, const Tensor& m, const Tensor& n,
                                 const Tensor& class_order, int64_t rows) {
  MvhgCounts counts = checked_counts(op, log_omega, m, n);
  if (class_order.numel() == 0) return counts;
  const bool shared = class_order.size(0) == 1;
  counts.order = checked_data<int64_t>(op, "class_order", class_order, (shared ? 1 : rows) * counts.classes);
  counts.order_stride = shared ? 0 : counts.classes;
  return counts;
}

}  // namespace drpm
