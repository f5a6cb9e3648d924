// The law as every family of this folder reads it: counts, and the parameters of one row (docs/math/mvhg.md).
// B parameter rows, S samples, R = S B rows (row = sample * B + parameter row), K classes.
#pragma once

#include <cstdint>

#include "lanes/host_device.h"

namespace drpm {

// Whole numbers up to here are exact in double; rows with a count beyond, or more items together, are not valid.
constexpr int64_t kLargestCount = int64_t{1} << 53;
constexpr int64_t kLargestTotal = int64_t{1} << 62;

// Counts may be shared by all rows (stride 0).
struct MvhgCounts {
  const int64_t* m;      // (B, K) or (1, K)
  const int64_t* n;      // (B) or (1)
  const int64_t* order;  // (R, K), (1, K) or null: natural class order
  int64_t batch, classes;
  int64_t m_stride, n_stride, order_stride;  // elements from row to row; 0 where shared
};

// Over the parameter rows that can be drawn; what sizes tables and scratch on the host.
struct CountBounds {
  int64_t max_m, max_n, max_total;
  int64_t outcomes;  // sum over the classes of what one of them may draw
};

namespace DRPM_ISA {

constexpr double kNaN = __builtin_nan("");

struct MvhgRow {
  const int64_t* m;      // (K), by class
  const int64_t* order;  // (K) or null: natural class order
  int64_t n, classes;
  int64_t total;  // of the items that can be drawn
  bool valid;
  double origin;  // the largest log omega that items can be drawn with: the law does not know it
};

// Items of class k that can be drawn: none where its weight is zero, log omega = -inf.
template <class T>
DRPM_HD inline int64_t possible_items(const int64_t* m, const T* log_omega, int64_t k) {
  return log_omega[k] == -__builtin_huge_val() ? 0 : m[k];
}

// log omega_k less the row's largest: beyond double's range a number, -inf where nothing can be drawn.
template <class T>
DRPM_HD inline double log_weight(const MvhgRow& row, const T* log_omega, int64_t k) {
  const double whole = static_cast<double>(log_omega[k]), less = whole - row.origin;
  if (less > 1e300) return 1e300;
  return less > -1e300 || whole == -__builtin_huge_val() ? less : -1e300;
}

DRPM_HD inline int64_t class_at(const MvhgRow& row, int64_t position) {
  return row.order == nullptr ? position : row.order[position];
}

// All or nothing is drawn.
DRPM_HD inline bool is_extreme(const MvhgRow& row) { return row.n == 0 || row.n == row.total; }

// There is nothing to decide: every class has one possible size.
DRPM_HD inline bool is_point(const MvhgRow& row) { return row.classes == 1 || is_extreme(row); }

// `log_omega` is the row's own (K).
template <class T>
DRPM_HD inline MvhgRow mvhg_row(const int64_t* m, int64_t n, int64_t classes, const T* log_omega) {
  MvhgRow row{m, nullptr, n, classes, 0, true, 0};
  double largest = -__builtin_huge_val();
  for (int64_t k = 0; k < classes; ++k) {
    if (m[k] < 0 || m[k] > kLargestCount || !(log_omega[k] < __builtin_huge_val()) || row.total > kLargestTotal)
      row.valid = false;
    else
      row.total += possible_items(m, log_omega, k);
    if (m[k] > 0 && log_omega[k] > largest) largest = log_omega[k];
  }
  if (largest > -__builtin_huge_val()) row.origin = largest;
  if (n < 0 || n > row.total || n > kLargestCount || row.total > kLargestTotal) row.valid = false;
  return row;
}

template <class T>
DRPM_HD inline MvhgRow mvhg_row(const MvhgCounts& counts, int64_t row, const T* log_omega) {
  const int64_t parameters = row % counts.batch;
  MvhgRow out = mvhg_row(counts.m + parameters * counts.m_stride, counts.n[parameters * counts.n_stride],
                         counts.classes, log_omega);
  if (counts.order == nullptr) return out;
  out.order = counts.order + row * counts.order_stride;
  for (int64_t p = 0; p < out.classes; ++p)
    if (out.order[p] < 0 || out.order[p] >= out.classes) out.valid = false;
  return out;
}

// Rows that draw more than `largest_n` are left out.
inline CountBounds count_bounds(const MvhgCounts& counts, int64_t largest_n) {
  CountBounds out{0, 0, 0, 0};
  const auto raise = [](int64_t* bound, int64_t value) { *bound = *bound > value ? *bound : value; };
  const int64_t rows = counts.batch > 0 && counts.m_stride == 0 && counts.n_stride == 0 ? 1 : counts.batch;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t* m = counts.m + row * counts.m_stride;
    const int64_t n = counts.n[row * counts.n_stride];
    int64_t total = 0, largest = 0, outcomes = 0;
    bool valid = n >= 0 && n <= kLargestCount;
    for (int64_t k = 0; k < counts.classes; ++k) {
      valid = valid && m[k] >= 0 && m[k] <= kLargestCount && total <= kLargestTotal;
      if (!valid) break;
      total += m[k];
      raise(&largest, m[k]);
      outcomes += (m[k] < n + 1 ? m[k] : n + 1) + 1;
    }
    if (!valid || n > total || n > largest_n) continue;
    raise(&out.max_m, largest);
    raise(&out.max_n, n);
    raise(&out.max_total, total);
    raise(&out.outcomes, outcomes);
  }
  return out;
}

}  // namespace DRPM_ISA
}  // namespace drpm
