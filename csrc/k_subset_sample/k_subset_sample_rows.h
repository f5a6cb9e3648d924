// Exactly k of n elements along one row: the tilt, the phases of the tree (mvhg/tree/tree.h), and what needs no tree.
#pragma once

#include "lanes/carver.h"
#include "mvhg/tree/tree_math.h"

namespace drpm {

constexpr int64_t kSamplesAtOnce = 64;  // counts of their nodes are held

inline int64_t stretches_of(const TreeShape& shape) { return (shape.n + kTiltStretch - 1) / kTiltStretch; }

// What a row needs; pages of `values` that the windows do not reach are never touched.
template <class T>
void place_row(Carver* carver, int64_t samples, TreeArgs<T>* args) {
  const TreeShape& shape = args->shape;
  const int64_t held = samples < kSamplesAtOnce ? samples : kSamplesAtOnce;
  args->parts = carver->take<TiltPart>(stretches_of(shape));
  args->tables.low = carver->take<int64_t>(shape.all_nodes);
  args->tables.size = carver->take<int64_t>(shape.all_nodes);
  args->counts = carver->take<int32_t>(held * shape.nodes[0]);
  args->child_counts = carver->take<int32_t>(held * shape.nodes[0]);
  args->tables.values = carver->take<double>(shape.all_values);
}

// The row's sums at args.tilt.
template <class T, class Spread>
TiltPart tilt_total(const TreeArgs<T>& args, const Spread& spread) {
  const int64_t stretches = stretches_of(args.shape);
  spread(stretches, 4 * kTiltStretch, 0,
         [&](int64_t begin, int64_t end, double*) { tree_tilt_part(args, begin, end); });
  TiltPart total = args.parts[0];
  for (int64_t i = 1; i < stretches; ++i) total += args.parts[i];
  return total;
}

// Unsigned numbers in the order of the values; zeros of both signs are equal.
inline uint32_t ordered_bits(float value) {
  uint32_t bits;
  value += 0.0f;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits >> 31 ? ~bits : bits | uint32_t{1} << 31;
}
inline uint64_t ordered_bits(double value) {
  uint64_t bits;
  value += 0.0;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits >> 63 ? ~bits : bits | uint64_t{1} << 63;
}

// mask = the k >= 1 largest weights, ties by index: the threshold that k of them reach, bit by bit.
template <class T>
void choose_largest(const T* log_weights, int64_t n, int64_t k, T* mask) {
  using Bits = decltype(ordered_bits(T{}));
  const auto count_from = [&](Bits least) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += ordered_bits(log_weights[i]) >= least;
    return count;
  };
  Bits threshold = 0;
  int64_t reached = n;
  for (int bit = 8 * sizeof(Bits) - 1; bit >= 0 && reached > k; --bit) {
    const Bits higher = threshold | Bits{1} << bit;
    const int64_t count = count_from(higher);
    if (count < k) continue;
    threshold = higher;
    reached = count;
  }
  int64_t surplus = reached - k;  // elements at the threshold beyond k: the last ones
  for (int64_t i = n - 1; i >= 0; --i) {
    const Bits bits = ordered_bits(log_weights[i]);
    const bool left = bits < threshold || (bits == threshold && surplus-- > 0);
    mask[i] = static_cast<T>(left ? 0 : 1);
  }
}

// One parameter row, all samples. `spread(items, cost, doubles, f)` runs f(begin, end, scratch) over the items of a
// phase, each task with so many doubles of scratch.
template <class T, class Spread>
void draw_row(TreeArgs<T> args, int64_t k, int64_t samples, bool noise, const Spread& spread) {
  const TreeShape& shape = args.shape;
  const int64_t n = shape.n;
  T* const first_mask = args.mask + args.parameters * n;
  const auto same_for_all = [&] {
    for (int64_t sample = 1; sample < samples; ++sample)
      for (int64_t i = 0; i < n; ++i) first_mask[sample * args.batch * n + i] = first_mask[i];
  };
  args.tilt = 0;
  const TiltPart whole = tilt_total(args, spread);
  const bool invalid = whole.invalid > 0 || k < 0 || k > whole.finite;
  if (invalid || k == 0 || k == whole.finite) {
    for (int64_t i = 0; i < n; ++i) {
      const bool chosen = k > 0 && args.log_weights[i] - args.log_weights[i] == 0;
      first_mask[i] = invalid ? static_cast<T>(__builtin_nan("")) : static_cast<T>(chosen ? 1 : 0);
    }
    return same_for_all();
  }
  if (!noise) {
    choose_largest(args.log_weights, n, k, first_mask);
    return same_for_all();
  }
  args.tilt = DRPM_ISA::find_tilt(
      static_cast<double>(k), static_cast<double>(whole.finite), whole.highest, whole.lowest, [&](double tilt) {
        args.tilt = tilt;
        const TiltPart part = tilt_total(args, spread);
        return DRPM_ISA::TiltSums{static_cast<double>(part.whole - k) + part.small, part.variance};
      });
  const auto phase = [&](int64_t items, int64_t cost, const auto& kernel) {
    spread(items, cost, tree_scratch(shape), [&](int64_t begin, int64_t end, double* scratch) {
      TreeArgs<T> task = args;
      task.scratch = scratch;
      kernel(task, begin, end);
    });
  };
  const auto leaves = [](const TreeArgs<T>& task, int64_t begin, int64_t end) { tree_leaves(task, begin, end); };
  const auto merge = [](const TreeArgs<T>& task, int64_t begin, int64_t end) { tree_merge(task, begin, end); };
  const auto split = [](const TreeArgs<T>& task, int64_t begin, int64_t end) { tree_split(task, begin, end); };
  const auto leaf_draw = [](const TreeArgs<T>& task, int64_t begin, int64_t end) { tree_leaf_draw(task, begin, end); };
  phase(shape.nodes[0], 8 * kTreeLeaf * kTreeLeaf, leaves);
  for (int level = 1; level < shape.levels; ++level) {
    args.level = level;
    const int64_t stride = shape.stride[level - 1];
    phase(shape.nodes[level], 200 + stride * stride / 8, merge);
  }
  for (int64_t first = 0; first < samples; first += kSamplesAtOnce) {
    args.first_sample = first;
    args.samples = samples - first < kSamplesAtOnce ? samples - first : kSamplesAtOnce;
    for (int64_t sample = 0; sample < args.samples; ++sample) args.counts[sample] = static_cast<int32_t>(k);
    for (int level = shape.levels - 1; level > 0; --level) {
      args.level = level;
      phase(shape.nodes[level], args.samples * (100 + 4 * shape.stride[level - 1]), split);
      int32_t* const children = args.child_counts;
      args.child_counts = args.counts;
      args.counts = children;
    }
    phase(shape.nodes[0], (8 + 20 * args.samples) * kTreeLeaf, leaf_draw);
  }
}

}  // namespace drpm
