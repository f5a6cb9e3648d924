// Exactly k of n elements, drawn by a tree (mvhg/tree/tree.h). Schema: k_subset_sample.
#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "glue/register.h"
#include "glue/scratch.h"
#include "mvhg/tree/tree_math.h"

namespace drpm {
namespace {

constexpr const char* kOp = "k_subset_sample";
constexpr int64_t kSamplesAtOnce = 64;              // counts of their nodes are held
constexpr int64_t kWaveDoubles = int64_t{1} << 27;  // of the laws of the rows in flight on a device: 1 GB

int64_t stretches_of(const TreeShape& shape) { return (shape.n + kTiltStretch - 1) / kTiltStretch; }

// What a row needs; pages of `values` that the windows do not reach are never touched.
template <class T>
TaskScratch row_scratch(TreeArgs<T>* args, int64_t samples) {
  const TreeShape& shape = args->shape;
  return TaskScratch([&](Carver& c) {
    args->parts = c.take<TiltPart>(stretches_of(shape));
    args->tables.low = c.take<int64_t>(shape.all_nodes);
    args->tables.size = c.take<int64_t>(shape.all_nodes);
    args->counts = c.take<int32_t>(samples * shape.nodes[0]);
    args->child_counts = c.take<int32_t>(samples * shape.nodes[0]);
    args->tables.values = c.take<double>(shape.all_values);
  });
}

// The row's sums at args->tilt.
template <class T, class Spread>
TiltPart tilt_total(const TreeArgs<T>& args, const Spread& spread) {
  const int64_t stretches = stretches_of(args.shape);
  spread(stretches, 4 * kTiltStretch, [&](int64_t begin, int64_t end) { tree_tilt_part(args, begin, end); });
  TiltPart total = args.parts[0];
  for (int64_t i = 1; i < stretches; ++i) total += args.parts[i];
  return total;
}

// The k largest weights, ties by index.
template <class T, class Fill>
void choose_largest(const T* log_weights, int64_t n, int64_t k, const Fill& fill) {
  std::vector<T> sorted(log_weights, log_weights + n);
  std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<T>());
  const T last = sorted[k - 1];
  int64_t ties = k - std::count_if(log_weights, log_weights + n, [last](T w) { return w > last; });
  std::vector<bool> chosen(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) chosen[i] = log_weights[i] > last || (log_weights[i] == last && ties-- > 0);
  fill([&](int64_t i) { return static_cast<T>(chosen[i]); });
}

// One parameter row, all samples. `spread(items, cost, f)` runs f over the items of a phase.
template <class T, class Spread>
void draw_row(TreeArgs<T> args, int64_t k, int64_t samples, bool noise, const Spread& spread) {
  const TreeShape& shape = args.shape;
  const int64_t n = shape.n;
  const auto fill = [&](const auto& value) {
    for (int64_t sample = 0; sample < samples; ++sample) {
      T* mask = args.mask + (sample * args.batch + args.parameters) * n;
      for (int64_t i = 0; i < n; ++i) mask[i] = value(i);
    }
  };
  args.tilt = 0;
  const TiltPart whole = tilt_total(args, spread);
  if (whole.invalid > 0 || k < 0 || k > whole.finite)
    return fill([](int64_t) { return static_cast<T>(__builtin_nan("")); });
  if (k == 0 || k == whole.finite)
    return fill([&](int64_t i) { return static_cast<T>(k > 0 && args.log_weights[i] - args.log_weights[i] == 0); });
  if (!noise) return choose_largest(args.log_weights, n, k, fill);
  args.tilt = DRPM_ISA::find_tilt(
      static_cast<double>(k), static_cast<double>(whole.finite), whole.highest, whole.lowest, [&](double tilt) {
        args.tilt = tilt;
        const TiltPart part = tilt_total(args, spread);
        return DRPM_ISA::TiltSums{static_cast<double>(part.whole - k) + part.small, part.variance};
      });
  const auto with_scratch = [&args](const auto& phase) {
    return [&args, phase](int64_t begin, int64_t end) {
      TreeArgs<T> task = args;
      const TaskScratch scratch([&](Carver& c) { task.scratch = c.take<double>(tree_scratch(task.shape)); });
      phase(task, begin, end);
    };
  };
  const auto merge = [](const TreeArgs<T>& task, int64_t begin, int64_t end) { tree_merge(task, begin, end); };
  const auto split = [](const TreeArgs<T>& task, int64_t begin, int64_t end) { tree_split(task, begin, end); };
  const auto leaves = [](const TreeArgs<T>& task, int64_t begin, int64_t end) { tree_leaf_draw(task, begin, end); };
  spread(shape.nodes[0], 8 * kTreeLeaf * kTreeLeaf, [&](int64_t begin, int64_t end) { tree_leaves(args, begin, end); });
  for (int level = 1; level < shape.levels; ++level) {
    args.level = level;
    const int64_t stride = shape.stride[level - 1];
    spread(shape.nodes[level], 200 + stride * stride / 8, with_scratch(merge));
  }
  for (int64_t first = 0; first < samples; first += kSamplesAtOnce) {
    args.first_sample = first;
    args.samples = std::min(kSamplesAtOnce, samples - first);
    std::fill_n(args.counts, args.samples, static_cast<int32_t>(k));
    for (int level = shape.levels - 1; level > 0; --level) {
      args.level = level;
      spread(shape.nodes[level], args.samples * (100 + 4 * shape.stride[level - 1]), with_scratch(split));
      std::swap(args.counts, args.child_counts);
    }
    spread(shape.nodes[0], (8 + 20 * args.samples) * kTreeLeaf, with_scratch(leaves));
  }
}

struct Cpu {
  template <class T>
  static void run(TreeArgs<T> args, const int64_t* k, int64_t k_stride, int64_t samples, bool noise, const Tensor&) {
    const int64_t held = std::min(kSamplesAtOnce, samples);
    if (args.batch == 1) {
      const TaskScratch scratch = row_scratch(&args, held);
      const auto spread = [](int64_t items, int64_t cost, const auto& f) { for_rows(items, cost, f); };
      return draw_row(args, k[0], samples, noise, spread);
    }
    const auto alone = [](int64_t items, int64_t, const auto& f) { f(int64_t{0}, items); };
    for_rows(args.batch, args.shape.n * (100 + 40 * samples), [&](int64_t begin, int64_t end) {
      TreeArgs<T> task = args;
      const TaskScratch scratch = row_scratch(&task, held);
      for (int64_t row = begin; row < end; ++row) {
        task.log_weights = args.log_weights + row * args.shape.n;
        task.parameters = row;
        draw_row(task, k[row * k_stride], samples, noise, alone);
      }
    });
  }
};

struct Cuda {
  template <class T>
  static void run(const TreeArgs<T>& args, const int64_t* k, int64_t k_stride, int64_t samples, bool noise,
                  const Tensor& log_weights) {
    const TreeShape& shape = args.shape;
    const int64_t n = shape.n, sums = tree_sums(shape), held = noise ? std::min(kSamplesAtOnce, samples) : samples;
    const int64_t wave = std::max<int64_t>(1, std::min(args.batch, kWaveDoubles / (shape.all_values + sums)));
    TreeCudaArgs<T> call{};
    Tensor order;
    if (!noise) order = std::get<1>(stable_sort(log_weights, true));
    const Tensor memory = carve(log_weights, [&](Carver& c) {
      call.tilt = c.take<double>(wave);
      call.kind = c.take<TreeRow>(wave);
      if (!noise) return;
      call.low = c.take<int64_t>(wave * shape.all_nodes);
      call.size = c.take<int64_t>(wave * shape.all_nodes);
      call.values = c.take<double>(wave * shape.all_values);
      call.sums = c.take<double>(wave * sums);
      call.counts = c.take<int32_t>(wave * held * shape.nodes[0]);
      call.child_counts = c.take<int32_t>(wave * held * shape.nodes[0]);
    });
    call.shape = shape;
    call.row_sums = sums;
    call.k_stride = k_stride;
    call.seeds = args.seeds;
    call.batch = args.batch;
    call.mask = args.mask;
    launch_on(kOp, log_weights, [&](void* stream) {
      int error = 0;
      for (int64_t row = 0; row < args.batch && error == 0; row += wave) {
        call.rows = std::min(wave, args.batch - row);
        call.parameters = row;
        call.log_weights = args.log_weights + row * n;
        call.k = k + row * k_stride;
        call.order = noise ? nullptr : order.const_data_ptr<int64_t>() + row * n;
        error = tree_build_cuda(call, stream);
        for (call.first_sample = 0; call.first_sample < samples && error == 0; call.first_sample += held) {
          call.samples = std::min(held, samples - call.first_sample);
          error = tree_draw_cuda(call, stream);
        }
      }
      return error;
    });
  }
};

template <class Backend>
Tensor k_subset_sample(const Tensor& log_weights, const Tensor& k, const Tensor& seed, int64_t samples, bool noise,
                       int64_t largest_k) {
  check_score_rows(kOp, "log_weights", log_weights);
  const int64_t rows = log_weights.size(0), n = log_weights.size(1), counts = k.numel();
  DRPM_CHECK(counts == 1 || counts == rows, kOp, "k", "hold one count, or one for each row", counts);
  Tensor mask = new_tensor(log_weights, {samples * rows, n});
  if (samples == 0 || rows == 0 || n == 0) return mask;
  by_dtype(log_weights, [&](auto zero) {
    using T = decltype(zero);
    TreeArgs<T> args{};
    args.shape = DRPM_ISA::tree_shape(n, largest_k < 0 ? n : std::min(largest_k, n));
    args.log_weights = checked_data<T>(kOp, "log_weights", log_weights, rows * n);
    args.seeds = checked_seeds(kOp, seed, rows);
    args.batch = rows;
    args.mask = mask.mutable_data_ptr<T>();
    Backend::run(args, checked_data<int64_t>(kOp, "k", k, counts), counts > 1 ? 1 : 0, samples, noise, log_weights);
  });
  return mask;
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) { m.impl("k_subset_sample", TORCH_BOX(&drpm::k_subset_sample<Backend>)); }
