#include <numeric>

#include "partition_mode/partition_mode_math.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

// Everything but the inputs as the caller of either backend supplies it.
template <class T>
struct Buffers {
  explicit Buffers(const drpm::PartitionModeArgs<T>& args)
      : node_scale(unset(args.nodes)),
        node_base(unset(args.nodes)),
        top(unset(args.rows)),
        score(unset(args.rows * args.n)),
        rest(unset(args.rows * (args.n + 1))),
        interval(poisoned<double>(args.rows * args.n * (args.n + 1) / 2)),
        weight(unset(args.rows * args.num_subsets * (args.n + 1))),
        best(unset(args.rows * 2 * (args.n + 1))),
        node_scratch(unset(drpm::mode_node_scratch(args.nodes))),
        start(poisoned<int32_t>(args.rows * args.num_subsets * (args.n + 1))),
        cut(poisoned<int64_t>(args.rows * (args.num_subsets + 1))),
        labels(poisoned<int64_t>(args.rows * args.n)) {}

  drpm::PartitionModeArgs<T> in(drpm::PartitionModeArgs<T> args) {
    args.node_scale = node_scale.data();
    args.node_base = node_base.data();
    args.top = top.data();
    args.score = score.data();
    args.log_rest = rest.data();
    args.interval = interval.data();
    args.weight = weight.data();
    args.best = best.data();
    args.start = start.data();
    args.cut = cut.data();
    args.labels = labels.data();
    args.node_scratch = node_scratch.data();
    return args;
  }

  Buffer<double> node_scale, node_base, top, score, rest, interval, weight, best, node_scratch;
  Buffer<int32_t> start;
  Buffer<int64_t> cut, labels;
};

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
  const auto factorials = drpm::log_factorial_table(n + 1);
  const Buffer<double> table(factorials.value, factorials.value + n + 1);
  drpm::PartitionModeArgs<T> args{};
  args.log_scores = log_scores.data();
  args.order = order.data();
  args.log_omega = log_omega.data();
  args.m = m.data();
  args.rows = rows;
  args.n = n;
  args.num_subsets = subsets;
  args.nodes = drpm::DRPM_ISA::mode_node_count(n);
  args.log_factorials = {table.data(), n + 1};
  Buffers<T> device(args), host(args);
  expect_launched("partition_mode", drpm::partition_mode_cuda(device.in(args), nullptr));
  const auto on_host = host.in(args);
  drpm::partition_mode_nodes(on_host, 0, args.nodes);
  drpm::partition_mode_remainders(on_host, 0, rows);
  drpm::partition_mode_intervals(on_host, 0, rows * n);
  drpm::partition_mode_labels(on_host, 0, rows);
  expect_close("intervals", device.interval, host.interval, 1e-13);
  expect_close("labels", device.labels, host.labels, 0);
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
