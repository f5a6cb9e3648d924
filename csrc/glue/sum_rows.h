// Sums of rows that lie apart: a gradient over the samples of a parameter row.
#pragma once

#include "glue/tensors.h"

namespace drpm {

// Sums of `terms` values each, (rows, width) in the dtype of `like`: term t of row r begins at r row_stride + t
// term_stride of `values`.
inline Tensor sum_rows(const Tensor& values, int64_t rows, int64_t terms, int64_t width, int64_t term_stride,
                       int64_t row_stride, const Tensor& like) {
  if (!values.is_cpu()) {
    const bool terms_first = row_stride < term_stride;
    const Tensor split = torch::stable::view(values, {terms_first ? terms : rows, terms_first ? rows : terms, width});
    const int64_t dim = terms_first ? 0 : 1;
    return torch::stable::to(torch::stable::sum(split, {{dim}}), like.scalar_type());
  }
  const Tensor out = new_tensor(like, {rows, width});
  by_dtype(values, [&](auto from) {
    const auto* data = values.const_data_ptr<decltype(from)>();
    by_dtype(like, [&](auto to) {
      using T = decltype(to);
      T* sums = out.mutable_data_ptr<T>();
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < width; ++i) {
          double sum = 0;
          for (int64_t t = 0; t < terms; ++t) sum += data[row * row_stride + t * term_stride + i];
          sums[row * width + i] = static_cast<T>(sum);
        }
    });
  });
  return out;
}

}  // namespace drpm
