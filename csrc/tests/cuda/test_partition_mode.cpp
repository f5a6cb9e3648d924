#include <cmath>
#include <numeric>

#include "partition_mode/partition_mode_cuda.h"
#include "partition_mode/partition_mode_math.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

// The most probable labels by the CPU kernel, and its factors.
template <class T>
void reference(const drpm::PartitionModeCudaArgs<T>& args, const double* node_scale, const double* node_base,
               Buffer<double>* interval, Buffer<int64_t>* labels) {
  const int64_t n = args.n, subsets = args.num_subsets, intervals = n * (n + 1) / 2;
  std::vector<double> scratch(drpm::partition_mode_scratch(n, subsets, args.nodes));
  for (int64_t row = 0; row < args.rows; ++row) {
    std::vector<double> score(n), rest(n + 1), omega(subsets);
    std::vector<int32_t> order(args.order + row * n, args.order + (row + 1) * n);
    rest[n] = -HUGE_VAL;
    for (int64_t i = n - 1; i >= 0; --i) {
      score[i] = args.log_scores[row * n + order[i]];
      rest[i] = score[i] + std::log1p(std::exp(rest[i + 1] - score[i]));
    }
    for (int64_t k = 0; k < subsets; ++k) omega[k] = args.log_omega[row * subsets + k];
    drpm::PartitionModeArgs host{};
    host.score = score.data();
    host.order = order.data();
    host.log_rest = rest.data();
    host.log_omega = omega.data();
    host.m = args.m + row * subsets;
    host.n = n;
    host.num_subsets = subsets;
    host.node_scale = node_scale;
    host.node_base = node_base;
    host.nodes = args.nodes;
    host.log_factorials = drpm::log_factorial_table(n + 1);
    host.interval = interval->data() + row * intervals;
    host.labels = labels->data() + row * n;
    host.scratch = scratch.data();
    drpm::partition_mode_intervals(host, 0, n);
    drpm::partition_mode_labels(host, 0, 1);
  }
}

template <class T>
void check(int64_t rows, int64_t n, int64_t subsets, double scale, int64_t capacity) {
  Random random(rows * 13 + n * 5 + subsets);
  const auto log_scores = random.normals<T>(rows * n, scale), log_omega = random.normals<T>(rows * subsets, 0.7);
  Buffer<int64_t> m(rows * subsets), order(rows * n);
  for (int64_t& count : m) count = capacity < 0 ? n : capacity + random.below(3);
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = order.begin() + row * n;
    const T* x = log_scores.data() + row * n;
    std::iota(begin, begin + n, 0);
    std::stable_sort(begin, begin + n, [x](int64_t a, int64_t b) { return x[a] > x[b]; });
  }
  const int64_t nodes = drpm::isa_baseline::mode_node_count(n), width = n + 1, intervals = n * (n + 1) / 2;
  const auto factorials = drpm::log_factorial_table(n + 1);
  const Buffer<double> table(factorials.value, factorials.value + n + 1);
  auto node_scale = unset(nodes), node_base = unset(nodes);
  auto score = unset(rows * n), rest = unset(rows * width);
  auto interval = poisoned<double>(rows * intervals), weight = unset(rows * subsets * width);
  auto best = unset(rows * 2 * width);
  auto start = poisoned<int64_t>(rows * subsets * width), cut = poisoned<int64_t>(rows * (subsets + 1));
  auto labels = poisoned<int64_t>(rows * n), want_labels = labels;
  drpm::PartitionModeCudaArgs<T> args{rows,
                                      n,
                                      subsets,
                                      nodes,
                                      log_scores.data(),
                                      order.data(),
                                      log_omega.data(),
                                      m.data(),
                                      labels.data(),
                                      {table.data(), n + 1},
                                      node_scale.data(),
                                      node_base.data(),
                                      score.data(),
                                      rest.data(),
                                      interval.data(),
                                      weight.data(),
                                      best.data(),
                                      start.data(),
                                      cut.data()};
  expect_launched("partition_mode", drpm::partition_mode_cuda(args, nullptr));
  auto want = poisoned<double>(rows * intervals);
  reference(args, node_scale.data(), node_base.data(), &want, &want_labels);
  expect_close("intervals", interval, want, 1e-13);
  expect_close("labels", labels, want_labels, 0);
}

template <class T>
void all() {
  check<T>(1, 1, 1, 1, -1);
  check<T>(3, 5, 3, 1, -1);
  check<T>(2, 37, 4, 2, -1);
  check<T>(2, 20, 3, 30, 6);
  check<T>(2, 12, 3, 1, 1);    // mostly impossible
  check<T>(1, 64, 5, 1, 12);   // whole warps, capacities that bind
  check<T>(1, 70, 2, 1, -1);   // several candidates a lane
  check<T>(3, 3, 5, 1, 0);     // subsets without capacity
  check<T>(5, 4, 6, 0.3, -1);  // empty subsets compete
}

void body() {
  all<float>();
  all<double>();
  if (!small_grids_only()) check<double>(1, 257, 2, 1, -1);  // one element more than threads in a block
}

DRPM_CUDA_DRIVER(body)
