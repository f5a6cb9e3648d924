// The counts of a call, checked: glue of every op of this folder.
#pragma once

#include <optional>
#include <vector>

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

// Those of a call whose counts may be numbers: without m every class has `capacity` items, without n every row draws
// `drawn`. With an order of classes for each of the `rows` rows, or for all of them. Holds what the counts point to.
class CallCounts {
 public:
  CallCounts(const char* op, const Tensor& log_omega, const std::optional<Tensor>& m, const std::optional<Tensor>& n,
             const std::optional<Tensor>& class_order, int64_t rows, int64_t capacity, int64_t drawn) {
    DRPM_CHECK(log_omega.dim() == 2, op, "log_omega", "have 2 dimensions", log_omega.dim());
    const int64_t batch = log_omega.size(0), classes = log_omega.size(1);
    DRPM_CHECK(classes >= 1, op, "log_omega", "have at least one class", classes);
    const bool shared_m = !m || m->size(0) == 1, shared_n = !n || n->numel() == 1;
    counts_.m = m ? checked_data<int64_t>(op, "m", *m, (shared_m ? 1 : batch) * classes)
                  : constant(log_omega, classes, capacity);
    counts_.n = n ? checked_data<int64_t>(op, "n", *n, shared_n ? 1 : batch) : constant(log_omega, 1, drawn);
    counts_.batch = batch;
    counts_.classes = classes;
    counts_.m_stride = shared_m ? 0 : classes;
    counts_.n_stride = shared_n ? 0 : 1;
    if (!class_order) return;
    const bool shared_order = class_order->size(0) == 1;
    counts_.order = checked_data<int64_t>(op, "class_order", *class_order, (shared_order ? 1 : rows) * classes);
    counts_.order_stride = shared_order ? 0 : classes;
  }
  CallCounts(const CallCounts&) = delete;

  const MvhgCounts& get() const { return counts_; }

 private:
  const int64_t* constant(const Tensor& like, int64_t count, int64_t value) {
    if (like.is_cpu()) return host_.emplace_back(count, value).data();
    device_.push_back(new_tensor(like, {count}, ScalarType::Long));
    torch::stable::fill_(device_.back(), static_cast<double>(value));
    return device_.back().const_data_ptr<int64_t>();
  }

  MvhgCounts counts_{};
  std::vector<std::vector<int64_t>> host_;
  std::vector<Tensor> device_;
};

}  // namespace drpm
