// Prices of the relaxed sized assignment: a proximal Newton method on the dual in K unknowns
// (docs/math/sized_assignment.md, Section 2). `Elements` is what sums over the elements, at given prices and
// temperature.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "sized_assignment/sized_assignment.h"

namespace drpm {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

// Bounds on the sizes of the subsets that may hold elements; equal ones are met exactly at any price.
struct SizedBounds {
  std::vector<double> low, high;
  double total;  // sum of weights

  int64_t classes() const { return static_cast<int64_t>(low.size()); }
  bool exact(int64_t k) const { return low[k] == high[k]; }
  // Derivative of the bounds' term of the dual where the price is not 0.
  double at(int64_t k, double price) const { return price > 0 ? high[k] : low[k]; }

  double penalty(const std::vector<double>& p) const {
    double sum = 0;
    for (int64_t k = 0; k < classes(); ++k)
      if (p[k] != 0) sum += at(k, p[k]) * p[k];
    return sum;
  }

  // The least element of the dual's subdifferential, by subset, where N are the sizes at prices p.
  double residual(int64_t k, double price, double size) const {
    if (exact(k) || price != 0) return at(k, price) - size;
    return size > high[k] ? high[k] - size : size < low[k] ? low[k] - size : 0;
  }

  SizedBounds scaled(double factor, double sum) const {
    SizedBounds b{low, high, sum};
    for (double& x : b.low) x *= factor;
    for (double& x : b.high) x *= factor;
    return b;
  }
};

struct SizedSums {
  double value = 0;                      // tau sum_i logsumexp
  std::vector<double> sizes, couplings;  // (classes), (classes, padded): both triangles
};

inline double largest_residual(const SizedBounds& b, const std::vector<double>& p, const std::vector<double>& sizes) {
  double worst = 0;
  for (int64_t k = 0; k < b.classes(); ++k) worst = std::max(worst, std::fabs(b.residual(k, p[k], sizes[k])));
  return worst;
}

// Minimises -N (q - p) + (q - p) H (q - p) / 2 + bounds(q) for H the Laplacian of the couplings over tau: which prices
// are 0 by exchange of signs, the rest by elimination.
class SizedModel {
 public:
  SizedModel(const SizedBounds& bounds, const SizedSums& sums, const std::vector<double>& prices, double tau)
      : b_(bounds), s_(sums), p_(prices), tau_(tau), classes_(bounds.classes()), padded_(sized_padded(classes_)) {}

  std::vector<double> minimum(double reach) {
    std::vector<int> sign(classes_);
    for (int64_t k = 0; k < classes_; ++k)
      sign[k] = p_[k] > 0 || s_.sizes[k] > b_.high[k] ? 1 : p_[k] < 0 || s_.sizes[k] < b_.low[k] ? -1 : 0;
    std::vector<double> q;
    for (int round = 0; round < 20; ++round) {
      q = solve(sign, reach);
      if (!exchange(q, &sign)) break;
    }
    for (int64_t k = 0; k < classes_; ++k)
      if (!b_.exact(k) && q[k] * sign[k] <= 0) q[k] = 0;
    return q;
  }

 private:
  bool moves(const std::vector<int>& sign, int64_t k) const { return b_.exact(k) || sign[k] != 0; }

  std::vector<double> solve(const std::vector<int>& sign, double reach) {
    moving_.clear();
    for (int64_t k = 0; k < classes_; ++k)
      if (moves(sign, k)) moving_.push_back(k);
    const int64_t count = static_cast<int64_t>(moving_.size());
    c_.resize(count * count);
    ground_.assign(count, 0);
    x_.resize(count);
    pivots_.resize(count);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t k = moving_[i];
      const double* row = s_.couplings.data() + k * padded_;
      for (int64_t j = 0; j < i; ++j) c_[i * count + j] = row[moving_[j]] / tau_;
      x_[i] = s_.sizes[k] - (sign[k] > 0 ? b_.high[k] : b_.low[k]);
      for (int64_t l = 0; l < classes_; ++l) {
        if (moves(sign, l)) continue;
        ground_[i] += row[l] / tau_;
        x_[i] -= row[l] / tau_ * p_[l];
      }
    }
    std::fill(pivots_.begin(), pivots_.end(), 0);
    sized_laplacian({c_.data(), ground_.data(), x_.data(), pivots_.data(), count, count, reach, 1e-12 * b_.total}, 0,
                    1);
    std::vector<double> q(classes_, 0);
    for (int64_t i = 0; i < count; ++i) q[moving_[i]] = p_[moving_[i]] + x_[i];
    return q;
  }

  // Prices of the wrong sign stay at 0, sizes beyond a bound get a price; false where nothing changes.
  bool exchange(const std::vector<double>& q, std::vector<int>* sign) const {
    bool changed = false;
    for (int64_t k = 0; k < classes_; ++k) {
      if (b_.exact(k)) continue;
      int next = (*sign)[k];
      if (next != 0) {
        if (q[k] * next < 0) next = 0;
      } else {
        double size = s_.sizes[k];  // at q, by the model
        for (int64_t l = 0; l < classes_; ++l)
          if (l != k) size -= s_.couplings[k * padded_ + l] / tau_ * ((q[k] - p_[k]) - (q[l] - p_[l]));
        const double rounding = 1e-12 * b_.total;
        next = size > b_.high[k] + rounding ? 1 : size < b_.low[k] - rounding ? -1 : 0;
      }
      changed |= next != (*sign)[k];
      (*sign)[k] = next;
    }
    return changed;
  }

  const SizedBounds& b_;
  const SizedSums& s_;
  const std::vector<double>& p_;
  const double tau_;
  const int64_t classes_, padded_;
  std::vector<int64_t> moving_;
  std::vector<double> c_, ground_, x_, pivots_;
};

// Derivative of the dual along d at p, towards p + d.
inline double sized_slope(const SizedBounds& b, const std::vector<double>& p, const std::vector<double>& d,
                          const std::vector<double>& sizes) {
  double slope = 0;
  for (int64_t k = 0; k < b.classes(); ++k)
    if (d[k] != 0) slope += (b.at(k, p[k] != 0 ? p[k] : d[k]) - sizes[k]) * d[k];
  return slope;
}

// Moves the prices to the minimum of the dual; returns whether sizes are within `tolerance` of what the prices say, as
// a share of the total weight.
template <class Elements>
bool solve_prices(const Elements& elements, const SizedBounds& b, double tau, double tolerance, int most_steps,
                  std::vector<double>* prices) {
  std::vector<double>& p = *prices;
  const int64_t classes = b.classes();
  SizedSums now = elements.sums(p, tau, true), next;
  double reach = 10 * tau, residual = largest_residual(b, p, now.sizes);
  const double rounding = 1e-13;
  for (int step = 0; step < most_steps && residual > tolerance * b.total; ++step) {
    std::vector<double> d = SizedModel(b, now, p, tau).minimum(reach);
    double longest = 0;
    for (int64_t k = 0; k < classes; ++k) longest = std::max(longest, std::fabs(d[k] -= p[k]));
    double slope = sized_slope(b, p, d, now.sizes);
    if (!(slope <
          0)) {  // the model's bounds are not the dual's yet: every price by itself, against twice its couplings
      longest = 0;
      for (int64_t k = 0; k < classes; ++k) {
        const double r = b.residual(k, p[k], now.sizes[k]);
        double coupled = 0;
        for (int64_t l = 0; l < classes; ++l) coupled += l == k ? 0 : now.couplings[k * sized_padded(classes) + l];
        d[k] = -r / std::max(2 * coupled / tau, std::fabs(r) / reach + 1e-300);
        if (!b.exact(k) && p[k] != 0 && (p[k] + d[k]) * p[k] < 0) d[k] = -p[k];
        longest = std::max(longest, std::fabs(d[k]));
      }
      slope = sized_slope(b, p, d, now.sizes);
      if (!(slope < 0)) break;
    }
    double size = longest > 4 * reach ? 4 * reach / longest : 1;
    reach *= 2;
    const double value = now.value + b.penalty(p);
    std::vector<double> q(classes);
    bool taken = false;
    for (int trial = 0; trial < 40 && !taken; ++trial) {
      for (int64_t k = 0; k < classes; ++k) {
        q[k] = p[k] + size * d[k];
        if (!b.exact(k) && q[k] * p[k] < 0) q[k] = 0;  // a kink is not crossed in one step
      }
      next = elements.sums(q, tau, classes <= 32);
      const double after = next.value + b.penalty(q), end = sized_slope(b, q, d, next.sizes);
      taken = end <= 0 || after <= value + 1e-4 * size * slope ||
              (after <= value + rounding * std::fabs(value) && end <= 0.9 * -slope);
      if (taken) break;
      size /= 4;
      reach = 10 * tau;
    }
    const double left = largest_residual(b, q, next.sizes);
    if (!taken || !(left < kInfinite)) break;
    const bool stalls = left >= residual && residual <= 1e-9 * b.total;  // rounding: no step is better
    if (stalls) break;
    if (classes > 32) next = elements.sums(q, tau, true);
    p.swap(q);
    std::swap(now, next);
    residual = left;
  }
  return residual <= std::max(tolerance, 1e-9) * b.total;
}

}  // namespace drpm
