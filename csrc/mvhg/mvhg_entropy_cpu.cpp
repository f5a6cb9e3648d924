#include "mvhg/mvhg_cumulant_math.h"
#include "mvhg/mvhg_exact.h"
#include "mvhg/size_tables.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

using V = Pack<double>;
using Values = NodeValues<V, Alone>;
constexpr double kNaN = __builtin_nan("");

// Given a node, of one class with y = x - mode and phi(x) = log f(x):
struct OutcomeMoments {
  Values phi;   // E phi
  Values with;  // Cov(y, phi)
  Values pair;  // cumulant of y, y, phi
};

// Sums over the outcomes of f(x) e^{i theta y} phi(x) y^a, divided by the class's characteristic function, which is
// known without cancellation: phase m [atan(d tan h) - d h] + theta (m p - mode) as in Eq. 12.         (Eq. 23)
inline void outcome_moments(const Contour& c, int64_t k, const TableWindow& w, int64_t mode, const double* f,
                            const double* phi, double mass, OutcomeMoments* out) {
  constexpr int64_t kTurns = 32;  // steps of the recurrence for e^{i theta y} between two evaluations
  const double m = static_cast<double>(c.row.m[k]), p = c.p[k], q = c.q[k], difference = p - q;
  const double shift = m * p - static_cast<double>(mode);
  for (int64_t j = 0, slot = 0; j < c.nodes; j += kVD, ++slot) {
    const V tangent = load<V>(c.sine + j) / (load<V>(c.cosine + j) + 1.0), half = atan_lane<V>(tangent);
    const Complex<V> turn = {load<V>(c.cosine + j), load<V>(c.sine + j)};
    Complex<V> sum0{}, sum1{}, sum2{};
    for (int64_t i = 0; i < w.size; i += kTurns) {
      const SinCos<V> at = sincos_lane<V>(half * (2.0 * static_cast<double>(w.low + i - mode)));
      Complex<V> e = {at.cos, at.sin};
      const int64_t stop = i + kTurns < w.size ? i + kTurns : w.size;
      for (int64_t x = i; x < stop; ++x) {
        const double y = static_cast<double>(w.low + x - mode);
        const Complex<V> term = scaled<V>(e, f[w.at + x] * phi[w.at + x]);
        sum0 = plus<V>(sum0, term);
        sum1 = plus<V>(sum1, scaled<V>(term, y));
        sum2 = plus<V>(sum2, scaled<V>(term, y * y));
        e = times<V>(e, turn);
      }
    }
    const V square = tangent * tangent, sine_squared = square / (square + 1.0);  // sin^2 h
    const V modulus = log1p_lane<V>(sine_squared * (-4 * p * q)) * (0.5 * m);
    const V phase = (atan_lane<V>(tangent * difference) - half * difference) * m + half * (2 * shift);
    const V scale = exp_lane<V>(-modulus) * (1 / mass);
    const SinCos<V> back = sincos_lane<V>(phase);
    const Complex<V> inverse = {back.cos * scale, -back.sin * scale};
    const Complex<V> e0 = times<V>(sum0, inverse), e1 = times<V>(sum1, inverse);
    const Complex<V> e2 = times<V>(sum2, inverse);
    const BinomialAt<V> x = binomial_at<V>(c, k, j);
    const Complex<V> y = {x.rho.re * m + shift, x.rho.im * m};  // E y
    const Complex<V> y2 = times<V>(y, y);
    const Complex<V> rest = {y2.re - x.s.re * m, y2.im - x.s.im * m};  // 2 (E y)^2 - E y^2
    out->phi.set(slot, e0);
    out->with.set(slot, plus<V>(e1, scaled<V>(times<V>(y, e0), -1)));
    out->pair.set(slot, plus<V>(e2, plus<V>(times<V>(rest, e0), scaled<V>(times<V>(y, e1), -2))));
  }
}

double weighted_mean(const Contour& c, const Values& a, const Values& b) {
  V sum{};
  for (int64_t j = 0, slot = 0; j < c.nodes; j += kVD, ++slot)
    sum += real_of_product<V>(weight_at<V>(c, j), times<V>(a.at(slot), b.at(slot)));
  return sum_lanes<V>(sum);
}

// With Phi = sum_k log f_k(n_k), log p up to a constant:  H = log Z - E Phi,  dH/dlog omega_l = -Cov(n_l, Phi),
// (d2H/dlog omega2 v)_l = -kappa(n_l, v.n, Phi) - (Cov v)_l, by the law of total cumulance.          (Eq. 22)
template <class T>
void entropy_row(const MvhgEntropyArgs<T>& args, int64_t parameters) {
  const MvhgExactArgs<T>& common = args.common;
  const int64_t classes = common.classes;
  const T* log_omega = common.log_omega + parameters * classes;
  const MvhgRow row =
      mvhg_row(common.m + parameters * common.m_stride, common.n[parameters * common.n_stride], classes, log_omega);
  const T* v = args.v == nullptr ? nullptr : args.v + parameters * classes;
  T* out = args.by_class + parameters * classes;
  for (int64_t k = 0; k < classes; ++k) out[k] = static_cast<T>(row.valid ? 0 : kNaN);
  if (args.entropy != nullptr) args.entropy[parameters] = static_cast<T>(row.valid ? 0 : kNaN);
  Contour c = place_contour(row, args.contours);
  if (!row.valid || c.point || classes == 1) return;
  solve_contour<V>(Alone(), &c, log_omega, 38);
  double *rho_mean = args.contours + contour_scratch(classes), *per_class = rho_mean + classes;
  for (int64_t k = 0; k < classes; ++k) rho_mean[k] = mean_rho<V>(Alone(), c, k);

  Values along{}, phi{}, with_v{};
  if (v != nullptr) total_along(Alone(), c, rho_mean, v, &along);
  double log_z = c.log_total;
  for (int64_t k = 0; k < classes; ++k) {
    const double a = static_cast<double>(log_omega[k]) + c.tilt;
    double *f = common.scratch.f, *log_f = common.scratch.log_f;
    const TableWindow w =
        class_table(row.m[k], a, row.m[k], table_cut(common), common.scratch.widest, common.log_factorials, 0, log_f);
    exp_table(log_f, w.size, f);
    int64_t mode = 0;
    double mass = 0;
    for (int64_t i = 0; i < w.size; ++i) {
      mass += f[i];
      mode = log_f[i] > log_f[mode] ? i : mode;
    }
    log_z += log_lane<double>(mass);
    OutcomeMoments x;
    outcome_moments(c, k, w, w.low + mode, f, log_f, mass, &x);
    for (int64_t j = 0, slot = 0; j < c.nodes; j += kVD, ++slot) {
      phi.set(slot, plus<V>(phi.at(slot), x.phi.at(slot)));
      if (v != nullptr) with_v.set(slot, plus<V>(with_v.at(slot), scaled<V>(x.with.at(slot), v[k])));
    }
    per_class[k] = v == nullptr ? node_mean(Alone(), c, x.with)
                                : weighted_mean(c, x.with, along) + v[k] * node_mean(Alone(), c, x.pair);
  }
  const double expected_phi = node_mean(Alone(), c, phi);
  if (args.entropy != nullptr) args.entropy[parameters] = static_cast<T>(log_z - expected_phi);
  subtract_mean(Alone(), c, &phi);
  for (int64_t k = 0; k < classes; ++k) {
    V sum{};
    for (int64_t j = 0, slot = 0; j < c.nodes; j += kVD, ++slot) {
      const BinomialAt<V> x = binomial_at<V>(c, k, j);
      const Complex<V> rho = {x.rho.re - rho_mean[k], x.rho.im}, here = phi.at(slot);
      Complex<V> value = times<V>(rho, here);
      if (v != nullptr) {
        const Complex<V> a = along.at(slot);
        value = times<V>(rho, plus<V>(plus<V>(times<V>(a, here), with_v.at(slot)), a));
        value = plus<V>(value, scaled<V>(times<V>(x.s, {here.re + 1.0, here.im}), v[k]));
      }
      sum += real_of_product<V>(weight_at<V>(c, j), value);
    }
    out[k] = static_cast<T>(-(static_cast<double>(row.m[k]) * sum_lanes<V>(sum) + per_class[k]));
  }
}

}  // namespace

void mvhg_entropy_rows(const MvhgEntropyArgs<float>& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) entropy_row(args, row);
}

void mvhg_entropy_rows(const MvhgEntropyArgs<double>& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) entropy_row(args, row);
}

}  // namespace DRPM_ISA
}  // namespace drpm
