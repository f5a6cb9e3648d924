#include "mvhg/tables/size_tables_cpu.h"
#include "mvhg/tree/tree_math.h"
#include "noise/noise_tile.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kCounts = kTreeLeaf + 1;

using Lanes = OddsOf<VD>;

template <class T>
void tilt_part(const TreeArgs<T>& args, int64_t stretch) {
  const int64_t begin = stretch * kTiltStretch, n = args.shape.n;
  const int64_t end = begin + kTiltStretch < n ? begin + kTiltStretch : n;
  constexpr double kHuge = __builtin_huge_val();
  TiltPart part{0, 0, -kHuge, kHuge, 0, 0, 0};
  VD small{}, variance{};
  for (int64_t i = begin; i < end; i += kVD) {
    double a[kVD];
    for (int64_t lane = 0; lane < kVD; ++lane) {
      const double w = i + lane < end ? static_cast<double>(args.log_weights[i + lane]) : -kHuge;
      a[lane] = w + args.tilt;
      if (w - w == 0) {
        ++part.finite;
        part.highest = w > part.highest ? w : part.highest;
        part.lowest = w < part.lowest ? w : part.lowest;
        part.whole += a[lane] >= 0;
      } else if (!(w < 0)) {
        ++part.invalid;
        a[lane] = -kHuge;
      }
    }
    const VD x = load<VD>(a);
    const Lanes odds = odds_lanes<VD>(x);
    small += x < 0 ? odds.p : -odds.q;
    variance += odds.p * odds.q;
  }
  part.small = sum_lanes<VD>(small);
  part.variance = sum_lanes<VD>(variance);
  args.parts[stretch] = part;
}

// Row of the noise and of the output.
template <class T>
int64_t drawn_row(const TreeArgs<T>& args, int64_t sample) {
  return (args.first_sample + sample) * args.batch + args.parameters;
}

// Probabilities of up to kVD leaves, one to a lane; elements that there are not have probability 0.
template <class T>
void leaf_odds(const TreeArgs<T>& args, int64_t leaf, int64_t leaves, Lanes* odds) {
  const int64_t n = args.shape.n;
  for (int j = 0; j < kTreeLeaf; ++j) {
    double a[kVD];
    for (int64_t lane = 0; lane < kVD; ++lane) {
      const int64_t i = (leaf + lane) * kTreeLeaf + j;
      a[lane] = lane < leaves && i < n ? static_cast<double>(args.log_weights[i]) + args.tilt : -__builtin_huge_val();
    }
    odds[j] = odds_lanes<VD>(load<VD>(a));
  }
}

__attribute__((noipa)) void keep_window(const double* values, int64_t low, int64_t size, int64_t most,
                                        int64_t* kept_low, int64_t* kept_size, double* kept) {
  const double threshold = largest_of(values, size) * exp_lane<double>(-kPlainCut);
  int64_t first = 0, last = size - 1;
  while (values[first] < threshold) ++first;
  while (values[last] < threshold) --last;
  const int64_t count = last - first + 1 < most ? last - first + 1 : most;  // tree_stride rules more out
  for (int64_t i = 0; i < count; ++i) kept[i] = values[first + i];
  *kept_low = low + first;
  *kept_size = count;
}

// f[x] = Pr[x of the leaf's elements], kVD leaves at once.                                            (Eq. 5)
template <class T>
void leaf_laws(const TreeArgs<T>& args, int64_t leaf, int64_t leaves) {
  Lanes odds[kTreeLeaf];
  leaf_odds(args, leaf, leaves, odds);
  VD f[kCounts] = {splat<VD>(1)};
  for (int j = 0; j < kTreeLeaf; ++j) {
    f[j + 1] = f[j] * odds[j].p;
    for (int x = j; x > 0; --x) f[x] = f[x] * odds[j].q + f[x - 1] * odds[j].p;
    f[0] *= odds[j].q;
  }
  for (int64_t lane = 0; lane < leaves; ++lane) {
    double law[kCounts];
    for (int x = 0; x < kCounts; ++x) law[x] = f[x][lane];
    const int64_t at = args.shape.first[0] + leaf + lane;
    keep_window(law, 0, kCounts, kCounts, args.tables.low + at, args.tables.size + at,
                args.tables.values + args.shape.at[0] + (leaf + lane) * kCounts);
  }
}

template <class T>
void merge_node(const TreeArgs<T>& args, int64_t node) {
  const TreeShape& shape = args.shape;
  const int level = args.level;
  const int64_t at = shape.first[level] + node;
  double* out = args.tables.values + shape.at[level] + node * shape.stride[level];
  const TreeLaw left = tree_law(shape, args.tables, level - 1, 2 * node);
  if (2 * node + 1 == shape.nodes[level - 1]) {
    args.tables.low[at] = left.low;
    args.tables.size[at] = left.size;
    for (int64_t i = 0; i < left.size; ++i) out[i] = left.value[i];
    return;
  }
  const TreeLaw right = tree_law(shape, args.tables, level - 1, 2 * node + 1);
  const TreeLaw &kernel = left.size < right.size ? left : right, &signal = left.size < right.size ? right : left;
  const int64_t taps = kernel.size, size = left.size + right.size - 1;
  const int64_t stride = shape.stride[level - 1];
  double *reversed = args.scratch, *padded = reversed + stride, *sum = padded + 3 * stride + 2 * kTile;
  for (int64_t i = 0; i < taps; ++i) reversed[i] = kernel.value[taps - 1 - i];
  pad_signal(signal.value, signal.size, taps - 1, taps - 1, padded);
  correlate(reversed, taps, padded, taps - 1, taps - 1 + signal.size, sum, size);
  keep_window(sum, left.low + right.low, size, shape.stride[level], args.tables.low + at, args.tables.size + at, out);
}

int64_t split_count(const TreeLaw& left, const TreeLaw& right, int64_t count, double u, double* cumulated) {
  const OutcomeWindow support = split_support(left, right, count);
  if (support.low > support.high) return negligible_split(left, right, count);
  return support.low + invert_product(left.value + (support.low - left.low),
                                      right.value + (count - support.low - right.low), support.high - support.low + 1,
                                      u, cumulated);
}

template <class T>
void split_node(const TreeArgs<T>& args, int64_t node) {
  const int64_t parents = args.shape.nodes[args.level], children = args.shape.nodes[args.level - 1];
  const bool single = 2 * node + 1 == children;
  const TreeLaw left = tree_law(args.shape, args.tables, args.level - 1, 2 * node);
  const TreeLaw right =
      single ? TreeLaw{0, 1, nullptr} : tree_law(args.shape, args.tables, args.level - 1, 2 * node + 1);
  for (int64_t sample = 0; sample < args.samples; ++sample) {
    const int64_t count = args.counts[sample * parents + node];
    int32_t* child = args.child_counts + sample * children + 2 * node;
    if (single) {
      child[0] = static_cast<int32_t>(count);
      continue;
    }
    const NoiseRow noise = noise_row(args.seeds, drawn_row(args, sample));
    const int64_t x = split_count(left, right, count, tree_uniform(noise, args.level, node), args.scratch);
    child[0] = static_cast<int32_t>(x);
    child[1] = static_cast<int32_t>(count - x);
  }
}

// The chain along the elements of up to kVD leaves: an element is taken with probability
// p_j s_{j+1}(r - 1) / s_j(r), s_j the law of the total of the elements from j on.                     (Eq. 7)
template <class T>
void draw_leaves(const TreeArgs<T>& args, int64_t leaf, int64_t leaves) {
  const int64_t n = args.shape.n, all = args.shape.nodes[0];
  Lanes odds[kTreeLeaf];
  leaf_odds(args, leaf, leaves, odds);
  VD* suffix = reinterpret_cast<VD*>(args.scratch);
  suffix[kTreeLeaf * kCounts] = splat<VD>(1);
  for (int j = kTreeLeaf - 1; j > 0; --j) {
    const VD* later = suffix + (j + 1) * kCounts;
    VD* here = suffix + j * kCounts;
    here[0] = later[0] * odds[j].q;
    for (int x = 1; x < kTreeLeaf - j; ++x) here[x] = later[x] * odds[j].q + later[x - 1] * odds[j].p;
    here[kTreeLeaf - j] = later[kTreeLeaf - 1 - j] * odds[j].p;
  }
  for (int64_t sample = 0; sample < args.samples; ++sample) {
    const int64_t row = drawn_row(args, sample);
    const NoiseRow noise = noise_row(args.seeds, row);
    for (int64_t lane = 0; lane < leaves; ++lane) {
      int64_t r = args.counts[sample * all + leaf + lane];
      const int64_t begin = (leaf + lane) * kTreeLeaf, count = n - begin < kTreeLeaf ? n - begin : kTreeLeaf;
      T* mask = args.mask + row * n + begin;
      double u[kCounts];
      uniform_tile<double>(noise, kStreamTree, 0, static_cast<uint64_t>(leaf + lane) * kCounts, u);
      for (int64_t j = 0; j < count; ++j) {
        const double* later = args.scratch + (j + 1) * kCounts * kVD + lane;
        const bool taken = takes_element(odds[j].p[lane], odds[j].q[lane], r, count - j, u[j],
                                         [later](int64_t x) { return later[x * kVD]; });
        mask[j] = static_cast<T>(taken ? 1 : 0);
        r -= taken ? 1 : 0;
      }
    }
  }
}

}  // namespace

#define DRPM_DEFINE_TREE(T)                                                                                           \
  void tree_tilt_part(const TreeArgs<T>& args, int64_t begin, int64_t end) {                                          \
    for (int64_t stretch = begin; stretch < end; ++stretch) tilt_part(args, stretch);                                 \
  }                                                                                                                   \
  void tree_leaves(const TreeArgs<T>& args, int64_t begin, int64_t end) {                                             \
    for (int64_t leaf = begin; leaf < end; leaf += kVD) leaf_laws(args, leaf, end - leaf < kVD ? end - leaf : kVD);   \
  }                                                                                                                   \
  void tree_merge(const TreeArgs<T>& args, int64_t begin, int64_t end) {                                              \
    for (int64_t node = begin; node < end; ++node) merge_node(args, node);                                            \
  }                                                                                                                   \
  void tree_split(const TreeArgs<T>& args, int64_t begin, int64_t end) {                                              \
    for (int64_t node = begin; node < end; ++node) split_node(args, node);                                            \
  }                                                                                                                   \
  void tree_leaf_draw(const TreeArgs<T>& args, int64_t begin, int64_t end) {                                          \
    for (int64_t leaf = begin; leaf < end; leaf += kVD) draw_leaves(args, leaf, end - leaf < kVD ? end - leaf : kVD); \
  }
DRPM_DEFINE_TREE(float)
DRPM_DEFINE_TREE(double)

}  // namespace DRPM_ISA
}  // namespace drpm
