// Subset weights against their definition in double.
#include <numeric>

#include "partition/partition.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

template <class T>
void check(int64_t rows, int64_t n, int64_t classes, double tau, bool whole) {
  Random random(rows * 5 + n * 11 + classes);
  const double eps = 0.5;
  Buffer<T> sizes(rows * classes);
  for (T& size : sizes) {
    const double x = 2.0 * static_cast<double>(n) / static_cast<double>(classes) * random.uniform();
    size = static_cast<T>(whole ? std::floor(x) : x);
  }
  Buffer<int64_t> order(rows * n);
  for (int64_t row = 0; row < rows; ++row) {
    int64_t* o = order.data() + row * n;
    std::iota(o, o + n, 0);
    for (int64_t i = n - 1; i > 0; --i) std::swap(o[i], o[random.below(i + 1)]);
  }
  const int64_t size = rows * classes * n;
  const auto grad_alpha = random.normals<T>(size, 1);
  const auto scores = random.normals<T>(rows * n, 1);  // of which only whether they are finite counts here
  auto boundary = unset(rows * classes), rest = unset(rows * classes);
  auto cut = poisoned<int64_t>(rows * classes), position_label = poisoned<int64_t>(rows * n),
       labels = poisoned<int64_t>(rows * n);
  auto assignment = poisoned<T>(size), alpha = poisoned<T>(size), grad_sizes = poisoned<T>(rows * classes),
       grad_scores = poisoned<T>(rows * n);
  drpm::PartitionCudaArgs<T> args{};
  args.rows = rows;
  args.n = n;
  args.classes = classes;
  args.tau = tau;
  args.eps = eps;
  args.scores = scores.data();
  args.sizes = sizes.data();
  args.order = order.data();
  args.boundary = boundary.data();
  args.rest = rest.data();
  args.cut = cut.data();
  args.position_label = position_label.data();
  args.labels = labels.data();
  args.assignment = assignment.data();
  args.alpha = alpha.data();
  args.grad_alpha = grad_alpha.data();
  args.grad_sizes = grad_sizes.data();
  args.grad_scores = grad_scores.data();
  expect_launched("labels", drpm::partition_labels_cuda(args, nullptr));
  expect_launched("assignment", drpm::partition_assignment_cuda(args, nullptr));
  expect_launched("alpha", drpm::partition_alpha_cuda(args, nullptr));
  expect_launched("sizes gradient", drpm::partition_sizes_gradient_cuda(args, nullptr));

  Buffer<int64_t> want_position(rows * n), want_labels(rows * n);
  Buffer<T> want_assignment(size, 0), want_alpha(size), want_grad(rows * classes, 0);
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<double> nu(classes);
    double sum = 0;
    for (int64_t k = 0; k < classes; ++k) nu[k] = sum += static_cast<double>(sizes[row * classes + k]);
    const auto soft = [&](int64_t k, int64_t i) {
      if (k < 0) return 0.0;
      if (k == classes - 1) return 1.0;
      return 1 / (1 + std::exp(-(nu[k] - static_cast<double>(i + 1) + eps) / tau));
    };
    for (int64_t i = 0; i < n; ++i) {
      int64_t k = 0;
      while (k + 1 < classes && !(nu[k] - static_cast<double>(i + 1) + eps > 0)) ++k;
      const int64_t element = order[row * n + i];
      want_position[row * n + i] = want_labels[row * n + element] = k;
      want_assignment[(row * classes + k) * n + element] = 1;
      for (int64_t c = 0; c < classes; ++c)
        want_alpha[(row * classes + c) * n + i] = static_cast<T>(soft(c, i) - soft(c - 1, i));
    }
    double suffix = 0;
    for (int64_t k = classes - 2; k >= 0; --k) {
      for (int64_t i = 0; i < n; ++i) {
        const double f = soft(k, i);
        const T* grad = grad_alpha.data() + (row * classes + k) * n + i;
        suffix += f * (1 - f) / tau * (static_cast<double>(grad[0]) - static_cast<double>(grad[n]));
      }
      want_grad[row * classes + k] = static_cast<T>(suffix);
    }
  }
  expect_close("position_label", position_label, want_position, 0);
  expect_close("labels", labels, want_labels, 0);
  expect_close("assignment", assignment, want_assignment, 0);
  expect_close("alpha", alpha, want_alpha, sizeof(T) == 4 ? 2e-7 : 1e-14);
  expect_close("grad_sizes", grad_sizes, want_grad, sizeof(T) == 4 ? 4e-7 : 1e-12);
}

template <class T>
void all() {
  check<T>(2, 1, 1, 1, true);
  check<T>(3, 7, 3, 1, true);
  check<T>(2, 70, 5, 0.3, false);
  check<T>(2, 300, 4, 20, true);
  check<T>(2, 33, 12, 1, false);
}

void body() {
  all<float>();
  all<double>();
}

DRPM_CUDA_DRIVER(body)
