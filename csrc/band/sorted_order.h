// The order of rows of scores as a tensor, on either device.
#pragma once

#include <algorithm>
#include <numeric>

#include "band/band_cuda_ops.h"
#include "glue/tensors.h"

namespace drpm {

// Decreasing order of each row of `scores` (B, n), ties by index: (B, n) int64.
inline Tensor sorted_order_cpu(const char* op, const Tensor& scores) {
  const int64_t rows = scores.size(0), n = scores.size(1);
  Tensor order = torch::stable::new_empty(scores, {rows, n}, ScalarType::Long);
  by_dtype(scores, [&](auto zero) {
    using T = decltype(zero);
    const T* all = checked_data<T>(op, "scores", scores, rows * n);
    int64_t* out = order.mutable_data_ptr<int64_t>();
    for_rows(rows, 20 * n, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* x = all + row * n;
        std::iota(out + row * n, out + (row + 1) * n, 0);
        std::stable_sort(out + row * n, out + (row + 1) * n, [x](int64_t a, int64_t b) { return x[a] > x[b]; });
      }
    });
  });
  return order;
}

}  // namespace drpm
