// Draws of exactly k of n by the tree: the same masks from the same seed on both backends, and k of them.
#include <numeric>

#include "k_subset_sample/k_subset_sample_rows.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

template <class T>
void draw_on_device(const drpm::TreeArgs<T>& args, const Buffer<int64_t>& k, int64_t samples, const int64_t* order) {
  const drpm::TreeShape& shape = args.shape;
  const int64_t rows = args.batch, nodes = rows * shape.all_nodes, sums = drpm::tree_sums(shape);
  auto tilt = unset(rows), values = unset(rows * shape.all_values), convolutions = unset(rows * sums);
  auto low = poisoned<int64_t>(nodes), size = poisoned<int64_t>(nodes);
  auto counts = poisoned<int32_t>(rows * samples * shape.nodes[0]), child_counts = counts;
  Buffer<drpm::TreeRow> kind(rows, drpm::TreeRow::kInvalid);
  drpm::TreeCudaArgs<T> call{};
  call.shape = shape;
  call.rows = call.batch = rows;
  call.log_weights = args.log_weights;
  call.k = k.data();
  call.k_stride = k.size() > 1 ? 1 : 0;
  call.order = order;
  call.tilt = tilt.data();
  call.kind = kind.data();
  call.low = low.data();
  call.size = size.data();
  call.values = values.data();
  call.sums = convolutions.data();
  call.row_sums = sums;
  call.seeds = args.seeds;
  call.counts = counts.data();
  call.child_counts = child_counts.data();
  call.mask = args.mask;
  call.samples = samples;
  expect_launched("build", drpm::tree_build_cuda(call, nullptr));
  expect_launched("draw", drpm::tree_draw_cuda(call, nullptr));
}

template <class T>
void draw_on_host(drpm::TreeArgs<T> args, const Buffer<int64_t>& k, int64_t samples, bool noise) {
  const auto alone = [](int64_t items, int64_t, int64_t doubles, const auto& f) {
    auto scratch = unset(doubles);
    f(int64_t{0}, items, scratch.data());
  };
  drpm::Carver measure(nullptr);
  drpm::place_row(&measure, samples, &args);
  Buffer<char> memory(measure.size());
  drpm::Carver carver(memory.data());
  drpm::place_row(&carver, samples, &args);
  const T* log_weights = args.log_weights;
  for (int64_t row = 0; row < args.batch; ++row) {
    args.log_weights = log_weights + row * args.shape.n;
    args.parameters = row;
    drpm::draw_row(args, k[k.size() > 1 ? row : 0], samples, noise, alone);
  }
}

// Row r draws k + r; `spread` of the weights; a few of them are zero (-inf) or equal.
template <class T>
void check(int64_t rows, int64_t n, int64_t smallest, double spread, int64_t samples, bool noise) {
  Random random(rows * 7 + n * 3 + smallest);
  auto log_weights = random.normals<T>(rows * n, spread);
  for (T& weight : log_weights)
    if (random.below(10) == 0) weight = random.below(2) == 0 ? static_cast<T>(-INFINITY) : static_cast<T>(0.5);
  Buffer<int64_t> k(rows), possible(rows, 0), order(rows * n);
  for (int64_t row = 0; row < rows; ++row) {
    const T* x = log_weights.data() + row * n;
    for (int64_t i = 0; i < n; ++i) possible[row] += std::isfinite(static_cast<double>(x[i]));
    k[row] = smallest + row;  // more than possible: a row of NaN
    const auto begin = order.begin() + row * n;
    std::iota(begin, begin + n, 0);
    std::stable_sort(begin, begin + n, [x](int64_t a, int64_t b) { return x[a] > x[b]; });
  }
  const Buffer<int64_t> seed{static_cast<int64_t>(n * 11 + smallest)};
  auto device = poisoned<T>(samples * rows * n), host = device;
  drpm::TreeArgs<T> args{};
  args.shape = drpm::DRPM_ISA::tree_shape(n, n);
  args.log_weights = log_weights.data();
  args.seeds = {seed.data(), rows, rows};
  args.batch = rows;
  args.mask = device.data();
  draw_on_device(args, k, samples, noise ? nullptr : order.data());
  args.mask = host.data();
  draw_on_host(args, k, samples, noise);
  expect_close("mask", device, host, 0);
  for (int64_t line = 0; line < samples * rows; ++line) {
    const T* mask = host.data() + line * n;
    const int64_t row = line % rows;
    double chosen = 0;
    for (int64_t i = 0; i < n; ++i) chosen += static_cast<double>(mask[i]);
    if (k[row] > possible[row] ? !std::isnan(chosen) : chosen != static_cast<double>(k[row])) fail("number of chosen");
  }
}

template <class T>
void all() {
  for (const bool noise : {true, false}) {
    check<T>(3, 1, 0, 1, 2, noise);
    check<T>(4, 31, 0, 3, 3, noise);
    check<T>(3, 32, 15, 1, 33, noise);  // more samples than lanes
    check<T>(2, 100, 97, 60, 2, noise);
    if (!small_grids_only()) check<T>(1, 700, 50, 2, 5, noise);
  }
}

void body() {
  all<float>();
  all<double>();
}

DRPM_CUDA_DRIVER(body)
