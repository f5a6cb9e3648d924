// One row: bounds and gauge, what is forced, the relaxed prices, the exact assignment (docs/math/sized_assignment.md).
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "sized_assignment/elements.h"
#include "sized_assignment/exact.h"
#include "sized_assignment/forbidden.h"

namespace drpm {

// What is said of every subset of a row; the first three also say which bound takes the gradient.
enum SizedState : int64_t {
  kSizedAtLow = -1,
  kSizedInside = 0,
  kSizedAtHigh = 1,
  kSizedForced = 2,     // holds nothing or all, whatever the scores
  kSizedTooMuch = 3,    // elements that only these subsets may hold are more than they may hold
  kSizedTooLittle = 4,  // these subsets may not hold elements enough for their lower bounds
  kSizedBadBounds = 5,
  kSizedBadValues = 6,
  kSizedNowhere = 7,  // an element may go to none of the subsets
};

template <class T>
struct SizedRow {
  // in
  const T *scores, *weights;         // (K, width), (n) or null
  const double *low, *high, *start;  // (K); start may be null
  int64_t classes, width, n;
  double tau, rounding;  // rounding: sums of bounds that differ from the total by this share of it equal it
  bool relaxed, hard;
  // out
  T* assignment;                       // (K, width)
  int64_t* labels;                     // (width)
  double *prices, *sizes, *violation;  // (K), (K), (1)
  int64_t *state, *converged;          // (K), (1)
};

template <class T>
class SizedSolver {
 public:
  explicit SizedSolver(const SizedRow<T>& row) : r_(row) {}

  void run() {
    for (int64_t k = 0; k < r_.classes; ++k)
      std::fill(r_.assignment + k * r_.width, r_.assignment + (k + 1) * r_.width, T(0));
    std::fill(r_.labels, r_.labels + r_.n, 0);
    std::fill(r_.labels + r_.n, r_.labels + r_.width, -1);
    *r_.converged = 1;
    if (!check_values() || !set_bounds()) return fail();
    const Elements<T> all(r_.scores, r_.width, r_.weights, r_.n, live_, scan_.origin());
    if ((scan_.found & kSizedForbidden) != 0 && !permitted(all)) return fail();
    start(all);
    if (r_.relaxed) relax(all);
    if (r_.hard && !assign(all)) return fail();
    finish(all);
  }

 private:
  bool fail_as(SizedState state) {
    std::fill(r_.state, r_.state + r_.classes, static_cast<int64_t>(state));
    return false;
  }

  void fail() const {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (int64_t k = 0; k < r_.classes; ++k) {
      std::fill(r_.assignment + k * r_.width, r_.assignment + k * r_.width + r_.n, static_cast<T>(nan));
      r_.prices[k] = r_.sizes[k] = nan;
    }
    std::fill(r_.labels, r_.labels + r_.n, 0);
    *r_.violation = nan;
    *r_.converged = 0;
  }

  bool check_values() {
    std::vector<int32_t> subsets(r_.classes);
    for (int64_t k = 0; k < r_.classes; ++k) subsets[k] = static_cast<int32_t>(k);
    const Elements<T> all(r_.scores, r_.width, r_.weights, r_.n, subsets, 0);
    scan_ = all.scan();
    bounds_.total = all.total_weight();
    return (scan_.found & kSizedInvalid) == 0 || fail_as(kSizedBadValues);
  }

  // Bounds of the subsets that may hold elements; where their sums leave no choice all are exact.
  bool set_bounds() {
    const double total = bounds_.total;
    double low = 0, high = 0;
    bool whole = r_.weights == nullptr;
    for (int64_t k = 0; k < r_.classes; ++k) {
      if (!(r_.low[k] >= 0 && r_.low[k] <= r_.high[k] && r_.low[k] < kInfinite)) return fail_as(kSizedBadBounds);
      whole = whole && r_.low[k] == std::floor(r_.low[k]) && r_.high[k] == std::floor(r_.high[k]);
      low += r_.low[k];
      high += r_.high[k];
    }
    const double slack = whole ? 0 : r_.rounding * total;
    if (low > total + slack || high < total - slack) return fail_as(kSizedBadBounds);
    tight_low_ = low >= total - slack;
    tight_high_ = high <= total + slack;
    for (int64_t k = 0; k < r_.classes; ++k) {
      double least = r_.low[k], most = r_.high[k];
      if (tight_low_) least = most = low > 0 ? least * (total / low) : 0;
      if (tight_high_ && !tight_low_) least = most = high > 0 ? most * (total / high) : 0;
      const bool empty = most <= 0;
      r_.state[k] = kSizedForced;
      r_.prices[k] = empty ? kInfinite : 0;
      r_.sizes[k] = 0;
      if (empty && total > 0) continue;
      live_.push_back(static_cast<int32_t>(k));
      bounds_.low.push_back(least);
      bounds_.high.push_back(most);
    }
    if (total > 0 && !live_.empty())
      for (size_t i = 0; i < live_.size(); ++i)
        if (bounds_.low[i] >= total && live_.size() > 1) {  // it holds all
          for (int32_t k : live_) r_.prices[k] = 0;
          r_.prices[live_[i]] = -kInfinite;
          const int32_t only = live_[i];
          bounds_.low = {total};
          bounds_.high = {total};
          live_ = {only};
          break;
        }
    return true;
  }

  bool permitted(const Elements<T>& all) {
    std::vector<char> wrong;
    const int kind = forced_levels(Patterns(all), &bounds_, &level_, &wrong);
    if (kind == 0) return true;
    if (kind == 3) return fail_as(kSizedNowhere);
    for (size_t i = 0; i < live_.size(); ++i)
      if (wrong[i]) r_.state[live_[i]] = kind == 1 ? kSizedTooMuch : kSizedTooLittle;
    return false;
  }

  double spread() const {  // beyond the range of double it stays a number
    return std::min(std::max(scan_.highest - scan_.lowest, 0.0), 1e300);
  }

  // Where the search begins: at the prices that are given, or at those of few elements at falling temperatures.
  void start(const Elements<T>& all) {
    const int64_t classes = all.classes();
    prices_.assign(classes, 0.0);
    bool given = r_.start != nullptr;
    for (int64_t k = 0; given && k < classes; ++k) {
      prices_[k] = r_.start[live_[k]];
      given = std::fabs(prices_[k]) < kInfinite;
    }
    if (!given) prices_.assign(classes, 0.0);
    const bool shifted = std::any_of(level_.begin(), level_.end(), [](int64_t x) { return x != 0; });
    if (shifted && r_.relaxed) {
      given = false;
      double lightest = kInfinite;
      for (int64_t i = 0; i < all.n(); ++i) lightest = std::min(lightest, all.weight(i));
      const double apart = 4 * std::min<double>(16, classes) * (spread() + 750 * std::max(r_.tau, spread())) / lightest;
      for (int64_t k = 0; k < classes; ++k) prices_[k] = apart * level_[k];
    }
    for (int64_t k = 0; k < classes; ++k)  // a price needs a bound to stand for
      if (!shifted && !bounds_.exact(k) && (prices_[k] > 0 ? bounds_.high[k] >= bounds_.total : bounds_.low[k] <= 0))
        prices_[k] = 0;
    if (given || classes == 1) return;
    const double tau = r_.relaxed ? r_.tau : kFirstShare * spread();
    if (!(spread() > 0) || (!r_.relaxed && all.n() * classes <= kFewScores)) return;
    const int64_t few = std::max<int64_t>(4096, 8 * classes);
    if (all.n() < 4 * few || shifted || (scan_.found & kSizedForbidden) != 0) return anneal(all, bounds_, tau);
    for (int64_t stride = all.n() / few; stride >= 4; stride /= 8) {
      const Sample<T> sample(r_.scores, r_.width, r_.weights, r_.n, live_, scan_.origin(), stride);
      const Elements<T> elements = sample.elements();
      const double sum = elements.total_weight();
      const SizedBounds bounds = bounds_.scaled(sum / bounds_.total, sum);
      if (stride == all.n() / few)
        anneal(elements, bounds, tau);
      else
        solve_prices(elements, bounds, tau, 1e-4, 20, &prices_);
    }
  }

  // Falling temperatures down to `tau`, which is left to the caller.
  void anneal(const Elements<T>& elements, const SizedBounds& bounds, double tau) {
    for (double t = std::min(spread() / 2, 1e30 * tau); t > 4 * tau; t /= 8)
      solve_prices(elements, bounds, t, 1e-3, 15, &prices_);
    solve_prices(elements, bounds, tau, 1e-4, 15, &prices_);
  }

  void relax(const Elements<T>& all) {
    if (all.classes() > 1 && !solve_prices(all, bounds_, r_.tau, 1e-12, 200, &prices_)) *r_.converged = 0;
    set_prices();
    if (r_.hard) return;
    set_sizes(all.write(prices_, r_.tau, r_.assignment, r_.labels));
  }

  void set_sizes(const std::vector<double>& sizes) {
    for (size_t i = 0; i < live_.size(); ++i) r_.sizes[live_[i]] = sizes[i];
  }

  // In the gauge of the bounds that hold; the states say which bound a price stands for.
  void set_prices() {
    const bool tight = tight_low_ || tight_high_;
    double shift = 0;
    if (tight && !prices_.empty()) {
      if (tight_low_ && tight_high_)
        for (double p : prices_) shift += p / static_cast<double>(prices_.size());
      else if (tight_low_)
        shift = *std::max_element(prices_.begin(), prices_.end());
      else
        shift = *std::min_element(prices_.begin(), prices_.end());
    }
    for (size_t i = 0; i < live_.size(); ++i) {
      double& p = prices_[i];
      p -= shift;
      const int32_t k = live_[i];
      r_.state[k] = tight                       ? (tight_low_ ? kSizedAtLow : kSizedAtHigh)
                    : p > 0                     ? kSizedAtHigh
                    : p < 0 || bounds_.exact(i) ? kSizedAtLow
                                                : kSizedInside;
      if (live_.size() == 1) r_.state[k] = kSizedForced;
      if (r_.prices[k] == 0) r_.prices[k] = p;
    }
  }

  bool assign(const Elements<T>& all);

  void finish(const Elements<T>&) {
    double worst = 0;
    for (int64_t k = 0; k < r_.classes; ++k)
      worst = std::max(worst, std::max(r_.low[k] - r_.sizes[k], r_.sizes[k] - r_.high[k]));
    *r_.violation = worst;
  }

  static constexpr double kFirstShare = 1e-3;     // temperature, as a share of the scores' spread, before elements move
  static constexpr int64_t kFewScores = 1 << 12;  // below, elements move from no prices

  const SizedRow<T>& r_;
  typename Elements<T>::Scan scan_;
  SizedBounds bounds_;
  bool tight_low_ = false, tight_high_ = false;
  std::vector<int32_t> live_;
  std::vector<int64_t> level_;
  std::vector<double> prices_;
};

// The exact assignment. Only elements near a boundary can move: those whose best subset is ahead by no more than prices
// move apart. Prices that moved too far are the start of another round with more elements.
template <class T>
bool SizedSolver<T>::assign(const Elements<T>& all) {
  const int64_t n = all.n(), classes = all.classes();
  std::vector<int32_t> labels(n);
  std::vector<double> gaps(n), prices = prices_, sorted;
  SizedBounds bounds = bounds_;
  double tau = (r_.relaxed ? r_.tau : kFirstShare * spread());
  double last_imbalance = kInfinite;
  int sharper = 3;  // rounds that may fail to halve it
  int64_t wanted = std::max<int64_t>(4096, 64 * classes);
  const auto score = [&](int64_t i, int64_t k) { return all.score(i, k); };
  using Moves = ShortestMoves<decltype(score)>;
  for (bool done = false; !done;) {
    const std::vector<double> sizes = all.nearest(prices, labels.data(), gaps.data());
    const double imbalance = Moves(score, bounds, sizes, prices).imbalance();
    if (n * classes > kFewScores && imbalance > 64 + 4 * classes && imbalance > 1e-4 * bounds.total && sharper > 0) {
      // a path for each of so many elements costs more than prices that fit better, at a temperature of the gaps that
      // they must close; where those are ties there are none
      const int64_t moving =
          std::min(n - 1, static_cast<int64_t>(2 * imbalance / bounds.total * static_cast<double>(n)));
      sorted = gaps;
      std::nth_element(sorted.begin(), sorted.begin() + moving, sorted.end());
      tau = std::min(tau, sorted[moving]) / 8;
      if (imbalance > 0.5 * last_imbalance) --sharper;
      last_imbalance = imbalance;
      if (tau > 0) {
        solve_prices(all, bounds, tau, 1e-6, 20, &prices);
        continue;
      }
      sharper = 0;
    }
    wanted = std::min<int64_t>(n, std::max<int64_t>(wanted, 16 * static_cast<int64_t>(imbalance)));
    double reach = kInfinite;
    if (wanted < n) {
      sorted = gaps;
      std::nth_element(sorted.begin(), sorted.begin() + wanted, sorted.end());
      reach = sorted[wanted];
    }
    Moves moves(score, bounds, sizes, prices);
    for (int64_t i = 0; i < n; ++i)
      if (gaps[i] <= reach) moves.add(i, all.weight(i), labels[i]);
    const auto result = moves.run(reach, 1000 + 20 * (n + classes * classes));
    prices = moves.prices();
    const bool everything = !(reach < kInfinite);
    if (result == Moves::kBlocked && everything) {
      const bool slack = moves.reached(classes);
      for (int64_t k = 0; k < classes; ++k)
        if (moves.reached(k) != slack) r_.state[live_[k]] = slack ? kSizedTooLittle : kSizedTooMuch;
      return false;
    }
    done = result == Moves::kDone || (result == Moves::kUnfinished && everything);
    if (result == Moves::kUnfinished) *r_.converged = 0;
    wanted = std::min<int64_t>(n, 8 * wanted);
    if (!done) continue;
    std::vector<double> most(n, 0.0);
    for (int64_t k = 0; k < classes; ++k)
      for (const auto& portion : moves.members()[k])
        if (portion.amount > most[portion.element]) {
          most[portion.element] = portion.amount;
          labels[portion.element] = static_cast<int32_t>(k);
        }
  }
  if (!r_.relaxed) {
    prices_ = prices;
    set_prices();
  }
  std::vector<double> sizes(classes, 0.0);
  for (int64_t i = 0; i < n; ++i) {
    r_.labels[i] = live_[labels[i]];
    r_.assignment[r_.labels[i] * r_.width + i] = T(1);
    sizes[labels[i]] += all.weight(i);
  }
  set_sizes(sizes);
  return true;
}

}  // namespace drpm
