#include "mvhg/relaxed_outcome.h"
#include "mvhg/two_class/merged.h"
#include "mvhg/two_class/merged_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// log w(x) - log w(mode) for x = low, low + stride, ... (count of them).
template <class T>
void two_class_log_weights(const TwoClass& c, const TwoClassWindow& window, int64_t low, int64_t count, int64_t stride,
                           const LogFactorialTable& table, T* out) {
  const double mode = static_cast<double>(window.mode), first = static_cast<double>(low);
  if (c.whole && subtracts_directly(c, table)) {
    const double odds = c.log_odds, at_mode = window.log_factorials_at_mode, step = static_cast<double>(stride);
    const int64_t r = static_cast<int64_t>(c.r), m_left = static_cast<int64_t>(c.m_left);
    const double* drawn = table.value + low;
    const double* left = table.value + (m_left - low);
    const double* right_drawn = table.value + (r - low);
    const double* right = table.value + (static_cast<int64_t>(c.m_right) - r + low);
    const auto fill = [&](int64_t by) __attribute__((always_inline)) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t at = i * by;
        out[i] = static_cast<T>((first - mode + static_cast<double>(i) * step) * odds -
                                (((drawn[at] + left[-at]) + (right_drawn[-at] + right[at])) - at_mode));
      }
    };
    stride == 1 ? fill(1) : fill(stride);
    return;
  }
  const double last = static_cast<double>(low + (count - 1) * stride), rest = c.m_right - c.r;
  const auto large = [](double at_mode, double smallest) { return at_mode >= kBendFrom && smallest >= 16; };
  if (subtracts_directly(c, table) || !large(mode, first) || !large(c.m_left - mode, c.m_left - last) ||
      !large(c.r - mode, c.r - last) || !large(rest + mode, rest + first)) {
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<T>(-two_class_drop(c, window, low + i * stride, table));
    return;
  }
  using V = Pack<double>;
  constexpr int64_t kWidth = Lane<V>::kWidth;
  double lane_index[kWidth], lanes[kWidth];
  for (int64_t i = 0; i < kWidth; ++i) lane_index[i] = static_cast<double>(i * stride);
  for (int64_t i = 0; i < count; i += kWidth) {
    const V x = min_lane<V>(load<V>(lane_index) + static_cast<double>(low + i * stride), splat<V>(last));
    const V own = large_factorial_bend<V>(x, mode) + large_factorial_bend<V>(c.m_left - x, c.m_left - mode);
    const V other = large_factorial_bend<V>(c.r - x, c.r - mode) + large_factorial_bend<V>(x + rest, rest + mode);
    store<V>(lanes, (x - mode) * window.slope - (own + other));
    for (int64_t k = 0; k < kWidth && i + k < count; ++k) out[i + k] = static_cast<T>(lanes[k]);
  }
}

// One draw from the two-class conditional, and the moments of its relaxation where `relaxed`.
template <class T>
RelaxedOutcome draw_two_class(const MvhgSampleMergedArgs<T>& args, const TwoClass& c, int64_t row, int64_t klass,
                              bool relaxed) {
  const double cut = outcome_cut<T>(args.noise, relaxed, args.tau);
  TwoClassWindow window = two_class_window(c, cut, args.log_factorials);
  RelaxedOutcome out{window.mode, static_cast<double>(window.mode), 0, 0};
  const int64_t widest = args.width - kOutcomePadding;
  int64_t count = window.high - window.low + 1;
  if (count > widest) {  // widest_window rules it out; memory safety does not rest on that
    window.low = window.low > window.mode - widest / 2 ? window.low : window.mode - widest / 2;
    count = widest;
  }
  if (count == 1) return out;
  T* logits = args.outcomes;
  T* other = args.outcomes + args.width;
  two_class_log_weights(c, window, window.low, count, 1, args.log_factorials, logits);
  if (args.noise) add_gumbel(noise_row(args.seeds, row), klass, window.low, count, logits, other);
  T best = logits[window.mode - window.low];
  int64_t centre = window.mode - window.low;  // without noise the mode itself: equal weights go to the first
  if (args.noise) centre = first_maximum(logits, count, &best);
  out.hard = window.low + centre;
  if (!relaxed) return out;
  constexpr int64_t kWidth = Lane<Pack<T>>::kWidth;
  for (int64_t i = count; i % kWidth != 0; ++i) logits[i] = static_cast<T>(-__builtin_huge_val());
  two_class_remainder_slopes(c, window.low, count, other);
  for (int64_t i = count; i % kWidth != 0; ++i) other[i] = 0;
  softmax_moments(logits, other, count, centre, best, args.tau, &out);
  out.mean += static_cast<double>(out.hard);
  return out;
}

TwoClassSums sum_two_class(const TwoClass& c, double cut, const LogFactorialTable& table, double* logits,
                           double* slopes) {
  using V = Pack<double>;
  constexpr int64_t kWidth = Lane<V>::kWidth;
  TwoClassSums out{0, 0, 0, two_class_window(c, cut, table)};
  const int64_t low = out.window.low, outcomes = out.window.high - low + 1;
  if (outcomes == 1) return out;
  const int64_t stride = outcome_stride(outcomes), count = (outcomes - 1) / stride + 1;
  two_class_log_weights(c, out.window, low, count, stride, table, logits);
  if (stride == 1) {
    two_class_remainder_slopes(c, low, count, slopes);
  } else {
    const double at_low = remainder_slope(c, static_cast<double>(low));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t x = low + i * stride;
      slopes[i] = remainder_slope(c, static_cast<double>(x)) - at_low;
    }
  }
  for (int64_t i = count; i % kWidth != 0; ++i) logits[i] = -__builtin_huge_val(), slopes[i] = 0;
  V s0{}, sy{}, sd{};
  double lane_index[kWidth];
  for (int64_t i = 0; i < kWidth; ++i) lane_index[i] = static_cast<double>(i * stride + low - out.window.mode);
  const V index = load<V>(lane_index);
  for (int64_t i = 0; i < count; i += kWidth) {
    const V w = exp_lane<V>(load<V>(logits + i));
    s0 += w;
    sy += w * (index + static_cast<double>(i * stride));
    sd += w * load<V>(slopes + i);
  }
  const double total = sum_lanes<V>(s0);
  out.log_sum = log_lane<double>(total * static_cast<double>(stride));
  out.mean = sum_lanes<V>(sy) / total;
  out.slope = sum_lanes<V>(sd) / total;
  return out;
}

template <class T>
void sample_one(const MvhgSampleMergedArgs<T>& args, int64_t row) {
  sample_row(Alone(), args, row, [&](const TwoClass& c, int64_t at, int64_t klass, bool relaxed) {
    return draw_two_class(args, c, at, klass, relaxed);
  });
}

template <class T>
void log_prob_one(const MvhgLogProbMergedArgs<T>& args, int64_t row) {
  log_prob_row(Alone(), args, row, [&](const TwoClass& c) {
    return sum_two_class(c, kKeep<double>, args.log_factorials, args.outcomes, args.outcomes + kSummedOutcomes);
  });
}

}  // namespace

#define DRPM_MERGED_KERNEL(Name, Args, row_function)                     \
  void Name(const Args<float>& args, int64_t begin, int64_t end) {       \
    for (int64_t row = begin; row < end; ++row) row_function(args, row); \
  }                                                                      \
  void Name(const Args<double>& args, int64_t begin, int64_t end) {      \
    for (int64_t row = begin; row < end; ++row) row_function(args, row); \
  }

DRPM_MERGED_KERNEL(mvhg_sample_merged_rows, MvhgSampleMergedArgs, sample_one)
DRPM_MERGED_KERNEL(mvhg_sample_merged_backward_rows, MvhgSampleMergedBackwardArgs, sample_backward_row)
DRPM_MERGED_KERNEL(mvhg_log_prob_merged_rows, MvhgLogProbMergedArgs, log_prob_one)
DRPM_MERGED_KERNEL(mvhg_log_prob_merged_backward_rows, MvhgLogProbMergedBackwardArgs, log_prob_backward_row)

}  // namespace DRPM_ISA
}  // namespace drpm
