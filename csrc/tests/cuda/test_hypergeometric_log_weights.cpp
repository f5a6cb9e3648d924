#include "mvhg/two_class/hypergeometric_log_weights.h"
#include "special/log_factorial_cuda.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

// Counts around every edge of the support, invalid ones included.
struct Counts {
  Buffer<int64_t> m_left, m_right, n;
};

Counts make_counts(Random& random, int64_t rows, int64_t most) {
  Counts c;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t left = random.below(most + 1), right = random.below(most + 1);
    c.m_left.push_back(left);
    c.m_right.push_back(row % 7 == 6 ? -1 : right);
    const int64_t total = left + right;
    c.n.push_back(row % 4 == 0 ? 0 : row % 4 == 1 ? total : row % 11 == 10 ? total + 1 : random.below(total + 1));
  }
  return c;
}

template <class T>
void check(int64_t rows, int64_t most) {
  Random random(rows * 1000 + most);
  const Counts c = make_counts(random, rows, most);
  const int64_t width = most + 1;
  const auto left = random.normals<T>(rows, 3), right = random.normals<T>(rows, 3);
  auto got = poisoned<T>(rows * width), want = poisoned<T>(rows * width);
  drpm::HypergeometricLogWeightsArgs<T> args{
      left.data(), right.data(), c.m_left.data(), c.m_right.data(),
      c.n.data(),  want.data(),  width,           drpm::log_factorial_table(width)};
  drpm::hypergeometric_log_weights_rows(args, 0, rows);
  const int64_t size = drpm::device_table_size(width);
  auto table = poisoned<double>(size);
  expect_launched("log-factorials", drpm::fill_log_factorials_cuda(table.data(), size, nullptr));
  const drpm::LogFactorialTable host = drpm::log_factorial_table(size);
  expect_close("log-factorials", table, Buffer<double>(host.value, host.value + size), 4e-16);
  args.log_weights = got.data();
  args.log_factorials = {table.data(), size};
  expect_launched("log_weights", drpm::hypergeometric_log_weights_cuda(args, rows, nullptr));
  expect_close("log_weights", got, want, kRounding<T>);

  const auto grad = random.normals<T>(rows * width, 1);
  auto got_left = poisoned<T>(rows), got_right = poisoned<T>(rows);
  auto want_left = poisoned<T>(rows), want_right = poisoned<T>(rows);
  drpm::HypergeometricLogWeightsBackwardArgs<T> back{
      grad.data(), c.m_left.data(), c.m_right.data(), c.n.data(), want_left.data(), want_right.data(), width};
  drpm::hypergeometric_log_weights_backward_rows(back, 0, rows);
  back.grad_log_omega_left = got_left.data();
  back.grad_log_omega_right = got_right.data();
  expect_launched("backward", drpm::hypergeometric_log_weights_backward_cuda(back, rows, nullptr));
  expect_close("grad_log_omega_left", got_left, want_left, kRounding<T>);
  expect_close("grad_log_omega_right", got_right, want_right, kRounding<T>);
}

template <class T>
void all() {
  check<T>(12, 0);
  check<T>(16, 1);
  check<T>(13, 40);
  check<T>(5, 300);
  check<T>(0, 3);
}

void body() {
  all<float>();
  all<double>();
}

DRPM_CUDA_DRIVER(body)
