// The exact sized assignment: elements move along shortest paths between subsets until all bounds and complementary
// slackness hold (docs/math/sized_assignment.md, Section 4). Successive shortest paths on a graph of K + 1 nodes, the
// last of which, the slack, stands for what subsets hold beyond their lower bounds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <unordered_set>
#include <vector>

#include "sized_assignment/relaxed.h"

namespace drpm {

// `Score` gives u_ik / w_i by element and subset; -inf: never.
template <class Score>
class ShortestMoves {
 public:
  enum Result { kDone, kDrifted, kBlocked, kUnfinished };
  struct Portion {
    int64_t element;
    double amount;
  };

  // `sizes`: of all elements, those that are not added, too. `prices` satisfies every element's choice.
  ShortestMoves(const Score& score, const SizedBounds& bounds, std::vector<double> sizes, std::vector<double> prices)
      : score_(score),
        b_(bounds),
        classes_(bounds.classes()),
        tolerance_(1e-12 * bounds.total),
        price_(std::move(prices)),
        held_(classes_),
        capacity_(classes_),
        excess_(classes_ + 1),
        members_(classes_),
        cost_(classes_ * classes_, kInfinite),
        mover_(classes_ * classes_, -1) {
    price_.push_back(0);
    start_ = price_;
    double beyond = b_.total;
    for (int64_t k = 0; k < classes_; ++k) {
      capacity_[k] = std::min(b_.high[k], b_.total) - b_.low[k];
      const double p = price_[k];
      held_[k] = p > 0 ? capacity_[k] : p < 0 ? 0 : std::min(std::max(sizes[k] - b_.low[k], 0.0), capacity_[k]);
      excess_[k] = sizes[k] - b_.low[k] - held_[k];
      beyond -= b_.low[k] + held_[k];
    }
    excess_[classes_] = -beyond;
  }

  void add(int64_t element, double amount, int64_t k) { members_[k].push_back({element, amount}); }

  // kDrifted: prices have moved further apart than `reach`, up to which elements that were not added stay put.
  Result run(double reach, int64_t most_paths) {
    for (int64_t a = 0; a < classes_; ++a)
      for (int64_t b = 0; b < classes_; ++b) rescan(a, b);
    for (int64_t paths = 0; paths < most_paths; ++paths) {
      if (!anything_to_move()) return kDone;
      const int64_t target = shortest_paths();
      if (target < 0) return kBlocked;
      for (int64_t k = 0; k <= classes_; ++k) price_[k] -= std::min(distance_[k], distance_[target]);
      augment(target);
      if (drift() > reach) return kDrifted;
    }
    return anything_to_move() ? kUnfinished : kDone;
  }

  double imbalance() const {
    double sum = 0;
    for (double e : excess_) sum += std::max(e, 0.0);
    return sum;
  }

  // Prices relative to that of the slack.
  std::vector<double> prices() const {
    std::vector<double> p(price_.begin(), price_.end() - 1);
    for (double& x : p) x -= price_[classes_];
    return p;
  }
  const std::vector<std::vector<Portion>>& members() const { return members_; }
  bool reached(int64_t k) const { return distance_[k] < kInfinite; }  // where kBlocked, from what holds too much
  // Whether size can go from one node to another without anything else changing.
  bool residual(int64_t a, int64_t b) const {
    const double least = 1e-9 * b_.total;
    if (a == b) return false;
    if (a == classes_) return held_[b] > least;
    if (b == classes_) return capacity_[a] - held_[a] > least;
    return cost_[a * classes_ + b] < kInfinite;
  }
  double size(int64_t k) const { return b_.low[k] + held_[k]; }

 private:
  double loss(int64_t element, int64_t a, int64_t b) const { return score_(element, a) - score_(element, b); }

  void rescan(int64_t a, int64_t b) {
    double best = kInfinite;
    int64_t mover = -1;
    const std::vector<Portion>& from = members_[a];
    if (a != b)
      for (int64_t i = 0; i < static_cast<int64_t>(from.size()); ++i) {
        const double x = loss(from[i].element, a, b);
        if (x < best) best = x, mover = i;
      }
    cost_[a * classes_ + b] = best;
    mover_[a * classes_ + b] = mover;
  }

  bool anything_to_move() const {
    for (double e : excess_)
      if (e > tolerance_) return true;
    return false;
  }

  double length(int64_t a, int64_t b) const {
    double cost = kInfinite;
    if (a == classes_)
      cost = held_[b] > tolerance_ ? 0 : kInfinite;
    else if (b == classes_)
      cost = capacity_[a] - held_[a] > tolerance_ ? 0 : kInfinite;
    else
      cost = cost_[a * classes_ + b];
    return std::max(cost - price_[a] + price_[b], 0.0);  // below 0 by rounding only
  }

  // Dijkstra from all that hold too much to the nearest that holds too little; -1: there is none.
  int64_t shortest_paths() {
    const int64_t nodes = classes_ + 1;
    distance_.assign(nodes, kInfinite);
    parent_.assign(nodes, -1);
    std::vector<char> settled(nodes, 0);
    for (int64_t k = 0; k < nodes; ++k)
      if (excess_[k] > tolerance_) distance_[k] = 0;
    for (;;) {
      int64_t a = -1;
      for (int64_t k = 0; k < nodes; ++k)
        if (!settled[k] && distance_[k] < kInfinite && (a < 0 || distance_[k] < distance_[a])) a = k;
      if (a < 0) return -1;
      if (excess_[a] < -tolerance_) return a;
      settled[a] = 1;
      for (int64_t b = 0; b < nodes; ++b) {
        if (settled[b] || a == b) continue;
        const double through = distance_[a] + length(a, b);
        if (through < distance_[b]) distance_[b] = through, parent_[b] = a;
      }
    }
  }

  // Members of a that lose the least by going to b, up to `most` of amount.
  double take(int64_t a, int64_t b, double most, std::vector<int64_t>* positions) const {
    const std::vector<Portion>& from = members_[a];
    const double cost = cost_[a * classes_ + b];
    const int64_t first = mover_[a * classes_ + b];
    positions->assign(1, first);
    double sum = from[first].amount;
    for (int64_t i = first + 1; i < static_cast<int64_t>(from.size()) && sum < most; ++i) {
      if (loss(from[i].element, a, b) > cost) continue;
      positions->push_back(i);
      sum += from[i].amount;
    }
    return sum;
  }

  void augment(int64_t target) {
    std::vector<int64_t> path{target};
    while (parent_[path.back()] >= 0) path.push_back(parent_[path.back()]);
    const int64_t source = path.back(), edges = static_cast<int64_t>(path.size()) - 1;
    double amount = std::min(excess_[source], -excess_[target]);
    std::vector<std::vector<int64_t>> positions(edges);
    for (int64_t e = edges - 1; e >= 0; --e) {
      const int64_t a = path[e + 1], b = path[e];
      const double most = a == classes_   ? held_[b]
                          : b == classes_ ? capacity_[a] - held_[a]
                                          : take(a, b, amount, &positions[e]);
      amount = std::min(amount, most);
    }
    for (int64_t e = edges - 1; e >= 0; --e) {
      const int64_t a = path[e + 1], b = path[e];
      if (a == classes_)
        held_[b] -= amount;
      else if (b == classes_)
        held_[a] += amount;
      else
        move(a, b, amount, positions[e]);
    }
    excess_[source] -= amount;
    excess_[target] += amount;
  }

  // Moves of one path meet in its nodes only, where what arrives is behind what leaves.
  void move(int64_t a, int64_t b, double amount, const std::vector<int64_t>& positions) {
    std::vector<Portion>& from = members_[a];
    std::vector<char> left(from.size(), 0);
    for (int64_t i : positions) {
      if (amount <= 0) break;
      Portion& portion = from[i];
      const bool whole = portion.amount <= amount + tolerance_;
      const double moved = whole ? portion.amount : amount;
      arrive(b, portion.element, moved, !whole);
      amount -= moved;
      if (whole)
        left[i] = 1;
      else
        portion.amount -= moved;
    }
    std::vector<int64_t> place(from.size());
    int64_t kept = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(from.size()); ++i) {
      place[i] = left[i] ? -1 : kept;
      if (!left[i]) from[kept++] = from[i];
    }
    from.resize(kept);
    for (int64_t c = 0; c < classes_; ++c) {
      int64_t& mover = mover_[a * classes_ + c];
      if (mover < 0) continue;
      mover = place[mover];
      if (mover < 0) rescan(a, c);
    }
  }

  void arrive(int64_t k, int64_t element, double amount, bool part) {
    if (part) split_.insert(element);
    if (!split_.empty() && split_.count(element) != 0)
      for (Portion& portion : members_[k])
        if (portion.element == element) {
          portion.amount += amount;
          return;
        }
    const int64_t position = static_cast<int64_t>(members_[k].size());
    members_[k].push_back({element, amount});
    for (int64_t c = 0; c < classes_; ++c) {
      if (c == k) continue;
      const double x = loss(element, k, c);
      if (x < cost_[k * classes_ + c]) cost_[k * classes_ + c] = x, mover_[k * classes_ + c] = position;
    }
  }

  double drift() const {
    double low = kInfinite, high = -kInfinite;
    for (int64_t k = 0; k < classes_; ++k) {
      low = std::min(low, price_[k] - start_[k]);
      high = std::max(high, price_[k] - start_[k]);
    }
    return high - low;
  }

  const Score& score_;
  const SizedBounds& b_;
  const int64_t classes_;
  const double tolerance_;
  std::vector<double> price_, start_;          // (K + 1)
  std::vector<double> held_, capacity_;        // (K) what a subset holds beyond its lower bound, and may
  std::vector<double> excess_;                 // (K + 1)
  std::vector<std::vector<Portion>> members_;  // (K)
  std::vector<double> cost_;                   // (K, K) least loss of moving an element of a to b
  std::vector<int64_t> mover_;                 // (K, K) its place in members_[a]
  std::vector<double> distance_;
  std::vector<int64_t> parent_;
  std::unordered_set<int64_t> split_;  // elements that stand in several subsets
};

}  // namespace drpm
