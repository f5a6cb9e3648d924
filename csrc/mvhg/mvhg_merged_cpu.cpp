#include "mvhg/mvhg_merged.h"
#include "mvhg/mvhg_merged_math.h"
#include "mvhg/mvhg_support.h"
#include "mvhg/relaxed_outcome.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// One draw from the two-class conditional, and the moments of its relaxation where `relaxed`.
template <class T>
RelaxedOutcome draw_two_class(const MvhgSampleMergedArgs<T>& args, const TwoClass& c, int64_t row, int64_t klass,
                              bool relaxed) {
  const double cut = (args.noise ? GumbelRange<T>::kSpan : 0) + (relaxed ? kKeep<T> * args.tau : 0);
  const TwoClassWindow window = two_class_window(c, cut, args.log_factorials);
  RelaxedOutcome out{window.mode, static_cast<double>(window.mode), 0, 0};
  const int64_t count = window.high - window.low + 1;
  if (count == 1) return out;
  T* logits = args.outcomes;
  T* other = args.outcomes + args.width;
  two_class_log_weights(c, window, window.low, count, args.log_factorials, logits);
  if (args.noise) add_gumbel(static_cast<uint64_t>(args.seed[0]), row, klass, window.low, count, logits, other);
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

template <class T>
void sample_row(const MvhgSampleMergedArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row % args.counts.batch * classes;
  T* sizes = args.sizes + row * classes;
  double* statistics = args.statistics == nullptr ? nullptr : args.statistics + row * classes * 2;
  const MergedRow parameters = merged_row(args.counts, log_omega, row);
  for (int64_t k = 0; k < classes; ++k) sizes[k] = static_cast<T>(kNaN);
  if (statistics != nullptr)
    for (int64_t i = 0; i < 2 * classes; ++i) statistics[i] = kNaN;
  if (!parameters.valid) return;

  double *log_mass = args.classes, *log_later = args.classes + classes;
  merged_masses(parameters, log_omega, log_mass, log_later);
  int64_t m_right = 0;
  for (int64_t k = 0; k < classes; ++k) m_right += parameters.m[k];
  int64_t remaining = parameters.n;
  double relaxed_remaining = static_cast<double>(parameters.n);
  for (int64_t p = 0; p < classes; ++p) {
    const int64_t k = class_at(parameters, p);
    m_right -= parameters.m[k];
    RelaxedOutcome outcome{remaining, relaxed_remaining, 0, 0};  // the last class takes what remains
    if (p < classes - 1) {
      const TwoClass c = make_two_class(log_omega[k], merged_log_omega(log_later[p], m_right), parameters.m[k], m_right,
                                        static_cast<double>(remaining));
      outcome = draw_two_class(args, c, row, k, !args.hard || statistics != nullptr);
    }
    sizes[k] = args.hard ? static_cast<T>(outcome.hard) : static_cast<T>(outcome.mean);
    if (statistics != nullptr) {
      statistics[2 * k] = outcome.variance / args.tau;
      statistics[2 * k + 1] = outcome.slope / args.tau;
    }
    remaining -= outcome.hard;
    relaxed_remaining -= outcome.mean;
  }
}

// log sum_x exp(log w(x) - log w(mode)), and the means of x - mode and d(x) - d(low).
struct TwoClassSums {
  double log_sum, mean, slope;
  TwoClassWindow window;
};

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
void log_prob_row(const MvhgLogProbMergedArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  const T* sizes = args.sizes + row * classes;
  double* statistics = args.statistics + row * classes * 2;
  const MergedRow parameters = merged_row(args.counts, log_omega, row);
  for (int64_t i = 0; i < 2 * classes; ++i) statistics[i] = 0;
  args.log_prob[row] = static_cast<T>(kNaN);
  if (!parameters.valid) return;
  args.log_prob[row] = static_cast<T>(-__builtin_huge_val());
  if (!sizes_are_possible(parameters.m, parameters.n, classes, sizes)) return;

  double *log_mass = args.classes, *log_later = args.classes + classes;
  merged_masses(parameters, log_omega, log_mass, log_later);
  int64_t m_right = 0;
  for (int64_t k = 0; k < classes; ++k) m_right += parameters.m[k];
  double remaining = static_cast<double>(parameters.n), log_prob = 0;
  for (int64_t k = 0; k < classes - 1; ++k) {
    m_right -= parameters.m[k];
    const TwoClass c =
        make_two_class(log_omega[k], merged_log_omega(log_later[k], m_right), parameters.m[k], m_right, remaining);
    const TwoClassSums sums =
        sum_two_class(c, kKeep<double>, args.log_factorials, args.outcomes, args.outcomes + args.width);
    const double x = sizes[k];
    const bool whole = x == static_cast<double>(static_cast<int64_t>(x));
    const double at_x = whole ? two_class_log_factorials(c, x, args.log_factorials)
                              : (log_gamma1p(x) + log_gamma1p(c.m_left - x)) +
                                    (log_gamma1p(c.r - x) + log_gamma1p(c.m_right - c.r + x));
    log_prob += (x - static_cast<double>(sums.window.mode)) * c.log_odds - (at_x - sums.window.log_factorials_at_mode) -
                sums.log_sum;
    statistics[2 * k] = static_cast<double>(sums.window.mode) + sums.mean;
    statistics[2 * k + 1] = remainder_slope(c, static_cast<double>(sums.window.low)) + sums.slope;
    remaining -= x;
  }
  args.log_prob[row] = static_cast<T>(log_prob);
}

}  // namespace

#define DRPM_MERGED_KERNEL(Name, Args, row_function)                     \
  void Name(const Args<float>& args, int64_t begin, int64_t end) {       \
    for (int64_t row = begin; row < end; ++row) row_function(args, row); \
  }                                                                      \
  void Name(const Args<double>& args, int64_t begin, int64_t end) {      \
    for (int64_t row = begin; row < end; ++row) row_function(args, row); \
  }

DRPM_MERGED_KERNEL(mvhg_sample_merged_rows, MvhgSampleMergedArgs, sample_row)
DRPM_MERGED_KERNEL(mvhg_sample_merged_backward_rows, MvhgSampleMergedBackwardArgs, sample_backward_row)
DRPM_MERGED_KERNEL(mvhg_log_prob_merged_rows, MvhgLogProbMergedArgs, log_prob_row)
DRPM_MERGED_KERNEL(mvhg_log_prob_merged_backward_rows, MvhgLogProbMergedBackwardArgs, log_prob_backward_row)

}  // namespace DRPM_ISA
}  // namespace drpm
