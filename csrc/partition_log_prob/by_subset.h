// A row of scores for every subset: where log Z_k comes from, and how the gradient is written
// (docs/math/assignment.md).
#pragma once

#include "partition_log_prob/partition_log_prob_math.h"

namespace drpm {
namespace DRPM_ISA {

constexpr double kNoScore = -__builtin_huge_val();  // the log-sum of nothing

// The row of scores that orders subset k.
template <class T>
inline const T* scores_of(const PartitionLogProbArgs<T>& args, int64_t k) {
  return args.by_subset ? args.log_scores + k * args.n : args.log_scores;
}

// out[i] = f(x[i], label[i]) by packs; what fills the last one has label -1 and is not kept. `out` may be null.
template <class T, class F>
inline void map_packs(const T* x, const T* label, int64_t begin, int64_t end, T* out, const F& f) {
  using V = Pack<T>;
  constexpr int kWidth = Lane<V>::kWidth;
  int64_t i = begin;
  for (; i + kWidth <= end; i += kWidth) {
    const V y = f(load<V>(x + i), load<V>(label + i));
    if (out != nullptr) store<V>(out + i, y);
  }
  if (i == end) return;
  T values[kWidth], labels[kWidth];
  for (int lane = 0; lane < kWidth; ++lane) {
    values[lane] = i + lane < end ? x[i + lane] : 0;
    labels[lane] = i + lane < end ? label[i + lane] : -1;
  }
  store<V>(values, f(load<V>(values), load<V>(labels)));
  if (out != nullptr)
    for (int lane = 0; i + lane < end; ++lane) out[i + lane] = values[lane];
}

// The largest score of row k among what comes after subset k, 0 if that is nothing; NaN where one of the row is not
// finite.
template <class T>
inline double largest_of_later(const PartitionLogProbArgs<T>& args, int64_t k) {
  using V = Pack<T>;
  const V own = splat<V>(static_cast<T>(k)), none = splat<V>(static_cast<T>(kNoScore));
  V largest = none, check = splat<V>(0);
  map_packs<T>(scores_of(args, k), args.label, 0, args.n, nullptr, [&](V x, V label) {
    largest = max_lane<V>(label > own ? x : none, largest);
    check = check + (x - x);
    return x;
  });
  const double found = static_cast<double>(max_over_lanes<V>(largest)),
               wrong = static_cast<double>(sum_lanes<V>(check));
  return found == kNoScore ? wrong : found + wrong;
}

// log Z_k by the row of subset k, and the e^{L_ki} in it where a gradient is wanted.           (Eq. 3 of assignment.md)
template <class T>
inline void row_remainder(const PartitionLogProbArgs<T>& args, int64_t k) {
  using V = Pack<T>;
  constexpr int64_t kBlock = 1024;  // that working precision sums
  args.log_remainder[k] = kNoScore;
  if (args.offset[k + 1] == args.n) return;
  T* grad = args.grad_log_scores != nullptr ? args.grad_log_scores + k * args.n : nullptr;
  const V own = splat<V>(static_cast<T>(k)), largest = splat<V>(static_cast<T>(args.largest[k]));
  double sum = 0;
  for (int64_t begin = 0; begin < args.n; begin += kBlock) {
    V part = splat<V>(0);
    const int64_t end = begin + kBlock < args.n ? begin + kBlock : args.n;
    map_packs<T>(scores_of(args, k), args.label, begin, end, grad, [&](V x, V label) {
      const V e = label > own ? exp_lane<V>(x - largest) : splat<V>(0);
      part = part + e;
      return e;
    });
    sum += static_cast<double>(sum_lanes<V>(part));
  }
  args.log_remainder[k] = log_lane<double>(sum);
}

// G_i in the subset, -e^{L_ki} Gamma_k / Z_k after it, 0 before.                              (Eq. 4 of assignment.md)
template <class T>
inline void row_gradient(const PartitionLogProbArgs<T>& args, int64_t k) {
  T* grad = args.grad_log_scores + k * args.n;
  const int64_t begin = args.offset[k], end = args.offset[k + 1];
  const T scale = static_cast<T>(args.log_factor[k]);
  if (end == args.n) {
    for (int64_t i = 0; i < args.n; ++i) grad[i] = 0;
    return;
  }
  for (int64_t i = 0; i < args.n; ++i) grad[i] *= scale;
  for (int64_t i = begin; i < end; ++i) grad[args.grouped[i]] = static_cast<T>(args.score[i]);
}

}  // namespace DRPM_ISA
}  // namespace drpm
