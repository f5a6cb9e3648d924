// The tables of size_tables.h, built by one thread; packs run along the tables.
#pragma once

#include "mvhg/tables/size_tables.h"

namespace drpm {
namespace DRPM_ISA {

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
  const double target = u * total;
  return first_where(0, count - 1, [&](int64_t i) { return cumulated[i] > target; });
}

inline void exp_table(const double* log_x, int64_t size, double* x) {
  for (int64_t i = 0; i < size; i += kVD) store<VD>(x + i, exp_lane<VD>(load<VD>(log_x + i)));
}

inline void log_table(const double* x, int64_t size, double* log_x) {
  for (int64_t i = 0; i < size; i += kVD) store<VD>(log_x + i, log_lane<VD>(load<VD>(x + i)));
}

// log f at every stride-th outcome of the window; whole packs.
inline void class_log_weights(const ClassWeights& f, int64_t stride, int64_t count, const LogFactorialTable& table,
                              double* log_f) {
  const double m = f.m, mode = static_cast<double>(f.mode), low = static_cast<double>(f.low);
  const double step = static_cast<double>(stride), high = low + static_cast<double>(count - 1) * step;
  if (m < static_cast<double>(table.size)) {
    const double *up = table.value + f.low, *down = table.value + (static_cast<int64_t>(m) - f.low);
    const auto fill = [&](int64_t by) __attribute__((always_inline)) {
      for (int64_t i = 0; i < count; ++i)
        log_f[i] = (low - mode + static_cast<double>(i) * step) * f.a -
                   ((up[i * by] + down[-i * by]) - f.log_factorials_at_mode);
    };
    stride == 1 ? fill(1) : fill(stride);
    return;
  }
  if (mode < kBendFrom || m - mode < kBendFrom || low < 16 || m - high < 16) {
    for (int64_t i = 0; i < count; ++i) log_f[i] = -class_drop(f, f.low + i * stride, table);
    return;
  }
  double lane_index[kVD];
  for (int64_t i = 0; i < kVD; ++i) lane_index[i] = static_cast<double>(i);
  for (int64_t i = 0; i < count; i += kVD) {
    const VD x = min_lane<VD>((load<VD>(lane_index) + static_cast<double>(i)) * step + low, splat<VD>(high));
    const VD drop = large_factorial_bend<VD>(x, mode) + large_factorial_bend<VD>(m - x, m - mode);
    store<VD>(log_f + i, (x - mode) * f.slope - drop);
  }
}

// Fills log_f; whole packs.
inline TableWindow class_table(int64_t m, double a, int64_t limit, double cut, int64_t widest,
                               const LogFactorialTable& table, int64_t at, double* log_f) {
  const ClassWeights f = class_weights(m, a, limit, cut, widest, table);
  const int64_t size = f.high - f.low + 1;
  class_log_weights(f, 1, size, table, log_f + at);
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

template <class T>
inline void set_table_bounds(const MvhgTableBoundsArgs<T>& args) {
  TableBounds& out = *args.bounds;
  out.counts = count_bounds(args.common.counts, args.largest_n);
  const auto [max_m, max_n, max_total, outcomes] = out.counts;
  out.widest = table_width(max_m, max_n, max_total, table_cut(args.common), max_n + 2);
}

// b_{K-2} = f_{K-1};  b_p = f_{p+1} * b_{p+1}, up to the total n + 1 that slopes at n look at.            (Eq. 19)
template <class T>
inline SizeTables build_tables(const MvhgExactArgs<T>& args, const MvhgRow& row, const T* log_omega) {
  const TableScratch& scratch = args.scratch;
  const double cut = table_cut(args);
  const int64_t classes = row.classes;
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
               scratch.scale,
               true};
  const double tilt = solve_tilt(Alone(), row, log_omega);
  int64_t at = 0;
  double range = 0;
  TotalMoments moments{};
  for (int64_t p = 0; p < classes; ++p) {
    const int64_t k = class_at(row, p);
    const double a = log_weight(row, log_omega, k) + tilt;
    add_class(row.m[k], a, &moments);
    const int64_t m = possible_items(row.m, log_omega, k);
    const TableWindow w = class_table(m, a, row.n + 1, cut, scratch.widest, args.log_factorials, at, t.log_f);
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
    const int64_t k = class_at(row, p + 1);
    add_class(row.m[k], log_weight(row, log_omega, k) + tilt, &moments);
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
inline void reverse_tables(const MvhgExactArgs<T>& args, const SizeTables& t, const MvhgRow& row, double* h,
                           double* grad) {
  const TableScratch& scratch = args.scratch;
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
    grad[class_at(row, p + 1)] += sum;
  }
  const int64_t p = t.classes - 2;  // the last table is the last class itself
  double sum = 0;
  for (int64_t i = 0; i < t.b_size[p]; ++i) sum += h[t.b_at[p] + i] * static_cast<double>(t.b_low[p] + i);
  grad[class_at(row, p + 1)] += sum;
}

}  // namespace DRPM_ISA
}  // namespace drpm
