// Exactly k of n elements, drawn by a tree (mvhg/tree/tree.h). Schema: k_subset_sample.
#include <algorithm>

#include "glue/register.h"
#include "glue/scratch.h"
#include "k_subset_sample/k_subset_sample_rows.h"

namespace drpm {
namespace {

constexpr const char* kOp = "k_subset_sample";
constexpr int64_t kWaveDoubles = int64_t{1} << 27;  // of the laws of the rows in flight on a device: 1 GB

// A task of a phase with its scratch.
template <class F>
void with_scratch(int64_t doubles, int64_t begin, int64_t end, const F& f) {
  if (doubles == 0) return f(begin, end, nullptr);
  double* memory;
  const TaskScratch scratch([&](Carver& c) { memory = c.take<double>(doubles); });
  f(begin, end, memory);
}

struct Cpu {
  template <class T>
  static void run(TreeArgs<T> args, const int64_t* k, int64_t k_stride, int64_t samples, bool noise, const Tensor&) {
    if (args.batch == 1) {
      const TaskScratch scratch([&](Carver& c) { place_row(&c, samples, &args); });
      return draw_row(args, k[0], samples, noise, [](int64_t items, int64_t cost, int64_t doubles, const auto& f) {
        for_rows(items, cost, [&](int64_t begin, int64_t end) { with_scratch(doubles, begin, end, f); });
      });
    }
    for_rows(args.batch, args.shape.n * (100 + 40 * samples), [&](int64_t begin, int64_t end) {
      TreeArgs<T> task = args;
      const TaskScratch scratch([&](Carver& c) { place_row(&c, samples, &task); });
      for (int64_t row = begin; row < end; ++row) {
        task.log_weights = args.log_weights + row * args.shape.n;
        task.parameters = row;
        draw_row(task, k[row * k_stride], samples, noise,
                 [](int64_t items, int64_t, int64_t doubles, const auto& f) { with_scratch(doubles, 0, items, f); });
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
