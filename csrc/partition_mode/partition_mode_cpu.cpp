#include "partition_mode/partition_mode_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kWidth = Lane<VecD>::kWidth;
constexpr double kInfinity = __builtin_huge_val();

// The nodes are shared by all intervals that end at b, so adding element a multiplies one factor to each node.(Eq. 17)
void intervals(const PartitionModeArgs& args, int64_t item) {
  const int64_t n = args.n, row = item / n, b = item % n + 1;
  const double* score = args.score + row * n;
  double* out = args.interval + row * (n * (n + 1) / 2) + b * (b - 1) / 2;
  const double log_rest = args.log_rest[row * (n + 1) + b];
  if (b == n) {  // nothing is left
    for (int64_t a = 0; a < b; ++a) out[a] = 0;
    return;
  }
  const int64_t padded = (args.nodes + kWidth - 1) / kWidth * kWidth;
  double *scale = args.scratch, *log_value = scale + padded, *value = log_value + padded, *product = value + padded;
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

// best_k(b) = max_a best_{k-1}(a) + interval(a, b) + log C(m_k, b - a) + (b - a) log omega_k                (Eq. 18)
void labels(const PartitionModeArgs& args, int64_t row) {
  const int64_t n = args.n, subsets = args.num_subsets;
  const double* interval = args.interval + row * (n * (n + 1) / 2);
  double *before = args.scratch, *now = before + n + 1, *weight = now + n + 1;
  int32_t* start = reinterpret_cast<int32_t*>(weight + n + 1);  // (K, n + 1)
  for (int64_t b = 0; b <= n; ++b) before[b] = b == 0 ? 0 : -kInfinity;
  for (int64_t k = 0; k < subsets; ++k) {
    const int64_t m = args.m[row * subsets + k], most = m < n ? m : n;
    const double log_omega = args.log_omega[row * subsets + k];
    for (int64_t x = 0; x <= most; ++x) weight[x] = mode_weight(m, x, log_omega, args.log_factorials);
    for (int64_t b = 0; b <= n; ++b) {
      double best = most >= 0 ? before[b] + weight[0] : -kInfinity;  // an empty subset
      int64_t from = b;
      const double* ending = interval + b * (b - 1) / 2;
      for (int64_t a = b > most ? b - most : 0; a < b; ++a) {
        const double value = before[a] + ending[a] + weight[b - a];
        if (value > best) best = value, from = a;
      }
      now[b] = best;
      start[k * (n + 1) + b] = static_cast<int32_t>(from);
    }
    double* swap = before;
    before = now;
    now = swap;
  }
  int64_t* out = args.labels + row * n;
  int64_t end = n;
  for (int64_t k = subsets - 1; k >= 0; --k) {
    const int64_t from = start[k * (n + 1) + end];
    for (int64_t i = from; i < end; ++i) out[args.order[row * n + i]] = k;
    end = from;
  }
  if (!(before[n] > -kInfinity))
    for (int64_t i = 0; i < n; ++i) out[i] = -1;
}

}  // namespace

void partition_mode_intervals(const PartitionModeArgs& args, int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; ++item) intervals(args, item);
}

void partition_mode_labels(const PartitionModeArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) labels(args, row);
}

}  // namespace DRPM_ISA
}  // namespace drpm
