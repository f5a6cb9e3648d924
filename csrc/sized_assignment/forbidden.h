// Which of the pairs that are not forbidden can hold anything at all, where scores of -inf forbid some
// (docs/math/sized_assignment.md, Section 3).
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "sized_assignment/elements.h"
#include "sized_assignment/exact.h"

namespace drpm {

// Elements with the same permitted subsets are one, of their weights together.
class Patterns {
 public:
  template <class T>
  explicit Patterns(const Elements<T>& elements) {
    const int64_t classes = elements.classes(), words = (classes + 63) / 64;
    std::map<std::vector<uint64_t>, int64_t> seen;
    std::vector<uint64_t> pattern(words);
    for (int64_t i = 0; i < elements.n(); ++i) {
      std::fill(pattern.begin(), pattern.end(), 0);
      for (int64_t k = 0; k < classes; ++k)
        if (elements.score(i, k) > -kInfinite) pattern[k / 64] |= uint64_t{1} << (k % 64);
      const auto [found, is_new] = seen.try_emplace(pattern, static_cast<int64_t>(weights_.size()));
      if (is_new) {
        weights_.push_back(0);
        permitted_.push_back(pattern);
      }
      weights_[found->second] += elements.weight(i);
    }
  }

  int64_t count() const { return static_cast<int64_t>(weights_.size()); }
  double weight(int64_t p) const { return weights_[p]; }
  bool permits(int64_t p, int64_t k) const { return permitted_[p][k / 64] >> (k % 64) & 1; }
  double operator()(int64_t p, int64_t k) const { return permits(p, k) ? 0 : -kInfinite; }  // as a score

 private:
  std::vector<double> weights_;
  std::vector<std::vector<uint64_t>> permitted_;
};

// Strongly connected parts of a graph of few nodes, numbered so that edges between parts go up; returns the length of
// the longest path to each node's part.
inline std::vector<int64_t> levels_of(int64_t nodes, const std::function<bool(int64_t, int64_t)>& edge,
                                      std::vector<int64_t>* part) {
  std::vector<int64_t> order;  // by the end of a depth-first search
  std::vector<char> seen(nodes, 0);
  std::vector<std::pair<int64_t, int64_t>> stack;
  const auto search = [&](int64_t root, bool forward, const std::function<void(int64_t)>& leave) {
    seen[root] = 1;
    stack.push_back({root, 0});
    while (!stack.empty()) {
      auto& [node, next] = stack.back();
      while (next < nodes && (seen[next] || !(forward ? edge(node, next) : edge(next, node)))) ++next;
      if (next == nodes) {
        leave(node);
        stack.pop_back();
      } else {
        seen[next] = 1;
        stack.push_back({next, 0});
      }
    }
  };
  for (int64_t k = 0; k < nodes; ++k)
    if (!seen[k]) search(k, true, [&](int64_t node) { order.push_back(node); });
  std::fill(seen.begin(), seen.end(), 0);
  part->assign(nodes, -1);
  int64_t parts = 0;
  for (auto it = order.rbegin(); it != order.rend(); ++it)
    if (!seen[*it]) {
      search(*it, false, [&](int64_t node) { (*part)[node] = parts; });
      ++parts;
    }
  std::vector<int64_t> level(parts, 0);
  for (int64_t p = 0; p < parts; ++p)  // parts are numbered along the edges
    for (int64_t a = 0; a < nodes; ++a)
      if ((*part)[a] == p)
        for (int64_t b = 0; b < nodes; ++b)
          if ((*part)[b] != p && edge(a, b)) level[(*part)[b]] = std::max(level[(*part)[b]], level[p] + 1);
  std::vector<int64_t> by_node(nodes);
  for (int64_t k = 0; k < nodes; ++k) by_node[k] = level[(*part)[k]];
  return by_node;
}

// Checks that the bounds can be met. Subsets that exchange nothing with the slack get the size that they must have, and
// `level`, an order of prices under which pairs that can hold nothing hold nothing: infinitely far apart in truth.
// Returns 0; 1 and the subsets that must hold too much, 2 and those that can not hold enough, in `wrong`; 3 where an
// element may go nowhere.
inline int forced_levels(const Patterns& patterns, SizedBounds* bounds, std::vector<int64_t>* level,
                         std::vector<char>* wrong) {
  const int64_t classes = bounds->classes();
  std::vector<double> sizes(classes, 0.0);
  std::vector<int64_t> first(patterns.count(), -1);
  wrong->assign(classes, 0);
  for (int64_t p = 0; p < patterns.count(); ++p) {
    for (int64_t k = 0; k < classes && first[p] < 0; ++k)
      if (patterns.permits(p, k)) first[p] = k;
    if (first[p] < 0) return 3;
    sizes[first[p]] += patterns.weight(p);
  }
  ShortestMoves<Patterns> moves(patterns, *bounds, sizes, std::vector<double>(classes, 0.0));
  for (int64_t p = 0; p < patterns.count(); ++p) moves.add(p, patterns.weight(p), first[p]);
  const auto result = moves.run(kInfinite, 1000 + 100 * (classes + patterns.count()));
  if (result != ShortestMoves<Patterns>::kDone && moves.imbalance() > 1e-9 * bounds->total) {
    const bool slack = moves.reached(classes);
    for (int64_t k = 0; k < classes; ++k) (*wrong)[k] = moves.reached(k) != slack;
    return slack ? 2 : 1;
  }
  std::vector<int64_t> part;
  const auto edge = [&](int64_t a, int64_t b) { return moves.residual(a, b); };
  *level = levels_of(classes + 1, edge, &part);
  const int64_t slack = level->back();
  level->pop_back();
  for (int64_t k = 0; k < classes; ++k) {
    (*level)[k] -= slack;
    if (part[k] != part[classes]) bounds->low[k] = bounds->high[k] = moves.size(k);
  }
  return 0;
}

}  // namespace drpm
