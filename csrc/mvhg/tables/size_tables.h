// Tables of the exact conditionals: weights of single classes and of the total of the later classes, over windows of
// log-concave weights (docs/math/mvhg.md, section 5). What both backends share; the loops that fill them are in
// size_tables_cpu.h and size_tables_cuda.h.
#pragma once

#include "mvhg/concave_window.h"
#include "mvhg/tables/tables.h"
#include "mvhg/tilt.h"
#include "special/log_binomial.h"

namespace drpm {
namespace DRPM_ISA {

// A stretch of a table: value at[i] belongs to count low + i.
struct TableWindow {
  int64_t low, size, at;
};

// By position p in the drawing order: f_p, the class's own tilted weights, and b_p, the weights of the total of the
// classes after p, each relative to its largest value.
struct SizeTables {
  int64_t classes;
  int64_t *f_low, *f_size, *f_at, *b_low, *b_size, *b_at;  // (K)
  int64_t *known_first, *known_last;                       // (K): the stretch of log_b that is there
  double *f, *log_f, *b, *log_b;
  double* scale;  // (K): f_{p+1} * b_{p+1} = scale[p] b_p
  bool linear;    // f and b hold the weights themselves; else only the logs are there, as weights would underflow
};

template <class T>
DRPM_HD inline double outcome_cut(const MvhgExactArgs<T>& args) {
  return outcome_cut<T>(args.noise, args.use == TableUse::kRelaxedSample, args.tau);
}

// Tables reach this many nats further than the outcomes that matter at a typical remainder: what a remainder of
// probability e^-kMargin would miss is the edge of its window.
template <class T>
constexpr double kMargin = sizeof(T) == 4 ? 20 : 35;
constexpr double kPlainCut = 45;  // below the resolution of a uniform

template <class T>
DRPM_HD inline double table_cut(const MvhgExactArgs<T>& args) {
  return args.use == TableUse::kPlain ? kPlainCut : outcome_cut(args) + kMargin<T>;
}

// Weights below e^-640 of the largest would leave the doubles once multiplied.
constexpr double kLinearRange = 640;

// One class's weights over the window of outcomes that matter.
struct ClassWeights {
  double m, a;  // items, tilted log odds
  int64_t low, high, mode;
  double log_factorials_at_mode;
  double slope;  // of log f at the mode, where m lies beyond the table
};

DRPM_HD inline double class_log_factorials(const ClassWeights& f, int64_t x, const LogFactorialTable& table) {
  return log_factorial(static_cast<double>(x), table) + log_factorial(f.m - static_cast<double>(x), table);
}

// -log f(x), where log f(x) = log C(m, x) + x a, relative to its value at the mode.                   (Eq. 18)
DRPM_HD inline double class_drop(const ClassWeights& f, int64_t x, const LogFactorialTable& table) {
  const double distance = static_cast<double>(x - f.mode), drawn = static_cast<double>(x);
  if (f.m < static_cast<double>(table.size))
    return class_log_factorials(f, x, table) - f.log_factorials_at_mode - distance * f.a;
  const double mode = static_cast<double>(f.mode);
  return log_factorial_bend(drawn, mode) + log_factorial_bend(f.m - drawn, f.m - mode) - distance * f.slope;
}

// The outcomes within `cut` of the mode, up to the limit.
DRPM_OUTLINED DRPM_HD inline ClassWeights class_weights(int64_t m, double a, int64_t limit, double cut, int64_t widest,
                                                        const LogFactorialTable& table) {
  const int64_t high = m < limit ? m : limit;
  const int64_t mode = static_cast<int64_t>(static_cast<double>(m + 1) * odds_of(a).p);
  ClassWeights f{static_cast<double>(m), m == 0 ? 0 : a, 0, 0, mode < high ? mode : high, 0, 0};
  if (m < table.size) {
    f.log_factorials_at_mode = class_log_factorials(f, f.mode, table);
  } else {
    const double drawn = static_cast<double>(f.mode), left = f.m - drawn;
    f.slope = a - log_lane<double>((drawn > 1 ? drawn : 1) / (left > 1 ? left : 1));
  }
  const OutcomeWindow window = concave_window(f.mode, 0, high, cut, [&](int64_t x) { return class_drop(f, x, table); });
  f.low = window.low;
  f.high = window.high;
  if (f.high - f.low >= widest) {  // table_width rules it out; memory safety does not rest on that
    f.low = f.low > f.mode - widest / 2 ? f.low : f.mode - widest / 2;
    f.high = f.low + widest - 1;
  }
  return f;
}

// The same for the total of the classes after some position, in a draw that is at most `cut` nats less probable than
// the likeliest: the classes before must stray as far the other way.
DRPM_HD inline double farthest_total(double before, double after, double cut) {
  const double c = cut + peak_loss(before) + peak_loss(after);
  double distance = farthest(before < after ? before : after, c);
  for (int i = 0; i < 4; ++i)  // descends to the root from above: each is a bound
    distance = __builtin_sqrt(2 * c / (1 / (before + distance / 3) + 1 / (after + distance / 3)));
  return distance;
}

// Values that one table holds at most, of `most` there are. Variances are at most a quarter of the items and at most
// the mean.
DRPM_HD inline int64_t table_width(int64_t max_m, int64_t max_n, int64_t max_total, double cut, int64_t most) {
  const double n = static_cast<double>(max_n);
  const double items = 0.25 * static_cast<double>(max_m), all_items = 0.25 * static_cast<double>(max_total);
  const double one = items < n ? items : n, all = all_items < n ? all_items : n;
  const double of_class = farthest(one, cut + peak_loss(one)), of_total = farthest_total(0.5 * all, 0.5 * all, cut);
  const double bound = 2 * (of_class > of_total ? of_class : of_total) + 16;
  return bound < static_cast<double>(most) ? static_cast<int64_t>(bound) : most;
}

// Mean and variance of the total of the classes after some position, and the variance over all classes.
struct TotalMoments {
  double mean, after, all;
};

DRPM_HD inline void add_class(int64_t m, double a, TotalMoments* moments) {
  const Odds odds = odds_of(a);
  moments->mean += static_cast<double>(m) * odds.p;
  moments->after += static_cast<double>(m) * odds.p * odds.q;
}

// Totals that table p is computed for, given the tables after it: f_{p+1} * b_{p+1} (f_{K-1} itself where p = K - 2)
// without what a draw cannot leave, and no further than the total n + 1 that slopes at n look at.
struct TotalStretch {
  int64_t low, size, skipped;  // skipped: values of the convolution below low
};

DRPM_OUTLINED DRPM_HD inline TotalStretch total_stretch(const SizeTables& t, int64_t p, int64_t n,
                                                        const TotalMoments& moments, double cut, int64_t widest) {
  const double before = moments.all > moments.after ? moments.all - moments.after : 0;
  const double reach = farthest_total(before, moments.after, cut) + 2;
  const double limit = static_cast<double>(n + 1), least = moments.mean - reach;
  const double most = moments.mean + reach < limit ? moments.mean + reach : limit;
  const bool last = p == t.classes - 2;
  const int64_t low = t.f_low[p + 1] + (last ? 0 : t.b_low[p + 1]);
  int64_t high = t.f_low[p + 1] + t.f_size[p + 1] - 1 + (last ? 0 : t.b_low[p + 1] + t.b_size[p + 1] - 1);
  const int64_t skipped =
      least > static_cast<double>(low) && least < static_cast<double>(high) ? static_cast<int64_t>(least) - low : 0;
  if (most < static_cast<double>(high) && most > static_cast<double>(low + skipped)) high = static_cast<int64_t>(most);
  const int64_t size = high - (low + skipped) + 1;
  return {low + skipped, size < widest ? size : widest, skipped};
}

// Counts of a window: low .. low + size - 1.
struct CountWindow {
  int64_t low, size;
};

// How `count` may be split so that each part lies in its window; the first part is given.
DRPM_HD inline OutcomeWindow split_support(CountWindow first, CountWindow second, int64_t count) {
  const int64_t second_high = second.low + second.size - 1, first_high = first.low + first.size - 1;
  const int64_t low = count - second_high > first.low ? count - second_high : first.low;
  const int64_t high = count - second.low < first_high ? count - second.low : first_high;
  return {low, high};
}

// A count of negligible probability, which cannot be: the first part that keeps both nearest to their windows.
DRPM_HD inline int64_t negligible_split(CountWindow first, CountWindow second, int64_t count) {
  const int64_t most = first.low + first.size - 1;
  return count - (second.low + second.size - 1) > most ? most : first.low;
}

// Outcomes of the class at position p, where r remain, that both of its tables know.
DRPM_HD inline OutcomeWindow conditional_support(const SizeTables& t, int64_t p, int64_t r) {
  return split_support({t.f_low[p], t.f_size[p]}, {t.b_low[p], t.b_size[p]}, r);
}

DRPM_HD inline int64_t negligible_outcome(const SizeTables& t, int64_t p, int64_t r) {
  return negligible_split({t.f_low[p], t.f_size[p]}, {t.b_low[p], t.b_size[p]}, r);
}

// Logits log f_p(x) + log b_p(r - x), and what they are relative to.
struct ConditionalLogits {
  const double *log_f, *log_b;  // by x, by total
  int64_t r, b_low, b_high;
  int64_t low, high, mode;  // the outcomes that matter; the smallest of equal modes
  double top;

  DRPM_HD double at(int64_t x) const { return log_f[x] + log_b[r - x]; }

  // The part of d logit / d r at x: 1/2 [log b(rho + 1) - log b(rho - 1)], one-sided at the ends.       (Eq. 20)
  DRPM_HD double slope(int64_t x) const {
    const int64_t rho = r - x;
    const int64_t up = rho < b_high ? rho + 1 : rho, down = rho > b_low ? rho - 1 : rho;
    const double rise = log_b[up] - log_b[down];
    return up - down == 2 ? 0.5 * rise : rise;
  }
};

// `support` is not empty, and log_b is there for it and one total more on either side.
DRPM_HD inline ConditionalLogits conditional_logits(const SizeTables& t, int64_t p, int64_t r, OutcomeWindow support,
                                                    double cut) {
  ConditionalLogits c{t.log_f + t.f_at[p] - t.f_low[p],
                      t.log_b + t.b_at[p] - t.b_low[p],
                      r,
                      t.b_low[p],
                      t.b_low[p] + t.b_size[p] - 1,
                      support.low,
                      support.high,
                      0,
                      0};
  c.mode = concave_mode(support.low, support.high, [&](int64_t x) { return c.at(x); });
  c.top = c.at(c.mode);
  const OutcomeWindow window =
      concave_window(c.mode, support.low, support.high, cut, [&](int64_t x) { return c.top - c.at(x); });
  c.low = window.low;
  c.high = window.high;
  return c;
}

// Calls each(x, q) with q = f(x) b(rho - x) / sum for the outcomes x that matter at this rho, and returns the log of
// the sum; `mode` is carried from one rho to the next, as it only moves up.
template <class Each>
DRPM_HD inline double convolve_at(const SizeTables& t, int64_t p, int64_t rho, int64_t* mode, const Each& each) {
  const double *log_f = t.log_f + t.f_at[p] - t.f_low[p], *log_b = t.log_b + t.b_at[p] - t.b_low[p];
  const auto [low, high] = conditional_support(t, p, rho);
  if (low > high) return -__builtin_huge_val();
  auto at = [&](int64_t x) { return log_f[x] + log_b[rho - x]; };
  int64_t x = *mode < low ? low : (*mode > high ? high : *mode);
  while (x < high && at(x + 1) > at(x)) ++x;
  while (x > low && at(x - 1) > at(x)) --x;
  *mode = x;
  const double top = at(x);
  const OutcomeWindow window = concave_window(x, low, high, 40, [&](int64_t y) { return top - at(y); });
  double sum = 0;
  for (int64_t y = window.low; y <= window.high; ++y) sum += exp_lane<double>(at(y) - top);
  for (int64_t y = window.low; y <= window.high; ++y) each(y, exp_lane<double>(at(y) - top) / sum);
  return top + log_lane<double>(sum);
}

}  // namespace DRPM_ISA
}  // namespace drpm
