#include "noise/gumbel_noise.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

template <class T>
void check(int64_t rows, int64_t classes, int64_t width, int64_t seeds = 1) {
  const Buffer<int64_t> seed{-123456789012345, 42, 7};
  auto got = poisoned<T>(rows * classes * width), want = poisoned<T>(rows * classes * width);
  drpm::GumbelNoiseArgs<T> args{{seed.data(), rows, rows / seeds}, 1, classes, width, want.data()};
  drpm::gumbel_noise_lines(args, 0, rows * classes);
  args.noise = got.data();
  expect_launched("gumbel_noise", drpm::gumbel_noise_cuda(args, rows * classes, nullptr));
  expect_close("gumbel_noise", got, want, kRounding<T>);
  const int64_t group = rows / seeds, values = group * classes * width;
  for (int64_t s = 0; s < seeds; ++s) {  // each seed as in a call of its own
    const Buffer<T> part(want.begin() + s * values, want.begin() + (s + 1) * values);
    auto alone = poisoned<T>(values);
    args.seeds = {seed.data() + s, group, group};
    args.noise = alone.data();
    drpm::gumbel_noise_lines(args, 0, group * classes);
    expect_close("gumbel_noise of one seed of several", part, alone, 0);
  }
}

template <class T>
void all() {
  check<T>(1, 1, 1);
  check<T>(2, 3, 5);
  check<T>(3, 2, 129);
  check<T>(1, 1, 2051);
  check<T>(3, 1, 516);  // whole vectors only
  check<T>(6, 2, 9, 3);
  check<T>(3, 1, 5, 3);
  check<T>(0, 3, 4);
  check<T>(2, 2, 0);
}

void body() {
  all<float>();
  all<double>();
}

DRPM_CUDA_DRIVER(body)
