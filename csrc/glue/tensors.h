// Glue between torch's stable ABI and the torch-free kernels: checked pointers, allocation, row loops.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>

#include "glue/threads.h"
#include "noise/seeds.h"

namespace drpm {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A new contiguous tensor on the device of `like`: torch::stable::new_empty, without the way through the dispatcher.
inline Tensor new_tensor(const Tensor& like, std::initializer_list<int64_t> size,
                         std::optional<ScalarType> dtype = std::nullopt) {
  int32_t device_type, device_index, type;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  if (dtype)
    type = torch::stable::detail::to<int32_t>(torch::stable::detail::from(*dtype));
  else
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &type));
  int64_t strides[8], stride = 1;
  const int64_t dims = static_cast<int64_t>(size.size());
  STD_TORCH_CHECK(dims <= 8, "drpm: new tensors must have at most 8 dimensions, got ", dims);
  for (int64_t i = dims - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= std::max<int64_t>(size.begin()[i], 1);
  }
  AtenTensorHandle made;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(dims, size.begin(), strides, type, device_type, device_index, &made));
  return Tensor(made);
}

inline bool is_float64(const Tensor& t) { return t.scalar_type() == ScalarType::Double; }

// <op>: <argument> must <contract>, got <value> – the words of drpm/ops/_arguments.py.
#define DRPM_CHECK(condition, op, argument, contract, got) \
  STD_TORCH_CHECK(condition, op, ": ", argument, " must ", contract, ", got ", got)

inline void check_float(const char* op, const char* argument, const Tensor& t) {
  DRPM_CHECK(t.scalar_type() == ScalarType::Float || is_float64(t), op, argument, "be float32 or float64",
             "another dtype");
}

// Rows of scores (B, n), as the ops that sort take them.
inline void check_score_rows(const char* op, const char* argument, const Tensor& scores) {
  check_float(op, argument, scores);
  DRPM_CHECK(scores.dim() == 2, op, argument, "have two dimensions", scores.dim());
  DRPM_CHECK(scores.size(1) < int64_t{1} << 31, op, argument, "have fewer than 2^31 elements a row", scores.size(1));
  DRPM_CHECK(scores.is_contiguous(), op, argument, "be contiguous", "strides");
}

// Matrices of scores (B, K, n), a row for every class.
inline void check_score_matrices(const char* op, const char* argument, const Tensor& scores) {
  check_float(op, argument, scores);
  DRPM_CHECK(scores.dim() == 3, op, argument, "have three dimensions", scores.dim());
  DRPM_CHECK(scores.size(2) < int64_t{1} << 31, op, argument, "have fewer than 2^31 elements a row", scores.size(2));
  DRPM_CHECK(scores.is_contiguous(), op, argument, "be contiguous", "strides");
}

// A contiguous tensor of T with `count` elements; its data.
template <class T>
const T* checked_data(const char* op, const char* argument, const Tensor& t, int64_t count) {
  DRPM_CHECK(t.is_contiguous(), op, argument, "be contiguous", "strides");
  DRPM_CHECK(t.numel() == count, op, argument, "match the other arguments in size", t.numel());
  return t.const_data_ptr<T>();  // checks the dtype
}

// One seed for all parameter rows, or one for each group of `batch` / (number of seeds) rows.
inline Seeds checked_seeds(const char* op, const Tensor& seed, int64_t batch) {
  const int64_t count = seed.numel();
  DRPM_CHECK(count > 0 && batch % count == 0, op, "seed", "hold one seed, or one for each of equal groups of rows",
             count);
  return {checked_data<int64_t>(op, "seed", seed, count), batch, batch / count};
}

// Calls f with a value of the tensor's type.
template <class F>
void by_dtype(const Tensor& t, const F& f) {
  if (is_float64(t))
    f(double{});
  else
    f(float{});
}

}  // namespace drpm
