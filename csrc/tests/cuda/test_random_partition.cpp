#include "random_partition/random_partition.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

template <class T>
void check_perturb(int64_t batch, int64_t samples, int64_t n, int64_t seeds, const Buffer<int64_t>& lengths) {
  const Buffer<int64_t> seed{-123456789012345, 42, 7};
  const auto scores = Random(3).normals<T>(batch * n, 2);
  const int64_t rows = samples * batch;
  auto got = poisoned<T>(rows * n), want = poisoned<T>(rows * n);
  drpm::PerturbArgs<T> args{scores.data(),
                            {seeds == 0 ? nullptr : seed.data(), batch, batch / (seeds < 1 ? 1 : seeds)},
                            {lengths.empty() ? nullptr : lengths.data(), lengths.size() > 1 ? 1 : 0},
                            64.0 * 0.7,
                            batch,
                            rows,
                            n,
                            want.data()};
  drpm::perturb_rows(args, 0, rows);
  args.perturbed = got.data();
  expect_launched("perturb", drpm::perturb_rows_cuda(args, nullptr));
  expect_close("perturb", got, want, kRounding<T>);
}

template <class T>
void check_mask(int64_t batch, int64_t samples, int64_t planes, int64_t n, const Buffer<int64_t>& lengths) {
  const int64_t rows = samples * batch;
  const auto from = Random(5).normals<T>(rows * planes * n, 1);
  auto got = poisoned<T>(rows * planes * n), want = poisoned<T>(rows * planes * n);
  Buffer<int64_t> got_labels(static_cast<size_t>(rows * n), 3), want_labels = got_labels;
  drpm::MaskArgs<T> args{{lengths.data(), lengths.size() > 1 ? 1 : 0},
                         batch,
                         rows,
                         planes,
                         n,
                         from.data(),
                         want.data(),
                         want_labels.data()};
  drpm::mask_rows(args, 0, rows);
  args.to = got.data();
  args.labels = got_labels.data();
  expect_launched("mask", drpm::mask_rows_cuda(args, nullptr));
  expect_close("mask", got, want, 0);
  if (got_labels != want_labels) fail("labels");
}

template <class T>
void all() {
  check_perturb<T>(1, 1, 1, 1, {});
  check_perturb<T>(3, 2, 37, 1, {});
  check_perturb<T>(2, 1, 1031, 1, {});
  check_perturb<T>(6, 2, 9, 3, {});
  check_perturb<T>(3, 2, 300, 1, {300, 0, 17});
  check_perturb<T>(2, 3, 5, 0, {3});
  check_perturb<T>(2, 1, 4, 1, {-1, 9});  // of a device, unchecked
  check_perturb<T>(0, 1, 4, 1, {});
  check_perturb<T>(2, 1, 0, 1, {});
  check_mask<T>(3, 2, 4, 37, {37, 0, 5});
  check_mask<T>(2, 1, 1, 300, {7});
}

void body() {
  all<float>();
  all<double>();
}

DRPM_CUDA_DRIVER(body)
