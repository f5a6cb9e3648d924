#include "lanes/team.h"
#include "partition_log_prob/by_subset.h"
#include "partition_log_prob/factor_points.h"
#include "partition_log_prob/panels.h"
#include "partition_log_prob/partition_log_prob.h"
#include "partition_log_prob/partition_log_prob_math.h"
#include "special/score_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr double kInfinity = __builtin_huge_val();

template <class T>
void group(const PartitionLogProbArgs<T>& args) {
  const int64_t n = args.n, subsets = args.num_subsets;
  for (int64_t k = 0; k <= subsets; ++k) args.offset[k] = 0;
  args.counts[0] = args.counts[1] = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t label = static_cast<uint64_t>(args.labels[i]);
    if (label >= static_cast<uint64_t>(subsets)) return;
    ++args.offset[label + 1];
    if (args.by_subset) args.label[i] = static_cast<T>(args.labels[i]);
  }
  for (int64_t r = 0; r < args.score_rows(); ++r) {
    if (!args.by_subset)
      args.largest[r] = finite_largest(Alone(), args.log_scores, n);
    else
      args.largest[r] = r + 1 < subsets ? largest_of_later(args, r) : 0;
    if (args.largest[r] != args.largest[r]) return;
  }
  args.counts[1] = 1;
  for (int64_t k = 0; k < subsets; ++k) args.offset[k + 1] += args.offset[k];
  for (int64_t i = 0; i < n; ++i) {  // offset[k] runs to the begin of subset k + 1
    const int64_t k = args.labels[i], at = args.offset[k]++;
    args.grouped[at] = static_cast<int32_t>(i);
    if (!args.by_subset || k + 1 < subsets)
      args.score[at] = reduced(scores_of(args, k)[i], args.largest[args.by_subset ? k : 0]);
  }
  for (int64_t k = subsets; k > 0; --k) args.offset[k] = args.offset[k - 1];
  args.offset[0] = 0;

  int32_t slots = 0;
  int64_t chunks = 0;
  for (int64_t k = 0; k < subsets; ++k) {
    const int64_t end = args.offset[k + 1];
    const bool large = end - args.offset[k] >= kMomentsFrom;
    args.first_slot[k] = large ? slots : -1;
    args.by_moments[k] = 0;
    for (int64_t begin = args.offset[k]; begin < end; begin += kSubsetChunk) {
      const int64_t stop = end - begin < kSubsetChunk ? end : begin + kSubsetChunk;
      args.chunks[chunks++] = {static_cast<int32_t>(k), large ? slots++ : -1, begin, stop};
    }
  }
  args.counts[0] = chunks;
}

template <class T>
void log_sum(const PartitionLogProbArgs<T>& args, int64_t item) {
  if (args.by_subset) return row_remainder(args, item);
  constexpr int kWidth = Lane<VecD>::kWidth;
  const double* x = args.score + args.chunks[item].begin;
  const int64_t count = args.chunks[item].end - args.chunks[item].begin;
  double largest = x[0];
  for (int64_t i = 1; i < count; ++i) largest = x[i] > largest ? x[i] : largest;
  VecD lanes = splat<VecD>(0);
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) lanes = lanes + exp_lane<VecD>(load<VecD>(x + i) - largest);
  double sum = sum_lanes<VecD>(lanes);
  for (; i < count; ++i) sum += exp_lane<double>(x[i] - largest);
  args.chunk_sum[item] = largest + log_lane<double>(sum);
}

// log Z_k = log-sum of all later subsets                                                                     (Eq. 3)
template <class T>
void remainders(const PartitionLogProbArgs<T>& args) {
  if (args.by_subset) return;
  double later = -kInfinity;
  int64_t chunk = args.counts[0] - 1;
  for (int64_t k = args.num_subsets - 1; k >= 0; --k) {
    args.log_remainder[k] = later;
    for (; chunk >= 0 && args.chunks[chunk].subset == k; --chunk) later = log_add(later, args.chunk_sum[chunk]);
  }
}

// The chunk's elements sorted by panel: position[i] within the panel, start[p] ... start[p + 1].
struct PanelOrder {
  double position[kSubsetChunk];
  uint16_t source[kSubsetChunk];
  int32_t start[kPanels + 3];
};

void order_by_panel(const double* score, int64_t count, double log_remainder, double low, PanelOrder* order) {
  uint8_t panel[kSubsetChunk];
  for (int p = 0; p < kPanels + 3; ++p) order->start[p] = 0;
  for (int64_t i = 0; i < count; ++i) {
    panel[i] = static_cast<uint8_t>(panel_of(score[i] - log_remainder, low));
    ++order->start[panel[i] + 1];
  }
  for (int p = 0; p < kPanels + 2; ++p) order->start[p + 1] += order->start[p];
  int32_t cursor[kPanels + 2];
  for (int p = 0; p < kPanels + 2; ++p) cursor[p] = order->start[p];
  for (int64_t i = 0; i < count; ++i) {
    const int32_t at = cursor[panel[i]]++;
    order->position[at] = panel_position(score[i] - log_remainder, low, panel[i]);
    order->source[at] = static_cast<uint16_t>(i);
  }
}

template <class T>
void chunk_moments(const PartitionLogProbArgs<T>& args, int64_t item) {
  const SubsetChunk chunk = args.chunks[item];
  const double log_remainder = args.log_remainder[chunk.subset];
  if (chunk.slot < 0 || log_remainder == -kInfinity) return;
  const double low = panels_low(static_cast<double>(args.offset[chunk.subset + 1] - args.offset[chunk.subset]));
  PanelOrder order;
  order_by_panel(args.score + chunk.begin, chunk.end - chunk.begin, log_remainder, low, &order);
  const int degree = args.rule.degree;
  double* moments = args.moments + chunk.slot * kMomentsSize;
  for (int64_t i = 0; i < kMomentsSize; ++i) moments[i] = 0;
  for (int p = 0; p < kPanels; ++p) {
    const int64_t count = order.start[p + 1] - order.start[p];
    if (count > 0) add_moments<VecD>(order.position + order.start[p], count, degree, moments + p * degree);
  }
  double* linear = moments + kMomentsSize - 2;
  for (int64_t i = order.start[kLinearBucket]; i < order.start[kLinearBucket + 1]; ++i) {
    linear[0] += 1;
    linear[1] += args.score[chunk.begin + order.source[i]] - log_remainder;
  }
}

template <class T>
void direct_factor(const PartitionLogProbArgs<T>& args, int64_t k) {
  const int64_t begin = args.offset[k], count = args.offset[k + 1] - begin;
  const bool with_gradient = args.grad_log_scores != nullptr;
  FactorPoints<T> points = factor_points<T>(args.factor_scratch, count, args.rule.nodes, false);
  points.elements = static_cast<double>(count);
  for (int64_t i = 0; i < count; ++i) points.a[i] = args.score[begin + i] - args.log_remainder[k];
  prepare(points);
  FactorNodes nodes;
  args.value[k] = integrate(points, args.rule, with_gradient, &nodes);
  if (!with_gradient) return;
  T weight[kFactorNodesMax];
  for (int j = 0; j < args.rule.nodes; ++j) weight[j] = static_cast<T>(nodes.h[j]);
  constexpr int kWidth = Lane<Pack<T>>::kWidth;
  if (points.few()) {
    for (int64_t i = 0; i < count; ++i) {
      Pack<T> sum = splat<Pack<T>>(0);
      for (int j = 0; j < args.rule.nodes; j += kWidth)
        sum = fmadd<Pack<T>>(load<Pack<T>>(points.g + i * args.rule.nodes + j), load<Pack<T>>(weight + j), sum);
      args.score[begin + i] = sum_lanes<Pack<T>>(sum);
    }
    return;
  }
  for (int64_t i = 0; i < count; i += kWidth) {
    T out[kWidth];
    store<Pack<T>>(out, derivative<T>(points, weight, args.rule.nodes, i));
    for (int lane = 0; lane < kWidth && i + lane < count; ++lane) args.score[begin + i + lane] = out[lane];
  }
}

// Adds up the chunks' moments; the number of occupied panels.
template <class T>
int gather_moments(const PartitionLogProbArgs<T>& args, int64_t k, double* sum) {
  const int64_t size = args.offset[k + 1] - args.offset[k];
  const int64_t slots = (size + kSubsetChunk - 1) / kSubsetChunk;
  for (int64_t slot = 1; slot < slots; ++slot)
    for (int64_t i = 0; i < kMomentsSize; ++i) sum[i] += sum[slot * kMomentsSize + i];
  int occupied = 0;
  for (int p = 0; p < kPanels; ++p) occupied += sum[p * args.rule.degree] > 0;  // the number of elements
  return occupied;
}

// The factor at the Chebyshev points of the occupied panels; leaves the coefficients of d log I / d a in `moments`.
template <class T>
void panel_factor(const PartitionLogProbArgs<T>& args, int64_t k, int occupied, double* moments) {
  const int degree = args.rule.degree;
  const double elements = static_cast<double>(args.offset[k + 1] - args.offset[k]);
  const double low = panels_low(elements);
  FactorPoints<double> points = factor_points<double>(args.factor_scratch, occupied * degree, args.rule.nodes, true);
  points.elements = elements;
  points.linear = moments[kMomentsSize - 2];
  points.linear_sum = moments[kMomentsSize - 1];
  int64_t at = 0;
  for (int p = 0; p < kPanels; ++p) {
    if (!(moments[p * degree] > 0)) continue;
    for (int c = 0; c < degree; ++c, ++at) {
      const double* row = args.rule.chebyshev + c * degree;
      points.a[at] = low + p + 0.5 * (row[1] + 1);
      points.weight[at] = point_weight(moments + p * degree, row, degree);
    }
  }
  prepare(points);
  FactorNodes nodes;
  const bool with_gradient = args.grad_log_scores != nullptr;
  args.value[k] = integrate(points, args.rule, with_gradient, &nodes);
  if (!with_gradient) return;
  double weight[kFactorNodesMax];
  for (int j = 0; j < args.rule.nodes; ++j) weight[j] = nodes.h[j];
  constexpr int kWidth = Lane<VecD>::kWidth;
  for (int64_t i = 0; i < points.lanes; i += kWidth)
    store<VecD>(points.inverse + i, derivative<double>(points, weight, args.rule.nodes, i));
  at = 0;
  for (int p = 0; p < kPanels; ++p) {
    if (!(moments[p * degree] > 0)) continue;
    for (int r = 0; r < degree; ++r) {
      double sum = 0;
      for (int c = 0; c < degree; ++c) sum += args.rule.chebyshev[c * degree + r] * points.inverse[at + c];
      moments[p * degree + r] = (r == 0 ? 1 : 2) * sum / degree;
    }
    at += degree;
  }
}

template <class T>
void factor(const PartitionLogProbArgs<T>& args, int64_t k) {
  const int64_t begin = args.offset[k], count = args.offset[k + 1] - begin;
  args.value[k] = 0;
  if (count == 0) return;
  if (args.log_remainder[k] == -kInfinity) {  // nothing is left: the factor is 1
    for (int64_t i = begin; i < begin + count; ++i) args.score[i] = 0;
    return;
  }
  if (count == 1) {
    args.value[k] = factor_single(args.score[begin] - args.log_remainder[k], &args.score[begin]);
    return;
  }
  if (args.first_slot[k] >= 0) {
    double* moments = args.moments + args.first_slot[k] * kMomentsSize;
    const int occupied = gather_moments(args, k, moments);
    if (count > 2 * occupied * args.rule.degree) {
      args.by_moments[k] = 1;
      panel_factor(args, k, occupied, moments);
      return;
    }
  }
  direct_factor(args, k);
}

template <class T>
void interpolate(const PartitionLogProbArgs<T>& args, int64_t item) {
  const SubsetChunk chunk = args.chunks[item];
  const int64_t count = chunk.end - chunk.begin;
  double* score = args.score + chunk.begin;
  if (args.by_moments[chunk.subset]) {
    const double log_remainder = args.log_remainder[chunk.subset];
    const double low = panels_low(static_cast<double>(args.offset[chunk.subset + 1] - args.offset[chunk.subset]));
    PanelOrder order;
    order_by_panel(score, count, log_remainder, low, &order);
    const double* coefficient = args.moments + args.first_slot[chunk.subset] * kMomentsSize;
    const int degree = args.rule.degree;
    constexpr int kWidth = Lane<VecD>::kWidth;
    for (int p = 0; p < kPanels; ++p) {
      const int32_t end = order.start[p + 1];
      for (int32_t i = order.start[p]; i < end; i += kWidth) {
        double t[kWidth];
        for (int lane = 0; lane < kWidth; ++lane) t[lane] = order.position[i + lane < end ? i + lane : end - 1];
        store<VecD>(t, chebyshev_sum<VecD>(coefficient + p * degree, degree, load<VecD>(t)));
        for (int lane = 0; lane < kWidth && i + lane < end; ++lane) score[order.source[i + lane]] = t[lane];
      }
    }
    for (int32_t i = order.start[kLinearBucket]; i < order.start[kLinearBucket + 1]; ++i) score[order.source[i]] = 1;
    for (int32_t i = order.start[kNothingBucket]; i < order.start[kNothingBucket + 1]; ++i) score[order.source[i]] = 0;
  }
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += score[i];
  args.chunk_sum[item] = sum;
}

template <class T>
void totals(const PartitionLogProbArgs<T>& args) {
  if (!args.counts[1]) {
    args.log_prob[0] = static_cast<T>(__builtin_nan(""));
    return;
  }
  double total = 0, earlier = -kInfinity;  // log sum_{j<k} Gamma_j / Z_j
  int64_t chunk = 0;
  for (int64_t k = 0; k < args.num_subsets; ++k) {
    total += args.value[k];
    if (args.grad_log_scores == nullptr) continue;
    double gamma = 0;
    for (; chunk < args.counts[0] && args.chunks[chunk].subset == k; ++chunk) gamma += args.chunk_sum[chunk];
    if (args.by_subset) {
      args.log_factor[k] = gamma > 0 ? -gamma * exp_lane<double>(-args.log_remainder[k]) : 0;
      continue;
    }
    args.log_factor[k] = earlier;
    earlier = add_taken(earlier, gamma, args.log_remainder[k]);
  }
  args.log_prob[0] = static_cast<T>(total);
}

template <class T>
void gradient(const PartitionLogProbArgs<T>& args, int64_t item) {
  if (args.by_subset) return row_gradient(args, item);
  const SubsetChunk chunk = args.chunks[item];
  const double earlier = args.log_factor[chunk.subset];
  for (int64_t i = chunk.begin; i < chunk.end; ++i) {
    const int32_t element = args.grouped[i];
    args.grad_log_scores[element] =
        static_cast<T>(score_gradient(args.score[i], reduced(args.log_scores[element], *args.largest), earlier));
  }
}

template <class T>
void one_row(const PartitionLogProbArgs<T>& args) {
  group(args);
  if (args.counts[1]) {
    const int64_t chunks = args.counts[0], score_items = args.score_items();
    for (int64_t c = 0; c < score_items; ++c) log_sum(args, c);
    remainders(args);
    for (int64_t c = 0; c < chunks; ++c) chunk_moments(args, c);
    for (int64_t k = 0; k < args.num_subsets; ++k) factor(args, k);
    if (args.grad_log_scores != nullptr)
      for (int64_t c = 0; c < chunks; ++c) interpolate(args, c);
    totals(args);
    if (args.grad_log_scores != nullptr)
      for (int64_t c = 0; c < score_items; ++c) gradient(args, c);
    return;
  }
  totals(args);
  if (args.grad_log_scores != nullptr)
    for (int64_t i = 0; i < args.score_rows() * args.n; ++i)
      args.grad_log_scores[i] = static_cast<T>(__builtin_nan(""));
}

template <class T>
void some_rows(PartitionLogProbArgs<T> args, int64_t begin, int64_t end) {
  const PartitionLogProbArgs<T> all = args;
  const int64_t scores = all.score_rows() * all.n;
  for (int64_t row = begin; row < end; ++row) {
    args.log_scores = all.log_scores + row * scores;
    args.labels = all.labels + row * all.n;
    args.log_prob = all.log_prob + row;
    if (all.grad_log_scores != nullptr) args.grad_log_scores = all.grad_log_scores + row * scores;
    one_row(args);
  }
}

}  // namespace

#define DRPM_PARTITION_KERNELS(T)                                                                                 \
  void partition_log_prob_rows(const PartitionLogProbArgs<T>& args, int64_t begin, int64_t end) {                 \
    some_rows(args, begin, end);                                                                                  \
  }                                                                                                               \
  void partition_log_prob_group(const PartitionLogProbArgs<T>& args, int64_t, int64_t) { group(args); }           \
  void partition_log_prob_log_sums(const PartitionLogProbArgs<T>& args, int64_t begin, int64_t end) {             \
    for (int64_t i = begin; i < end; ++i) log_sum(args, i);                                                       \
  }                                                                                                               \
  void partition_log_prob_remainders(const PartitionLogProbArgs<T>& args, int64_t, int64_t) { remainders(args); } \
  void partition_log_prob_moments(const PartitionLogProbArgs<T>& args, int64_t begin, int64_t end) {              \
    for (int64_t i = begin; i < end; ++i) chunk_moments(args, i);                                                 \
  }                                                                                                               \
  void partition_log_prob_factors(const PartitionLogProbArgs<T>& args, int64_t begin, int64_t end) {              \
    for (int64_t i = begin; i < end; ++i) factor(args, i);                                                        \
  }                                                                                                               \
  void partition_log_prob_interpolate(const PartitionLogProbArgs<T>& args, int64_t begin, int64_t end) {          \
    for (int64_t i = begin; i < end; ++i) interpolate(args, i);                                                   \
  }                                                                                                               \
  void partition_log_prob_totals(const PartitionLogProbArgs<T>& args, int64_t, int64_t) { totals(args); }         \
  void partition_log_prob_gradient(const PartitionLogProbArgs<T>& args, int64_t begin, int64_t end) {             \
    for (int64_t i = begin; i < end; ++i) gradient(args, i);                                                      \
  }

DRPM_PARTITION_KERNELS(float)
DRPM_PARTITION_KERNELS(double)

}  // namespace DRPM_ISA
}  // namespace drpm
