// Dispatcher glue of the relaxed sort, for either backend: `Backend::order(scores)` sorts each row, the others fill the
// outputs that are allocated here.
#pragma once

#include <tuple>

#include "glue/tensors.h"

namespace drpm {
namespace {

constexpr const char* kOp = "relaxed_sort";
constexpr const char* kMatmulOp = "relaxed_sort_matmul";

inline Tensor like_rows(const Tensor& t) { return torch::stable::new_empty(t, {t.size(0), t.size(1)}); }
inline Tensor like_columns(const Tensor& t) { return torch::stable::new_empty(t, {t.size(0), t.size(1), t.size(2)}); }

template <class Backend>
std::tuple<Tensor, Tensor> relaxed_sort(const Tensor& scores, double tau, bool hard) {
  check_score_rows(kOp, "scores", scores);
  const int64_t rows = scores.size(0), n = scores.size(1);
  Tensor order = Backend::order(scores);
  Tensor out = torch::stable::new_empty(scores, {rows, n, n});
  by_dtype(scores, [&](auto zero) { Backend::template forward<decltype(zero)>(scores, order, tau, hard, out); });
  return {out, order};
}

template <class Backend>
Tensor relaxed_sort_backward(const Tensor& grad, const Tensor& scores, const Tensor& order, double tau) {
  check_score_rows(kOp, "scores", scores);
  Tensor out = like_rows(scores);
  by_dtype(scores, [&](auto zero) { Backend::template backward<decltype(zero)>(grad, scores, order, tau, out); });
  return out;
}

template <class Backend>
std::tuple<Tensor, Tensor> relaxed_sort_matmul(const Tensor& scores, const Tensor& values, double tau, bool hard) {
  check_score_rows(kMatmulOp, "scores", scores);
  DRPM_CHECK(values.dim() == 3 && values.size(0) == scores.size(0) && values.size(1) == scores.size(1), kMatmulOp,
             "values", "have the rows of scores", values.dim());
  Tensor order = Backend::order(scores);
  Tensor out = like_columns(values);
  by_dtype(scores, [&](auto zero) { Backend::template matmul<decltype(zero)>(scores, values, order, tau, hard, out); });
  return {out, order};
}

template <class Backend>
std::tuple<Tensor, Tensor> relaxed_sort_matmul_backward(const Tensor& grad, const Tensor& scores, const Tensor& values,
                                                        const Tensor& order, double tau, bool hard) {
  check_score_rows(kMatmulOp, "scores", scores);
  Tensor grad_scores = like_rows(scores), grad_values = like_columns(values);
  by_dtype(scores, [&](auto zero) {
    Backend::template matmul_backward<decltype(zero)>(grad, scores, values, order, tau, hard, grad_scores, grad_values);
  });
  return {grad_scores, grad_values};
}

template <class Backend, class Library>
void implement_relaxed_sort_ops(Library& m) {
  m.impl("relaxed_sort", TORCH_BOX(&relaxed_sort<Backend>));
  m.impl("relaxed_sort_backward", TORCH_BOX(&relaxed_sort_backward<Backend>));
  m.impl("relaxed_sort_matmul", TORCH_BOX(&relaxed_sort_matmul<Backend>));
  m.impl("relaxed_sort_matmul_backward", TORCH_BOX(&relaxed_sort_matmul_backward<Backend>));
}

}  // namespace
}  // namespace drpm
