#include <numeric>

#include "partition_marginals/partition_marginals_cuda.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

struct Case {
  int64_t rows, n, subsets, slots;
  double scale;
  int64_t capacity;   // of the last subset, the one before has one more; -1: n
  double odds = 0.7;  // standard deviation of log omega
};

// Everything that the CPU kernels make of one row, in the order of the elements.
template <class T>
struct Reference {
  Reference(const drpm::PartitionMarginalsCudaArgs<T>& device, int64_t row, const T* grad)
      : n(device.n),
        subsets(device.num_subsets),
        score(n),
        omega(subsets),
        inside(subsets * n),
        map(1),
        partial(drpm::kMarginalBlocks * subsets * n),
        sorted_grad(subsets * n),
        partial_score(drpm::kMarginalBlocks * n),
        grad_inside(subsets * n),
        grad_omega(subsets),
        scratch(drpm::partition_marginals_scratch(n, subsets)) {
    const int64_t* order = device.order + row * n;
    const T* x = device.log_scores + row * n;
    for (int64_t i = 0; i < n; ++i) score[i] = double(x[order[i]]) - double(x[order[0]]);
    for (int64_t k = 0; k < subsets; ++k) omega[k] = device.log_omega[row * subsets + k];
    for (int64_t k = 0; k < subsets; ++k)
      for (int64_t i = 0; i < n; ++i) sorted_grad[k * n + i] = grad[(row * subsets + k) * n + order[i]];
    drpm::PartitionMarginalsArgs args{};
    args.score = score.data();
    args.log_omega = omega.data();
    args.m = device.m + row * subsets;
    args.n = n;
    args.num_subsets = subsets;
    args.rule = device.rule;
    args.inside = inside.data();
    args.map = map.data();
    args.partial = partial.data();
    args.grad = sorted_grad.data();
    args.grad_inside = grad_inside.data();
    args.partial_score = partial_score.data();
    args.grad_log_omega = grad_omega.data();
    args.scratch = scratch.data();
    drpm::marginal_windows(args, 0, 1);
    drpm::marginal_nodes(args, 0, drpm::kMarginalBlocks);
    marginals = summed(partial, subsets * n);
    args.partial_inside = partial.data();
    drpm::marginal_nodes_backward(args, 0, drpm::kMarginalBlocks);
    grad_inside = summed(partial, subsets * n);
    args.grad_inside = grad_inside.data();
    grad_score = summed(partial_score, n);
    drpm::marginal_windows_backward(args, 0, 1);
  }

  static std::vector<double> summed(const std::vector<double>& partial, int64_t size) {
    std::vector<double> sum(size, 0.0);
    for (size_t i = 0; i < partial.size(); ++i) sum[i % size] += partial[i];
    return sum;
  }

  int64_t n, subsets;
  std::vector<double> score, omega, inside;
  std::vector<drpm::MarginalMap> map;
  std::vector<double> partial, sorted_grad, partial_score, grad_inside, grad_omega, scratch, marginals, grad_score;
};

template <class T>
void check(const Case& c) {
  const int64_t rows = c.rows, n = c.n, subsets = c.subsets, size = subsets * n, items = rows * c.slots;
  Random random(rows * 7 + n * 3 + subsets);
  const auto log_scores = random.normals<T>(rows * n, c.scale), log_omega = random.normals<T>(rows * subsets, c.odds);
  const auto grad = random.normals<T>(rows * size, 1);
  Buffer<int64_t> m(rows * subsets), order(rows * n);
  for (int64_t i = 0; i < rows * subsets; ++i) m[i] = c.capacity < 0 ? n : c.capacity + subsets - 1 - i % subsets;
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = order.begin() + row * n;
    const T* x = log_scores.data() + row * n;
    std::iota(begin, begin + n, 0);
    std::stable_sort(begin, begin + n, [x](int64_t a, int64_t b) { return x[a] > x[b]; });
  }
  auto marginals = poisoned<T>(rows * size), grad_omega = poisoned<T>(rows * subsets),
       grad_scores = poisoned<T>(rows * n);
  auto score = unset(rows * n), tables = unset(rows * drpm::marginal_table_scratch(n, subsets));
  Buffer<drpm::MarginalMap> map(rows);
  std::memset(static_cast<void*>(map.data()), 0xff, map.size() * sizeof(drpm::MarginalMap));  // NaN until it is set
  auto inside = unset(rows * size), block = unset(items * drpm::marginal_block_scratch(n, true));
  auto partial = unset(items * size), sorted_grad = unset(rows * size);
  auto partial_score = unset(items * n), grad_inside = unset(rows * size);
  drpm::PartitionMarginalsCudaArgs<T> args{};
  args.rows = rows;
  args.n = n;
  args.num_subsets = subsets;
  args.slots = c.slots;
  args.log_scores = log_scores.data();
  args.order = order.data();
  args.log_omega = log_omega.data();
  args.m = m.data();
  args.rule = sizeof(T) == 8 ? drpm::kMarginalRule64 : drpm::kMarginalRule32;
  args.marginals = marginals.data();
  args.grad = grad.data();
  args.grad_log_omega = grad_omega.data();
  args.grad_log_scores = grad_scores.data();
  args.score = score.data();
  args.tables = tables.data();
  args.map = map.data();
  args.inside = inside.data();
  args.block = block.data();
  args.partial = partial.data();
  args.sorted_grad = sorted_grad.data();
  args.partial_score = partial_score.data();
  args.grad_inside = grad_inside.data();
  Buffer<T> want(rows * size), want_omega(rows * subsets), want_scores(rows * n);
  for (int64_t row = 0; row < rows; ++row) {
    const Reference<T> reference(args, row, grad.data());
    for (int64_t k = 0; k < subsets; ++k) {
      want_omega[row * subsets + k] = static_cast<T>(reference.grad_omega[k]);
      for (int64_t i = 0; i < n; ++i)
        want[row * size + k * n + order[row * n + i]] = static_cast<T>(reference.marginals[k * n + i]);
    }
    for (int64_t i = 0; i < n; ++i) want_scores[row * n + order[row * n + i]] = static_cast<T>(reference.grad_score[i]);
  }
  const double tolerance = sizeof(T) == 4 ? 4e-7 : 1e-13;
  expect_launched("forward", drpm::partition_marginals_cuda(args, nullptr));
  expect_close("marginals", marginals, want, tolerance);
  expect_launched("backward", drpm::partition_marginals_backward_cuda(args, nullptr));
  expect_close("grad_log_omega", grad_omega, want_omega, 4 * tolerance);
  expect_close("grad_log_scores", grad_scores, want_scores, 4 * tolerance);
}

void body() {
  check<double>({1, 1, 1, 8, 1, -1});
  check<double>({1, 6, 3, 9, 2, -1});
  check<float>({1, 40, 11, 8, 6, 8});
  if (small_grids_only()) return;
  check<double>({2, 6, 3, 9, 2, -1});
  check<float>({2, 6, 3, 9, 2, 3});
  check<float>({2, 7, 2, 8, 1, 1});  // impossible counts
  check<double>({1, 40, 3, 16, 1, -1});
  check<double>({1, 12, 7, 8, 1, -1});  // subsets in groups of eight: one less, one more
  check<double>({1, 12, 9, 8, 1, -1});
  check<float>({1, 129, 3, 8, 1, -1});       // two tiles, one element in the second; laws that begin above 0
  check<double>({1, 128, 3, 8, 1, 50});      // whole tiles, capacities that bind
  check<double>({1, 65, 3, 8, 1, -1, 3.0});  // a subset that is nearly empty
}

DRPM_CUDA_DRIVER(body)
