#include <numeric>

#include "partition_marginals/boundary_law.h"
#include "partition_marginals/node_scratch.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

struct Case {
  int64_t rows, n, subsets, slots;
  double scale;
  int64_t capacity;   // of the last subset, the one before has one more; -1: n
  double odds = 0.7;  // standard deviation of log omega
};

// Outputs and scratch as the caller of either backend supplies them.
template <class T>
struct Buffers {
  explicit Buffers(const drpm::PartitionMarginalsArgs<T>& args, int64_t block_doubles)
      : size(args.num_subsets * args.n),
        marginals(poisoned<T>(args.rows * size)),
        grad_omega(poisoned<T>(args.rows * args.num_subsets)),
        grad_scores(poisoned<T>(args.rows * args.n)),
        top(unset(args.rows)),
        score(unset(args.rows * args.n)),
        law(unset(args.rows * drpm::DRPM_ISA::boundary_law_doubles(args.n, args.num_subsets))),
        density(unset(args.rows * (drpm::kMarginalBins + 2))),
        inside(unset(args.rows * size)),
        partial(unset(args.rows * args.slots * size)),
        sorted_grad(unset(args.rows * size)),
        partial_score(unset(args.rows * args.slots * args.n)),
        grad_inside(unset(args.rows * size)),
        block(unset(block_doubles)),
        map(args.rows) {
    std::memset(static_cast<void*>(map.data()), 0xff, map.size() * sizeof(drpm::MarginalMap));  // NaN until it is set
  }

  drpm::PartitionMarginalsArgs<T> in(drpm::PartitionMarginalsArgs<T> args) {
    args.marginals = marginals.data();
    args.grad_log_omega = grad_omega.data();
    args.grad_log_scores = grad_scores.data();
    args.top = top.data();
    args.score = score.data();
    args.law = law.data();
    args.density = density.data();
    args.map = map.data();
    args.inside = inside.data();
    args.partial = partial.data();
    args.sorted_grad = sorted_grad.data();
    args.partial_score = partial_score.data();
    args.grad_inside = grad_inside.data();
    args.block = block.data();
    return args;
  }

  int64_t size;
  Buffer<T> marginals, grad_omega, grad_scores;
  Buffer<double> top, score, law, density, inside, partial, sorted_grad, partial_score, grad_inside, block;
  Buffer<drpm::MarginalMap> map;
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
  drpm::PartitionMarginalsArgs<T> args{};
  args.rows = rows;
  args.n = n;
  args.num_subsets = subsets;
  args.log_scores = log_scores.data();
  args.order = order.data();
  args.log_omega = log_omega.data();
  args.m = m.data();
  args.rule = drpm::marginal_rule<T>();
  args.grad = grad.data();
  args.slots = c.slots;
  Buffers<T> device(args, items * drpm::DRPM_ISA::marginal_block_scratch(n, true));
  const auto on_device = device.in(args);
  args.slots = drpm::kMarginalSlots;
  Buffers<T> host(args, drpm::DRPM_ISA::node_scratch_doubles(n, subsets));
  const auto on_host = host.in(args);

  const double tolerance = sizeof(T) == 4 ? 4e-7 : 1e-13;
  expect_launched("forward", drpm::partition_marginals_cuda(on_device, nullptr));
  drpm::marginal_windows(on_host, 0, rows);
  drpm::marginal_nodes(on_host, 0, rows * args.slots);
  drpm::marginal_totals(on_host, 0, rows);
  expect_close("marginals", device.marginals, host.marginals, tolerance);
  expect_launched("backward", drpm::partition_marginals_backward_cuda(on_device, nullptr));
  drpm::marginal_sort_gradient(on_host, 0, rows);
  drpm::marginal_nodes_backward(on_host, 0, rows * args.slots);
  drpm::marginal_windows_backward(on_host, 0, rows);
  expect_close("grad_log_omega", device.grad_omega, host.grad_omega, 4 * tolerance);
  expect_close("grad_log_scores", device.grad_scores, host.grad_scores, 4 * tolerance);
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
