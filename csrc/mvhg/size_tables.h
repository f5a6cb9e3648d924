// Tables of the exact conditionals: weights of single classes and of the total of the later classes, over windows of
// log-concave weights (docs/math/mvhg.md, section 5). CPU only: packs run along the tables.
#pragma once

#include "common/log_factorial.h"
#include "common/philox.h"
#include "mvhg/concave_window.h"
#include "mvhg/mvhg_exact.h"
#include "mvhg/mvhg_tilt_math.h"
#include "mvhg/outcome.h"

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

inline TableWindow f_window(const SizeTables& t, int64_t p) { return {t.f_low[p], t.f_size[p], t.f_at[p]}; }
inline TableWindow b_window(const SizeTables& t, int64_t p) { return {t.b_low[p], t.b_size[p], t.b_at[p]}; }

// Outcomes that matter lie within this of the best one.
template <class T>
double outcome_cut(const MvhgExactArgs<T>& args) {
  return (args.noise ? GumbelRange<T>::kSpan : 0) + (args.use == TableUse::kRelaxedSample ? kKeep<T> * args.tau : 0);
}

// Tables reach this many nats further than the outcomes that matter at a typical remainder: what a remainder of
// probability e^-kMargin would miss is the edge of its window.
template <class T>
constexpr double kMargin = sizeof(T) == 4 ? 20 : 35;
constexpr double kPlainCut = 45;  // below the resolution of a uniform

template <class T>
double table_cut(const MvhgExactArgs<T>& args) {
  return args.use == TableUse::kPlain || args.use == TableUse::kEntropy ? kPlainCut : outcome_cut(args) + kMargin<T>;
}

// Weights below e^-640 of the largest would leave the doubles once multiplied.
constexpr double kLinearRange = 640;

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

inline void exp_table(const double* log_x, int64_t size, double* x) {
  for (int64_t i = 0; i < size; i += kVD) store<VD>(x + i, exp_lane<VD>(load<VD>(log_x + i)));
}

inline void log_table(const double* x, int64_t size, double* log_x) {
  for (int64_t i = 0; i < size; i += kVD) store<VD>(log_x + i, log_lane<VD>(load<VD>(x + i)));
}

// log f(x) = log C(m, x) + x a, relative to its value at the mode, within `cut` of it and x <= limit.   (Eq. 18)
inline TableWindow class_table(int64_t m, double a, int64_t limit, double cut, int64_t widest,
                               const LogFactorialTable& table, int64_t at, double* log_f) {
  const Odds odds = odds_of(a);
  const int64_t high = m < limit ? m : limit;
  int64_t mode = static_cast<int64_t>(static_cast<double>(m + 1) * odds.p);
  mode = mode < high ? mode : high;
  const double count = static_cast<double>(m);
  auto log_factorials = [&](int64_t x) {
    return log_factorial(static_cast<double>(x), table) + log_factorial(count - static_cast<double>(x), table);
  };
  const double at_mode = log_factorials(mode);
  auto drop = [&](int64_t x) { return log_factorials(x) - at_mode - static_cast<double>(x - mode) * a; };
  OutcomeWindow window = concave_window(mode, 0, high, cut, drop);
  if (window.high - window.low >= widest) {  // mvhg_table_sizes rules it out; memory safety does not rest on that
    window.low = window.low > mode - widest / 2 ? window.low : mode - widest / 2;
    window.high = window.low + widest - 1;
  }
  const int64_t size = window.high - window.low + 1;
  if (m < table.size) {
    const double *up = table.value + window.low, *down = table.value + (m - window.low);
    const double start = static_cast<double>(window.low - mode);
    for (int64_t i = 0; i < size; ++i)
      log_f[at + i] = (start + static_cast<double>(i)) * a - ((up[i] + down[-i]) - at_mode);
  } else {
    for (int64_t i = 0; i < size; ++i) log_f[at + i] = -drop(window.low + i);
  }
  for (int64_t i = size; i % kVD != 0; ++i) log_f[at + i] = 0;
  return {window.low, size, at};
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

// How far a sum of independent Bernoulli variables strays from its mean, at most, where it is at most c nats below
// probability 1: Bernstein's inequality d^2 / (2 (variance + d / 3)) <= c.                            (Eq. 19a)
inline double farthest(double variance, double c) { return c / 3 + __builtin_sqrt(c * c / 9 + 2 * c * variance); }

// Of the likeliest value's probability, at most this is missing to 1, in nats.
inline double peak_loss(double variance) { return 0.5 * log_lane<double>(1 + 12 * variance); }

// The same for the total of the classes after some position, in a draw that is at most `cut` nats less probable than
// the likeliest: the classes before must stray as far the other way.
inline double farthest_total(double before, double after, double cut) {
  const double c = cut + peak_loss(before) + peak_loss(after);
  double distance = farthest(before < after ? before : after, c);
  for (int i = 0; i < 4; ++i)  // descends to the root from above: each is a bound
    distance = __builtin_sqrt(2 * c / (1 / (before + distance / 3) + 1 / (after + distance / 3)));
  return distance;
}

// Adds rows begin .. end - 1 to the bounds. Variances are at most a quarter of the items and at most the mean.
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
  const double n = static_cast<double>(out.max_n), cut = table_cut(common);
  const double items = 0.25 * static_cast<double>(out.max_m), all_items = 0.25 * static_cast<double>(out.max_total);
  const double one = items < n ? items : n, all = all_items < n ? all_items : n;
  const double of_class = farthest(one, cut + peak_loss(one)), of_total = farthest_total(0.5 * all, 0.5 * all, cut);
  const double bound = 2 * (of_class > of_total ? of_class : of_total) + 16;
  // entropy sums whole binomials, also what cannot be drawn
  const int64_t most = args.common.use == TableUse::kEntropy ? out.max_m + 1 : out.max_n + 2;
  out.widest = bound < static_cast<double>(most) ? static_cast<int64_t>(bound) : most;
}

// Calls each(x, q) with q = f(x) b(rho - x) / sum for the outcomes x that matter at this rho, and returns the log of
// the sum; `mode` is carried from one rho to the next, as it only moves up.
template <class Each>
inline double convolve_at(const SizeTables& t, int64_t p, int64_t rho, int64_t* mode, const Each& each) {
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
  double range = 0, all = 0;
  for (int64_t p = 0; p < classes; ++p) {
    const int64_t k = order == nullptr ? p : order[p];
    const double a = static_cast<double>(log_omega[k]) + tilt;
    const Odds odds = odds_of(a);
    all += static_cast<double>(row.m[k]) * odds.p * odds.q;
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
  double mean = 0, after = 0;  // of the total of the classes after p
  for (int64_t p = classes - 2; p >= 0; --p) {
    const int64_t k = order == nullptr ? p + 1 : order[p + 1];
    const double m = static_cast<double>(row.m[k]);
    const Odds odds = odds_of(static_cast<double>(log_omega[k]) + tilt);
    mean += m * odds.p;
    after += m * odds.p * odds.q;
    const double reach = farthest_total(all > after ? all - after : 0, after, cut) + 2;
    const double least = mean - reach, most = mean + reach < row.n + 1 ? mean + reach : row.n + 1;

    t.b_at[p] = at;
    const double* f = (t.linear ? t.f : t.log_f) + t.f_at[p + 1];
    const bool last = p == classes - 2;
    int64_t low = t.f_low[p + 1] + (last ? 0 : t.b_low[p + 1]);
    int64_t high = t.f_low[p + 1] + t.f_size[p + 1] - 1 + (last ? 0 : t.b_low[p + 1] + t.b_size[p + 1] - 1);
    const int64_t skipped = least > low && least < high ? static_cast<int64_t>(least) - low : 0;
    low += skipped;
    high = most < high && most > low ? static_cast<int64_t>(most) : high;
    const int64_t size = high - low < scratch.widest ? high - low + 1 : scratch.widest;
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

}  // namespace DRPM_ISA
}  // namespace drpm
