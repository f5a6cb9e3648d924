// Tables of the exact conditionals: weights of single classes and of the total of the later classes, over windows of
// log-concave weights (docs/math/mvhg.md, section 5). What both backends share comes first; then the CPU's loops, whose
// packs run along the tables. The device's are in size_tables_cuda.h.
#pragma once

#include "mvhg/concave_window.h"
#include "mvhg/outcome.h"
#include "mvhg/tables/exact.h"
#include "mvhg/tilt_math.h"
#include "noise/philox.h"
#include "special/log_factorial.h"

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

// Outcomes that matter lie within this of the best one.
template <class T>
DRPM_HD inline double outcome_cut(const MvhgExactArgs<T>& args) {
  return (args.noise ? GumbelRange<T>::kSpan : 0) + (args.use == TableUse::kRelaxedSample ? kKeep<T> * args.tau : 0);
}

// Tables reach this many nats further than the outcomes that matter at a typical remainder: what a remainder of
// probability e^-kMargin would miss is the edge of its window.
template <class T>
constexpr double kMargin = sizeof(T) == 4 ? 20 : 35;
constexpr double kPlainCut = 45;  // below the resolution of a uniform

template <class T>
DRPM_HD inline double table_cut(const MvhgExactArgs<T>& args) {
  return args.use == TableUse::kPlain || args.use == TableUse::kEntropy ? kPlainCut : outcome_cut(args) + kMargin<T>;
}

// Weights below e^-640 of the largest would leave the doubles once multiplied.
constexpr double kLinearRange = 640;

// One class's weights over the window of outcomes that matter.
struct ClassWeights {
  double m, a;  // items, tilted log odds
  int64_t low, high, mode;
  double log_factorials_at_mode;
};

DRPM_HD inline double class_log_factorials(const ClassWeights& f, int64_t x, const LogFactorialTable& table) {
  return log_factorial(static_cast<double>(x), table) + log_factorial(f.m - static_cast<double>(x), table);
}

// -log f(x), where log f(x) = log C(m, x) + x a, relative to its value at the mode.                   (Eq. 18)
DRPM_HD inline double class_drop(const ClassWeights& f, int64_t x, const LogFactorialTable& table) {
  return class_log_factorials(f, x, table) - f.log_factorials_at_mode - static_cast<double>(x - f.mode) * f.a;
}

// The outcomes within `cut` of the mode, up to the limit.
DRPM_OUTLINED DRPM_HD inline ClassWeights class_weights(int64_t m, double a, int64_t limit, double cut, int64_t widest,
                                                        const LogFactorialTable& table) {
  const int64_t high = m < limit ? m : limit;
  const int64_t mode = static_cast<int64_t>(static_cast<double>(m + 1) * odds_of(a).p);
  ClassWeights f{static_cast<double>(m), a, 0, 0, mode < high ? mode : high, 0};
  f.log_factorials_at_mode = class_log_factorials(f, f.mode, table);
  const OutcomeWindow window = concave_window(f.mode, 0, high, cut, [&](int64_t x) { return class_drop(f, x, table); });
  f.low = window.low;
  f.high = window.high;
  if (f.high - f.low >= widest) {  // table_width rules it out; memory safety does not rest on that
    f.low = f.low > f.mode - widest / 2 ? f.low : f.mode - widest / 2;
    f.high = f.low + widest - 1;
  }
  return f;
}

// How far a sum of independent Bernoulli variables strays from its mean, at most, where it is at most c nats below
// probability 1: Bernstein's inequality d^2 / (2 (variance + d / 3)) <= c.                            (Eq. 19a)
DRPM_HD inline double farthest(double variance, double c) {
  return c / 3 + __builtin_sqrt(c * c / 9 + 2 * c * variance);
}

// Of the likeliest value's probability, at most this is missing to 1, in nats.
DRPM_HD inline double peak_loss(double variance) { return 0.5 * log_lane<double>(1 + 12 * variance); }

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

// What is left of the remainder r for the class at position p: outcomes that both of its tables know.
DRPM_HD inline OutcomeWindow conditional_support(const SizeTables& t, int64_t p, int64_t r) {
  const int64_t b_high = t.b_low[p] + t.b_size[p] - 1, f_high = t.f_low[p] + t.f_size[p] - 1;
  const int64_t low = r - b_high > t.f_low[p] ? r - b_high : t.f_low[p];
  const int64_t high = r - t.b_low[p] < f_high ? r - t.b_low[p] : f_high;
  return {low, high};
}

// A remainder of negligible probability, whose support is empty: whichever outcome keeps both counts nearest to their
// windows.
DRPM_HD inline int64_t negligible_outcome(const SizeTables& t, int64_t p, int64_t r) {
  const int64_t b_high = t.b_low[p] + t.b_size[p] - 1, f_high = t.f_low[p] + t.f_size[p] - 1;
  return r - b_high > f_high ? f_high : t.f_low[p];
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
  const int64_t b_high = t.b_low[p] + t.b_size[p] - 1, f_high = t.f_low[p] + t.f_size[p] - 1;
  const int64_t low = rho - b_high > t.f_low[p] ? rho - b_high : t.f_low[p];
  const int64_t high = rho - t.b_low[p] < f_high ? rho - t.b_low[p] : f_high;
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

#if !defined(__CUDACC__)

using VD = Pack<double>;
constexpr int64_t kVD = Lane<VD>::kWidth;
constexpr int64_t kTile = 4 * kVD;

// out[t] = sum_i kernel[i] signal[t + i] for t < count, where signal vanishes outside [live, dead).
// Writes, and reads `signal`, in whole tiles.
inline void correlate(const double* kernel, int64_t size, const double* signal, int64_t live, int64_t dead, double* out,
                      int64_t count) {
  for (int64_t t = 0; t < count; t += kTile) {
    const int64_t first = live - (t + kTile - 1) > 0 ? live - (t + kTile - 1) : 0;
    const int64_t last = dead - t < size ? dead - t : size;
    VD a{}, b{}, c{}, d{};
    for (int64_t i = first; i < last; ++i) {
      const double* s = signal + t + i;
      const VD k = splat<VD>(kernel[i]);
      a += k * load<VD>(s);
      b += k * load<VD>(s + kVD);
      c += k * load<VD>(s + 2 * kVD);
      d += k * load<VD>(s + 3 * kVD);
    }
    store<VD>(out + t, a);
    store<VD>(out + t + kVD, b);
    store<VD>(out + t + 2 * kVD, c);
    store<VD>(out + t + 3 * kVD, d);
  }
}

// signal = zeros, x, zeros: `before` in front, `after` behind and a tile more.
inline void pad_signal(const double* x, int64_t size, int64_t before, int64_t after, double* signal) {
  for (int64_t i = 0; i < before; ++i) signal[i] = 0;
  for (int64_t i = 0; i < size; ++i) signal[before + i] = x[i];
  for (int64_t i = 0; i < after + kTile; ++i) signal[before + size + i] = 0;
}

// Inversion: the first i < count whose cumulated weight f[i] b[-i] exceeds u of the total. Fills `cumulated` (count).
inline int64_t invert_product(const double* f, const double* b, int64_t count, double u, double* cumulated) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) {
    total += f[i] * b[-i];
    cumulated[i] = total;
  }
  int64_t first = 0, last = count - 1;
  const double target = u * total;
  while (first < last) {
    const int64_t middle = first + (last - first) / 2;
    if (cumulated[middle] > target)
      last = middle;
    else
      first = middle + 1;
  }
  return first;
}

inline void exp_table(const double* log_x, int64_t size, double* x) {
  for (int64_t i = 0; i < size; i += kVD) store<VD>(x + i, exp_lane<VD>(load<VD>(log_x + i)));
}

inline void log_table(const double* x, int64_t size, double* log_x) {
  for (int64_t i = 0; i < size; i += kVD) store<VD>(log_x + i, log_lane<VD>(load<VD>(x + i)));
}

// Fills log_f; whole packs.
inline TableWindow class_table(int64_t m, double a, int64_t limit, double cut, int64_t widest,
                               const LogFactorialTable& table, int64_t at, double* log_f) {
  const ClassWeights f = class_weights(m, a, limit, cut, widest, table);
  const int64_t size = f.high - f.low + 1;
  if (m < table.size) {
    const double *up = table.value + f.low, *down = table.value + (m - f.low);
    const double start = static_cast<double>(f.low - f.mode);
    for (int64_t i = 0; i < size; ++i)
      log_f[at + i] = (start + static_cast<double>(i)) * a - ((up[i] + down[-i]) - f.log_factorials_at_mode);
  } else {
    for (int64_t i = 0; i < size; ++i) log_f[at + i] = -class_drop(f, f.low + i, table);
  }
  for (int64_t i = size; i % kVD != 0; ++i) log_f[at + i] = 0;
  return {f.low, size, at};
}

// Logs of table p for the totals low .. high (clipped to it) are taken when they are first asked for: a single draw
// looks at as many as its class has outcomes, which are few where there are many classes.
inline void need_log_b(const SizeTables& t, int64_t p, int64_t low, int64_t high) {
  const int64_t size = t.b_size[p], from = low - t.b_low[p], to = high - t.b_low[p] + 1;
  const int64_t first = from > 0 ? from / kVD * kVD : 0;  // whole packs
  const int64_t last = to < size ? (to + kVD - 1) / kVD * kVD : (size + kVD - 1) / kVD * kVD;
  if (first >= t.known_first[p] && last <= t.known_last[p]) return;
  const double* b = t.b + t.b_at[p];
  double* log_b = t.log_b + t.b_at[p];
  if (t.known_first[p] == t.known_last[p]) t.known_first[p] = t.known_last[p] = first;
  if (first < t.known_first[p]) {
    log_table(b + first, t.known_first[p] - first, log_b + first);
    t.known_first[p] = first;
  }
  if (last > t.known_last[p]) {
    log_table(b + t.known_last[p], last - t.known_last[p], log_b + t.known_last[p]);
    t.known_last[p] = last;
  }
}

inline double largest_of(const double* x, int64_t size) {
  double best = x[0];
  int64_t i = 0;
  if (size >= kVD) {
    VD lanes = load<VD>(x);
    for (i = kVD; i + kVD <= size; i += kVD) lanes = max_lane<VD>(lanes, load<VD>(x + i));
    best = max_over_lanes<VD>(lanes);
  }
  for (; i < size; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

// Cuts a table of weights (or their logs) to what lies within the cut of its maximum; makes that maximum 1 (log 0).
// `values` may be the table itself. Writes whole packs, as ones beyond the end.
inline void finish_table(SizeTables* t, int64_t p, int64_t low, int64_t size, double cut, const double* values) {
  const double highest = largest_of(values, size);
  const double threshold = t->linear ? highest * exp_lane<double>(-cut) : highest - cut;
  int64_t first = 0, last = size - 1;
  while (values[first] < threshold) ++first;
  while (values[last] < threshold) --last;
  const int64_t at = t->b_at[p], count = last - first + 1;
  t->scale[p] = highest;
  t->b_low[p] = low + first;
  t->b_size[p] = count;
  double* out = (t->linear ? t->b : t->log_b) + at;
  const double scale = 1 / highest;
  int64_t i = 0;
  for (; i + kVD <= count; i += kVD) {
    const VD x = load<VD>(values + first + i);
    store<VD>(out + i, t->linear ? x * scale : x - highest);
  }
  for (; i < count; ++i) out[i] = t->linear ? values[first + i] * scale : values[first + i] - highest;
  for (; i % kVD != 0; ++i) out[i] = 1;
  t->known_first[p] = 0;
  t->known_last[p] = t->linear ? 0 : i;
}

// Adds rows begin .. end - 1 to the bounds.
template <class T>
inline void add_table_sizes(const MvhgTableSizesArgs<T>& args, int64_t begin, int64_t end) {
  const MvhgExactArgs<T>& common = args.common;
  TableSizes& out = *args.sizes;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t* m = common.m + row * common.m_stride;
    const int64_t n = common.n[row * common.n_stride];
    int64_t total = 0, largest = 0, outcomes = 0;
    bool valid = n >= 0;
    for (int64_t k = 0; k < common.classes; ++k) {
      valid = valid && m[k] >= 0;
      total += m[k];
      largest = largest > m[k] ? largest : m[k];
      outcomes += (m[k] < n + 1 ? m[k] : n + 1) + 1;
    }
    if (!valid || n > total || n > args.largest_n) continue;  // the kernel answers with NaN, or needs no tables
    out.max_m = out.max_m > largest ? out.max_m : largest;
    out.max_n = out.max_n > n ? out.max_n : n;
    out.max_total = out.max_total > total ? out.max_total : total;
    out.outcomes = out.outcomes > outcomes ? out.outcomes : outcomes;
    if (common.m_stride == 0 && common.n_stride == 0) break;
  }
  // entropy sums whole binomials, also what cannot be drawn
  const int64_t most = common.use == TableUse::kEntropy ? out.max_m + 1 : out.max_n + 2;
  out.widest = table_width(out.max_m, out.max_n, out.max_total, table_cut(common), most);
}

// b_{K-2} = f_{K-1};  b_p = f_{p+1} * b_{p+1}, up to the total n + 1 that slopes at n look at.            (Eq. 19)
template <class T>
inline SizeTables build_tables(const MvhgExactArgs<T>& args, const MvhgRow& row, const T* log_omega,
                               const int64_t* order) {
  const ExactScratch& scratch = args.scratch;
  const double cut = table_cut(args);
  const int64_t classes = args.classes;
  int64_t* windows = scratch.windows;
  SizeTables t{classes,
               windows,
               windows + classes,
               windows + 2 * classes,
               windows + 3 * classes,
               windows + 4 * classes,
               windows + 5 * classes,
               windows + 6 * classes,
               windows + 7 * classes,
               scratch.f,
               scratch.log_f,
               scratch.b,
               scratch.log_b,
               scratch.classes,
               true};
  const double tilt = solve_tilt(Alone(), row, log_omega);
  int64_t at = 0;
  double range = 0;
  TotalMoments moments{};
  for (int64_t p = 0; p < classes; ++p) {
    const int64_t k = order == nullptr ? p : order[p];
    const double a = static_cast<double>(log_omega[k]) + tilt;
    add_class(row.m[k], a, &moments);
    const TableWindow w = class_table(row.m[k], a, row.n + 1, cut, scratch.widest, args.log_factorials, at, t.log_f);
    t.f_low[p] = w.low;
    t.f_size[p] = w.size;
    t.f_at[p] = at;
    const double ends = t.log_f[at] < t.log_f[at + w.size - 1] ? t.log_f[at] : t.log_f[at + w.size - 1];
    range -= ends;
    at += (w.size + kTablePadding) / kVD * kVD;
  }
  t.linear = cut <= kLinearRange || range <= kLinearRange;
  if (t.linear)
    for (int64_t p = 0; p < classes; ++p) exp_table(t.log_f + t.f_at[p], t.f_size[p], t.f + t.f_at[p]);

  at = 0;
  moments = {0, 0, moments.after};
  for (int64_t p = classes - 2; p >= 0; --p) {
    const int64_t k = order == nullptr ? p + 1 : order[p + 1];
    add_class(row.m[k], static_cast<double>(log_omega[k]) + tilt, &moments);
    t.b_at[p] = at;
    const TotalStretch stretch = total_stretch(t, p, row.n, moments, cut, scratch.widest);
    const int64_t low = stretch.low, size = stretch.size, skipped = stretch.skipped;
    const double* f = (t.linear ? t.f : t.log_f) + t.f_at[p + 1];
    const bool last = p == classes - 2;
    double* work = scratch.work;
    if (last) {
      finish_table(&t, p, low, size, cut, f + skipped);
    } else if (t.linear) {
      const double* b = t.b + t.b_at[p + 1];
      const bool f_shorter = t.f_size[p + 1] < t.b_size[p + 1];
      const double *kernel = f_shorter ? f : b, *signal = f_shorter ? b : f;
      const int64_t taps = f_shorter ? t.f_size[p + 1] : t.b_size[p + 1];
      const int64_t length = f_shorter ? t.b_size[p + 1] : t.f_size[p + 1];
      double *reversed = work, *padded = work + scratch.widest + kTablePadding;
      double* out = t.b + at;  // in place: finish_table moves values down only
      for (int64_t i = 0; i < taps; ++i) reversed[i] = kernel[taps - 1 - i];
      pad_signal(signal, length, taps - 1, taps - 1, padded);
      correlate(reversed, taps, padded + skipped, taps - 1 - skipped, taps - 1 + length - skipped, out, size);
      finish_table(&t, p, low, size, cut, out);
    } else {
      int64_t mode = 0;
      for (int64_t i = 0; i < size; ++i) work[i] = convolve_at(t, p + 1, low + i, &mode, [](int64_t, double) {});
      finish_table(&t, p, low, size, cut, work);
    }
    at += (t.b_size[p] + kTablePadding) / kVD * kVD;
  }
  return t;
}

// Reverse mode: h[p] holds the cotangents of log b_p on entry for every p (h is consumed); adds to grad, by class.
// q(x | rho) = f_{p+1}(x) b_{p+1}(rho - x) / b_p(rho);  h_{p+1}(rho - x) += h_p(rho) q,
// grad of log omega of the class at p + 1 += h_p(rho) x q.                                           (Eq. 21)
template <class T>
inline void reverse_tables(const MvhgExactArgs<T>& args, const SizeTables& t, const int64_t* order, double* h,
                           double* grad) {
  const ExactScratch& scratch = args.scratch;
  auto class_of = [&](int64_t p) { return order == nullptr ? p : order[p]; };
  for (int64_t p = 0; p + 2 < t.classes; ++p) {
    const int64_t offset = t.f_low[p + 1] + t.b_low[p + 1] - t.b_low[p];  // of the sum's index from the table's
    const int64_t f_size = t.f_size[p + 1], b_size = t.b_size[p + 1], size = t.b_size[p];
    double* later = h + t.b_at[p + 1];
    const double* here = h + t.b_at[p];
    double sum = 0;
    if (t.linear) {
      const double *f = t.f + t.f_at[p + 1], *b = t.b + t.b_at[p + 1], *now = t.b + t.b_at[p];
      double *ratio = scratch.work, *out = scratch.work + 3 * (scratch.widest + kTablePadding);
      const int64_t before = -offset, span = f_size + b_size;  // what was cut off at the lower end
      for (int64_t i = 0; i < before; ++i) ratio[i] = 0;
      for (int64_t i = 0; i < size; ++i) ratio[before + i] = here[i] / (now[i] * t.scale[p]);
      for (int64_t i = before + size; i < span + kTile; ++i) ratio[i] = 0;
      correlate(b, b_size, ratio, before, before + size, out, f_size);
      for (int64_t i = 0; i < f_size; ++i) sum += f[i] * out[i] * static_cast<double>(t.f_low[p + 1] + i);
      correlate(f, f_size, ratio, before, before + size, out, b_size);
      for (int64_t j = 0; j < b_size; ++j) later[j] += b[j] * out[j];
    } else {
      int64_t mode = t.f_low[p + 1];
      for (int64_t i = 0; i < size; ++i) {
        if (here[i] == 0) continue;
        const int64_t rho = t.b_low[p] + i;
        convolve_at(t, p + 1, rho, &mode, [&](int64_t x, double q) {
          later[rho - x - t.b_low[p + 1]] += here[i] * q;
          sum += here[i] * q * static_cast<double>(x);
        });
      }
    }
    grad[class_of(p + 1)] += sum;
  }
  const int64_t p = t.classes - 2;  // the last table is the last class itself
  double sum = 0;
  for (int64_t i = 0; i < t.b_size[p]; ++i) sum += h[t.b_at[p] + i] * static_cast<double>(t.b_low[p] + i);
  grad[class_of(p + 1)] += sum;
}

#endif  // !defined(__CUDACC__)

}  // namespace DRPM_ISA
}  // namespace drpm
