#include "mvhg/relaxed_outcome.h"
#include "mvhg/two_class/merged.h"
#include "mvhg/two_class/merged_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// One draw from the two-class conditional, and the moments of its relaxation where `relaxed`.
template <class T>
RelaxedOutcome draw_two_class(const MvhgSampleMergedArgs<T>& args, const TwoClass& c, int64_t row, int64_t klass,
                              bool relaxed) {
  const double cut = outcome_cut<T>(args.noise, relaxed, args.tau);
  const TwoClassWindow window = two_class_window(c, cut, args.log_factorials);
  RelaxedOutcome out{window.mode, static_cast<double>(window.mode), 0, 0};
  const int64_t count = window.high - window.low + 1;
  if (count == 1) return out;
  T* logits = args.outcomes;
  T* other = args.outcomes + args.width;
  two_class_log_weights(c, window, window.low, count, args.log_factorials, logits);
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
  const int64_t low = out.window.low, count = out.window.high - low + 1;
  if (count == 1) return out;
  two_class_log_weights(c, out.window, low, count, table, logits);
  two_class_remainder_slopes(c, low, count, slopes);
  for (int64_t i = count; i % kWidth != 0; ++i) logits[i] = -__builtin_huge_val(), slopes[i] = 0;
  V s0{}, sy{}, sd{};
  double lane_index[kWidth];
  for (int64_t i = 0; i < kWidth; ++i) lane_index[i] = static_cast<double>(i + low - out.window.mode);
  const V index = load<V>(lane_index);
  for (int64_t i = 0; i < count; i += kWidth) {
    const V w = exp_lane<V>(load<V>(logits + i));
    s0 += w;
    sy += w * (index + static_cast<double>(i));
    sd += w * load<V>(slopes + i);
  }
  const double total = sum_lanes<V>(s0);
  out.log_sum = log_lane<double>(total);
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
    return sum_two_class(c, kKeep<double>, args.log_factorials, args.outcomes, args.outcomes + args.width);
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
