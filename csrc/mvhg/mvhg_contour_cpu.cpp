#include "mvhg/mvhg_contour.h"
#include "mvhg/mvhg_contour_math.h"
#include "mvhg/mvhg_support.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

using V = Pack<double>;
constexpr int64_t kWidth = Lane<V>::kWidth;
constexpr double kNaN = __builtin_nan("");

// Truncation of the contour, log(1 / eps).
template <class T>
constexpr double kCut = sizeof(T) == 4 ? 20 : 38;

template <class T>
MvhgRow row_of(const MvhgCounts& counts, const T* log_omega, int64_t row) {
  return mvhg_row(counts.m + row * counts.m_stride, counts.n[row * counts.n_stride], counts.classes, log_omega);
}

template <class T>
void fill(T* x, int64_t count, double value) {
  for (int64_t i = 0; i < count; ++i) x[i] = static_cast<T>(value);
}

template <class T>
void write_mean(const Contour& c, T* mean) {
  for (int64_t k = 0; k < c.row.classes; ++k) {
    const double m = static_cast<double>(c.row.m[k]);
    if (c.point)
      mean[k] = static_cast<T>(c.row.n == 0 ? 0 : m);
    else
      mean[k] = static_cast<T>(m * (c.p[k] + mean_rho<V>(c, k)));
  }
}

template <class T>
void normalizer_row(const MvhgNormalizerArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  const MvhgRow parameters = row_of(args.counts, log_omega, row);
  T* mean = args.mean == nullptr ? nullptr : args.mean + row * classes;
  if (!parameters.valid) {
    args.log_normalizer[row] = static_cast<T>(kNaN);
    if (mean != nullptr) fill(mean, classes, kNaN);
    return;
  }
  Contour c = place_contour(parameters, args.scratch);
  double log_normalizer = 0;
  if (!c.point) {
    solve_contour<V>(&c, log_omega, kCut<T>);
    log_normalizer = log_normalizer_of(c, log_omega);
  } else if (parameters.n > 0) {
    for (int64_t k = 0; k < classes; ++k) log_normalizer += static_cast<double>(parameters.m[k]) * log_omega[k];
  }
  args.log_normalizer[row] = static_cast<T>(log_normalizer);
  if (mean != nullptr) write_mean(c, mean);
}

template <class T>
void log_prob_row(const MvhgLogProbArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  const T* sizes = args.sizes + row * classes;
  const MvhgRow parameters = row_of(args.counts, log_omega, row);
  T* mean = args.mean == nullptr ? nullptr : args.mean + row * classes;
  if (!parameters.valid) {
    args.log_prob[row] = static_cast<T>(kNaN);
    if (mean != nullptr) fill(mean, classes, kNaN);
    return;
  }
  Contour c = place_contour(parameters, args.scratch);
  if (!c.point) solve_contour<V>(&c, log_omega, kCut<T>);
  if (mean != nullptr) write_mean(c, mean);
  if (!sizes_are_possible(parameters.m, parameters.n, classes, sizes)) {
    args.log_prob[row] = static_cast<T>(-__builtin_huge_val());
    return;
  }
  double log_prob = c.point ? 0 : -c.log_total;
  for (int64_t k = 0; k < classes && !c.point; ++k) {
    const double a = static_cast<double>(log_omega[k]) + c.tilt;
    log_prob += log_binomial_probability(sizes[k], static_cast<double>(parameters.m[k]), c.p[k], c.q[k], -softplus(-a),
                                         -softplus(a));
  }
  args.log_prob[row] = static_cast<T>(log_prob);
}

// With rho~ = rho - <rho>, s_k = r_k (1 - r_k), r_k = p_k + rho_k, and sums over classes at each node
//   A_v = sum m_k v_k rho~_k,  C = sum m_k v_k w_k s_k:
// (Cov v)_k = m_k < rho~_k A_v > + m_k v_k < s_k >                                                  (Eq. 15)
// kappa(k, v, w) = m_k < rho~_k (A_v A_w + C~) > + m_k v_k < s~_k A_w > + m_k w_k < s~_k A_v >
//                  + m_k v_k w_k < s_k (1 - 2 r_k) >                                                (Eq. 16)
// as the classes are independent binomials given the node (law of total cumulance); < rho~ > = 0 absorbs the tildes.
struct Direction {
  V re[kContourNodes / kWidth], im[kContourNodes / kWidth];
};

template <class T>
void direction_sum(const Contour& c, const double* rho_mean, const T* v, Direction* out) {
  for (int64_t j = 0; j < c.nodes; j += kWidth) {
    V re{}, im{};
    for (int64_t k = 0; k < c.row.classes; ++k) {
      const Complex<V> rho = rho_at<V>(c, k, j);
      const double factor = static_cast<double>(c.row.m[k]) * v[k];
      re += (rho.re - rho_mean[k]) * factor;
      im += rho.im * factor;
    }
    out->re[j / kWidth] = re;
    out->im[j / kWidth] = im;
  }
}

Complex<V> success(const Contour& c, int64_t k, Complex<V> rho) { return {rho.re + c.p[k], rho.im}; }

Complex<V> spread(Complex<V> r, double q, Complex<V> rho) {  // r (1 - r), with 1 - r = q - rho
  return times<V>(r, {splat<V>(q) - rho.re, -rho.im});
}

template <class T>
void cumulant_row(const MvhgCumulantArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  const T* v = args.v + row * classes;
  const T* w = args.w == nullptr ? nullptr : args.w + row * classes;
  T* out = args.out + row * classes;
  const MvhgRow parameters = row_of(args.counts, log_omega, row);
  fill(out, classes, parameters.valid ? 0 : kNaN);
  Contour c = place_contour(parameters, args.scratch);
  if (!parameters.valid || c.point) return;
  solve_contour<V>(&c, log_omega, kCut<T>);
  double* rho_mean = args.scratch + contour_scratch(classes);
  for (int64_t k = 0; k < classes; ++k) rho_mean[k] = mean_rho<V>(c, k);

  Direction a_v, a_w, q;  // q = A_v, or A_v A_w + C
  direction_sum(c, rho_mean, v, &a_v);
  q = a_v;
  if (w != nullptr) {
    direction_sum(c, rho_mean, w, &a_w);
    for (int64_t j = 0; j < c.nodes; j += kWidth) {
      const int64_t i = j / kWidth;
      Complex<V> sum = times<V>({a_v.re[i], a_v.im[i]}, {a_w.re[i], a_w.im[i]});
      for (int64_t k = 0; k < classes; ++k) {
        const Complex<V> rho = rho_at<V>(c, k, j), s = spread(success(c, k, rho), c.q[k], rho);
        const double factor = static_cast<double>(parameters.m[k]) * v[k] * w[k];
        sum.re += s.re * factor;
        sum.im += s.im * factor;
      }
      q.re[i] = sum.re;
      q.im[i] = sum.im;
    }
  }
  for (int64_t k = 0; k < classes; ++k) {
    const double m = static_cast<double>(parameters.m[k]);
    V between{}, within{}, with_v{}, with_w{};
    for (int64_t j = 0; j < c.nodes; j += kWidth) {
      const int64_t i = j / kWidth;
      const Complex<V> weight = weight_at<V>(c, j), rho = rho_at<V>(c, k, j);
      const Complex<V> r = success(c, k, rho), s = spread(r, c.q[k], rho);
      const Complex<V> centred = times<V>(weight, {rho.re - rho_mean[k], rho.im});
      const Complex<V> weighted = times<V>(weight, s);
      between += real_of_product<V>(centred, {q.re[i], q.im[i]});
      if (w == nullptr) {
        within += weighted.re;
      } else {
        with_v += real_of_product<V>(weighted, {a_v.re[i], a_v.im[i]});
        with_w += real_of_product<V>(weighted, {a_w.re[i], a_w.im[i]});
        within += real_of_product<V>(weighted, {splat<V>(1) - r.re * 2.0, r.im * -2.0});
      }
    }
    double sum = sum_lanes<V>(between);
    if (w == nullptr)
      sum += v[k] * sum_lanes<V>(within);
    else
      sum += v[k] * sum_lanes<V>(with_w) + w[k] * sum_lanes<V>(with_v) + v[k] * w[k] * sum_lanes<V>(within);
    out[k] = static_cast<T>(m * sum);
  }
}

// Divergence of Bernoulli(a) from Bernoulli(b), times nothing; both sides from p and q, no cancellation.
double bernoulli_kl(Odds a, Odds b, double log_odds_a, double log_odds_b) {
  if (b.p < 1e-290 || b.q < 1e-290 || a.p < 1e-290 || a.q < 1e-290)
    return a.p * (log_odds_a - log_odds_b) - (softplus(log_odds_a) - softplus(log_odds_b));
  return deviance(a.p, b.p) + deviance(a.q, b.q);
}

// KL = sum_k m_k [ KL(Bernoulli p_k(q) || Bernoulli p_k(p)) + <rho_k>_q delta_k ] - log P_S(q) + log P_S(p),
// delta_k the difference of the tilted log odds: the large terms of Eq. 12 cancel before they are rounded.  (Eq. 17)
template <class T>
void kl_row(const MvhgKlArgs<T>& args, int64_t row) {
  const int64_t classes = args.counts.classes;
  const T* log_q = args.log_omega_q + row * classes;
  const T* log_p = args.log_omega_p + row * classes;
  const MvhgRow row_q = row_of(args.counts, log_q, row), row_p = row_of(args.counts, log_p, row);
  if (!row_q.valid || !row_p.valid) {
    args.kl[row] = static_cast<T>(kNaN);
    fill(args.mean_q + row * classes, classes, kNaN);
    fill(args.mean_p + row * classes, classes, kNaN);
    return;
  }
  Contour q = place_contour(row_q, args.scratch);
  Contour p = place_contour(row_p, args.scratch + contour_scratch(classes));
  double kl = 0;
  if (!q.point) {
    solve_contour<V>(&q, log_q, kCut<double>);  // a small divergence is a difference: always to float64's precision
    solve_contour<V>(&p, log_p, kCut<double>);
    kl = p.log_total - q.log_total;
    for (int64_t k = 0; k < classes; ++k) {
      const double a = log_q[k] + q.tilt, b = log_p[k] + p.tilt;
      kl += static_cast<double>(row_q.m[k]) *
            (bernoulli_kl({q.p[k], q.q[k]}, {p.p[k], p.q[k]}, a, b) + mean_rho<V>(q, k) * (a - b));
    }
  }
  args.kl[row] = static_cast<T>(kl < 0 ? 0 : kl);
  write_mean(q, args.mean_q + row * classes);
  write_mean(p, args.mean_p + row * classes);
}

}  // namespace

#define DRPM_CONTOUR_KERNEL(Name, Args, row_function)                    \
  void Name(const Args<float>& args, int64_t begin, int64_t end) {       \
    for (int64_t row = begin; row < end; ++row) row_function(args, row); \
  }                                                                      \
  void Name(const Args<double>& args, int64_t begin, int64_t end) {      \
    for (int64_t row = begin; row < end; ++row) row_function(args, row); \
  }

DRPM_CONTOUR_KERNEL(mvhg_normalizer_rows, MvhgNormalizerArgs, normalizer_row)
DRPM_CONTOUR_KERNEL(mvhg_log_prob_rows, MvhgLogProbArgs, log_prob_row)
DRPM_CONTOUR_KERNEL(mvhg_cumulant_rows, MvhgCumulantArgs, cumulant_row)
DRPM_CONTOUR_KERNEL(mvhg_kl_rows, MvhgKlArgs, kl_row)

}  // namespace DRPM_ISA
}  // namespace drpm
