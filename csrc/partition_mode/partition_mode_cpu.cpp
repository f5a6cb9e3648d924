#include "partition_mode/partition_mode_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kWidth = Lane<VecD>::kWidth;
constexpr double kInfinity = __builtin_huge_val();

template <class T>
void remainders(const PartitionModeArgs<T>& args, int64_t row) {
  const int64_t n = args.n;
  double *score = args.score + row * n, *log_rest = args.log_rest + row * (n + 1);
  double* best = args.best + 2 * row * (n + 1);
  args.top[row] = mode_top(Alone(), args, row);
  const double largest = args.log_scores[row * n + args.order[row * n]];
  log_rest[n] = -kInfinity;
  for (int64_t i = n - 1; i >= 0; --i) {
    score[i] = reduced(args.log_scores[row * n + args.order[row * n + i]], largest);
    log_rest[i] = log_add(score[i], log_rest[i + 1]);
  }
  for (int64_t b = 0; b <= n; ++b) best[b] = b == 0 ? 0 : -kInfinity;  // of no subset
}

// The nodes are shared by all intervals that end at b, so adding element a multiplies one factor to each node.(Eq. 17)
template <class T>
void intervals(const PartitionModeArgs<T>& args, int64_t item) {
  const int64_t n = args.n, row = item / n, b = item % n + 1;
  const double* score = args.score + row * n;
  double* out = args.interval + row * interval_begin(n + 1) + interval_begin(b);
  const double log_rest = args.log_rest[row * (n + 1) + b];
  if (b == n) {  // nothing is left
    for (int64_t a = 0; a < b; ++a) out[a] = 0;
    return;
  }
  const int64_t padded = (args.nodes + kWidth - 1) / kWidth * kWidth;
  double *scale = args.node_scratch, *log_value = scale + padded, *value = log_value + padded,
         *product = value + padded;
  for (int64_t j = 0; j < padded; ++j) {
    scale[j] = j < args.nodes ? args.node_scale[j] : 1;
    log_value[j] = j < args.nodes ? args.node_base[j] : -1e30;
    product[j] = 1;
  }
  double reference = 0;
  int64_t first = 0;
  int terms = kModeFlush;
  for (int64_t a = b - 1; a >= 0; --a) {
    if (terms == kModeFlush) {
      terms = 0;
      reference = -kInfinity;
      for (int64_t j = first; j < padded; j += kWidth) {
        const VecD now = load<VecD>(log_value + j) + log_lane<VecD>(load<VecD>(product + j));
        store<VecD>(log_value + j, now);
        store<VecD>(product + j, splat<VecD>(1));
        const double largest = max_over_lanes<VecD>(now);
        reference = largest > reference ? largest : reference;
      }
      for (int64_t j = first; j < padded; j += kWidth)
        store<VecD>(value + j, exp_lane<VecD>(load<VecD>(log_value + j) - reference));
      // a node on the left loses against those on its right with every further element
      while (first + kWidth < padded && max_over_lanes<VecD>(load<VecD>(value + first)) < 1e-20) first += kWidth;
    }
    ++terms;
    const double point = mode_point(score[a] - log_rest);
    VecD sum = splat<VecD>(0);
    for (int64_t j = first; j < padded; j += kWidth) {
      const VecD u = mode_factor<VecD>(load<VecD>(scale + j), point) * load<VecD>(product + j);
      store<VecD>(product + j, u);
      sum = fmadd<VecD>(u, load<VecD>(value + j), sum);
    }
    out[a] = reference + log_lane<double>(sum_lanes<VecD>(sum));
  }
}

template <class T>
void labels(const PartitionModeArgs<T>& args, int64_t row) {
  const int64_t width = args.n + 1;
  for (int64_t k = 0; k < args.num_subsets; ++k) {
    const int64_t subset = row * args.num_subsets + k;
    for (int64_t x = 0; x < width; ++x)
      args.weight[subset * width + x] =
          mode_weight(args.m[subset], x, mode_log_omega(args, subset), args.log_factorials);
    for (int64_t b = 0; b < width; ++b) mode_boundary(Alone(), args, row, k, b);
  }
  mode_labels(Alone(), args, row);
}

}  // namespace

#define DRPM_MODE_KERNELS(T)                                                                     \
  void partition_mode_nodes(const PartitionModeArgs<T>& args, int64_t begin, int64_t end) {      \
    for (int64_t j = begin; j < end; ++j) {                                                      \
      const double y = mode_node(j, args.n);                                                     \
      args.node_scale[j] = mode_node_scale(y);                                                   \
      args.node_base[j] = mode_node_base(y);                                                     \
    }                                                                                            \
  }                                                                                              \
  void partition_mode_remainders(const PartitionModeArgs<T>& args, int64_t begin, int64_t end) { \
    for (int64_t row = begin; row < end; ++row) remainders(args, row);                           \
  }                                                                                              \
  void partition_mode_intervals(const PartitionModeArgs<T>& args, int64_t begin, int64_t end) {  \
    for (int64_t item = begin; item < end; ++item) intervals(args, item);                        \
  }                                                                                              \
  void partition_mode_labels(const PartitionModeArgs<T>& args, int64_t begin, int64_t end) {     \
    for (int64_t row = begin; row < end; ++row) labels(args, row);                               \
  }

DRPM_MODE_KERNELS(float)
DRPM_MODE_KERNELS(double)

}  // namespace DRPM_ISA
}  // namespace drpm
