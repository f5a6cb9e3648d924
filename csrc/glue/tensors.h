// Glue between torch's stable ABI and the torch-free kernels: checked pointers, allocation, row loops.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>

#include "noise/seeds.h"

namespace drpm {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

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

// parallel_for over rows that cost about `cost` simple operations each; at least 32k operations a task.
template <class F>
void for_rows(int64_t rows, int64_t cost, const F& f) {
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(cost, 1));
  if (rows <= grain) {
    if (rows > 0) f(int64_t{0}, rows);
    return;
  }
  torch::stable::parallel_for(0, rows, grain, f);
}

inline int64_t thread_count() { return std::max<int64_t>(1, torch::stable::get_num_threads()); }

// f(begin, end) over [0, count), at once where there is one item or one thread.
template <class F>
void for_items(int64_t count, const F& f) {
  if (count == 1 || thread_count() == 1) {
    if (count > 0) f(int64_t{0}, count);
  } else if (count > 0) {
    torch::stable::parallel_for(0, count, 1, f);
  }
}

// A kernel of the CPU (lanes/simd.h): work items [begin, end).
template <class Args>
using Kernel = void (*)(const Args& args, int64_t begin, int64_t end);

template <class Args>
void for_items(int64_t count, const Args& args, Kernel<Args> kernel) {
  for_items(count, [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

// Tasks (ranges of rows) that `rows` rows of about `cost` operations each are worth.
inline int64_t task_count(int64_t rows, int64_t cost) {
  const double work = static_cast<double>(rows) * static_cast<double>(cost) / 49152;
  return std::max<int64_t>(1, std::min<int64_t>({rows, thread_count(), static_cast<int64_t>(std::min(work, 1e6))}));
}

}  // namespace drpm
