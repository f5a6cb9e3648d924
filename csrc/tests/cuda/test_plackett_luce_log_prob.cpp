#include <algorithm>
#include <numeric>

#include "plackett_luce_log_prob/plackett_luce_log_prob.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

enum class Order { kNone, kValid, kDuplicate, kOutside };

template <class T>
void check(int64_t rows, int64_t n, double scale, Order kind, bool with_gradient = true) {
  Random random(rows * 100 + n);
  const auto log_scores = random.normals<T>(rows * n, scale);
  Buffer<int64_t> order(rows * n);
  for (int64_t row = 0; row < rows; ++row) {
    int64_t* o = order.data() + row * n;
    std::iota(o, o + n, 0);
    for (int64_t i = n - 1; i > 0; --i) std::swap(o[i], o[random.below(i + 1)]);
  }
  if (kind == Order::kDuplicate) order[0] = order[n - 1];
  if (kind == Order::kOutside) order[rows * n - 1] = n;
  const int64_t gradients = with_gradient ? rows * n : 0;
  auto got = poisoned<T>(rows), want = poisoned<T>(rows);
  auto got_grad = poisoned<T>(gradients), want_grad = poisoned<T>(gradients);
  Buffer<double> suffix(n), ranked(n);
  // for an index beyond the row the counter behind the last must not look taken
  Buffer<double> scratch(drpm::plackett_luce_cuda_blocks(rows) * n, kind == Order::kOutside ? 0 : NAN);
  drpm::PlackettLuceArgs<T> args{log_scores.data(),
                                 kind == Order::kNone ? nullptr : order.data(),
                                 want.data(),
                                 with_gradient ? want_grad.data() : nullptr,
                                 suffix.data(),
                                 ranked.data(),
                                 n};
  drpm::plackett_luce_rows(args, 0, rows);
  args.log_prob = got.data();
  if (with_gradient) args.grad_log_scores = got_grad.data();
  args.log_suffix_sum = scratch.data();
  args.ranked = nullptr;
  expect_launched("plackett_luce", drpm::plackett_luce_cuda(args, rows, nullptr));
  expect_close("log_prob", got, want, kRounding<T>);
  expect_close("grad_log_scores", got_grad, want_grad, sizeof(T) == 4 ? 4e-7 : 1e-12);
}

template <class T>
void all() {
  check<T>(3, 1, 1, Order::kValid);
  check<T>(4, 33, 1, Order::kNone);
  check<T>(4, 40, 30, Order::kValid, false);
  check<T>(3, 70, 1, Order::kDuplicate);
  check<T>(2, 70, 1, Order::kOutside);
  check<T>(2, 300, 2000, Order::kValid);
  check<T>(2, 600, 1, Order::kValid);
  check<T>(2, 0, 1, Order::kNone);
  if (!small_grids_only()) check<T>(1030, 2, 1, Order::kValid);
}

void body() {
  all<float>();
  all<double>();
}

DRPM_CUDA_DRIVER(body)
