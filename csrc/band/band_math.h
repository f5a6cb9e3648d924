// Numerics of the banded relaxed sort (docs/math/relaxed_sort.md): the drops D_i(j) of a row's logits below its peak,
// and where a row's band ends.
#pragma once

#include "band/band.h"
#include "lanes/lane_math.h"
#include "lanes/team.h"

namespace drpm {

// Sorted scores of one row with the sums that give every drop, and its blocks.
struct RowPlan {
  int64_t n;
  double tau;
  double near_drop;   // T tau: columns further below the peak are dropped (Eq. 6)
  double far_drop;    // (T + log n) tau: kept where the columns between the two are crowded (Eq. 7)
  double tail_drop;   // how far narrow bands reach, Section 2
  double frame_drop;  // largest drop of the frame row within a block
  int64_t whole;      // rows of at most so many elements are taken whole
  double row_cost;    // what a row costs beside its band, in columns
  BandTables tables;  // nodes = 0: direct blocks only
  double* s;          // (n + kBandGroup) sorted scores, the last one repeated
  double* right;      // (n + kBandGroup) sum_{l=g}^{j-1} (l - g) delta_l, g = first column of j's group
  double* left;       // (n + kBandGroup) sum_{l=j}^{g'-1} (g' - l) delta_l, g' = first column of the next group
  double* rank;       // (n + kBandGroup) position of a score; equal scores share the mean of theirs
  BandBlock* blocks;  // at most n
  BandChunk* chunks;  // at most kMaxBandChunks
  BandCounts* counts;
};

namespace DRPM_ISA {

template <class T>
struct BandConstants;
template <>
struct BandConstants<float> {
  static constexpr double kDrop = 17.5;  // T: e^-17.5 = 2.5e-8
  static constexpr double kTail = 80;    // weights stay normal numbers
  static constexpr int kNodes = 24;
  static constexpr double kSaturation = 18;  // a sigmoid is constant beyond
};
template <>
struct BandConstants<double> {
  static constexpr double kDrop = 38;
  static constexpr double kTail = 600;
  static constexpr int kNodes = 44;
  static constexpr double kSaturation = 40;
};
constexpr double kFrameDrop = 4;

constexpr int64_t kNarrowColumns = 64;
// Up to so many elements, a row may be so flat that its gradient needs weights in double, or wider.
constexpr int64_t kFlatRow = 128;

// Whether the scores of a row are finite: those that are not stand at an end of the sorted row.
template <class T>
DRPM_HD inline bool scores_are_finite(const T* scores, const int64_t* order, int64_t n) {
  return n == 0 || (is_finite(scores[order[0]]) && is_finite(scores[order[n - 1]]));
}

template <class T>
inline bool scores_are_finite(const BandArgs<T>& args, int64_t row) {
  return scores_are_finite(args.scores + row * args.n, args.order + row * args.n, args.n);
}

template <class T>
inline RowPlan row_plan(const BandArgs<T>& args, int64_t slot) {
  const int64_t n = args.n, ld = n + kBandGroup;
  double* sorted = args.sorted + 4 * slot * ld;
  const double drop = BandConstants<T>::kDrop;
  RowPlan p;
  p.n = n;
  p.tau = args.tau;
  p.near_drop = drop * args.tau;
  p.far_drop = (drop + log_lane<double>(static_cast<double>(n))) * args.tau;
  p.tail_drop = BandConstants<T>::kTail * args.tau;
  p.frame_drop = kFrameDrop * args.tau;
  p.whole = args.every_row ? kNarrowColumns : kBandPad;
  p.row_cost = args.every_row ? 0.5 * static_cast<double>(n) : 0;
  p.tables = args.every_row ? BandTables{} : args.tables;
  p.s = sorted;
  p.right = sorted + ld;
  p.left = sorted + 2 * ld;
  p.rank = sorted + 3 * ld;
  p.blocks = args.blocks + slot * n;
  p.chunks = args.chunks + slot * kMaxBandChunks;
  p.counts = args.counts + slot;
  return p;
}

// Steps of the drop away from the diagonal, from position q at distance t - 1 to p at distance t:
//   along row i     D_i(p) - D_i(q) = (2 t - 1) |s_q - s_p|                                                    (Eq. 2)
//   along column j  D_p(j) - D_q(j) = |s_q - s_j| + |s_p - s_j|                                           (Eq. 2, 5)
// They are >= 0: summed outward, nothing cancels.
template <class R>
DRPM_HD inline R row_step(int64_t t, R difference) {
  return static_cast<R>(2 * t - 1) * difference;
}
DRPM_HD inline double column_step(const double* s, int64_t j, int64_t q, int64_t p) {
  return abs_lane<double>(s[q] - s[j]) + abs_lane<double>(s[p] - s[j]);
}

// Calls visit(j, D_i(j)) for the other columns of low ... high, outward from i, right of it first; ends where it
// returns false. Returns whether it never did.
template <class R, class Visit>
DRPM_HD inline bool for_drops(const double* s, int64_t i, int64_t low, int64_t high, const Visit& visit) {
  R drop = 0;
  for (int64_t j = i + 1; j <= high; ++j) {
    drop += row_step<R>(j - i, static_cast<R>(s[j - 1]) - static_cast<R>(s[j]));
    if (!visit(j, drop)) return false;
  }
  drop = 0;
  for (int64_t j = i - 1; j >= low; --j) {
    drop += row_step<R>(i - j, static_cast<R>(s[j]) - static_cast<R>(s[j + 1]));
    if (!visit(j, drop)) return false;
  }
  return true;
}

// D_i from the first column of a group to that of the next one, right of i, and back again, left of i.     (Eq. 3, 4)
DRPM_HD inline double group_step_right(const RowPlan& p, int64_t i, int64_t g) {
  constexpr int64_t kEnd = kBandGroup - 1;
  const double* s = p.s + g;
  const double inside = p.right[g + kEnd] + static_cast<double>(kEnd) * (s[kEnd] - s[kBandGroup]);
  return static_cast<double>(2 * (g - i) + 1) * (s[0] - s[kBandGroup]) + 2 * inside;
}
DRPM_HD inline double group_step_left(const RowPlan& p, int64_t i, int64_t next) {
  const int64_t g = next - kBandGroup;
  return static_cast<double>(2 * (i - next) - 1) * (p.s[g] - p.s[next]) + 2 * p.left[g];
}

// A column and its drop below the peak of a row; where a walk stands.
struct BandEdge {
  int64_t column;
  double drop;
};

// Walks from `at` to the right, away from row i, while keep(column, drop) holds (monotone); whole groups in one step.
template <class Keep>
DRPM_HD inline BandEdge walk_right(const RowPlan& p, int64_t i, BandEdge at, const Keep& keep) {
  const double* s = p.s;
  int64_t j = at.column;
  double drop = at.drop;
  const int64_t last = p.n - 1;
  while (j < last && j % kBandGroup != 0) {
    const double next = drop + row_step(j + 1 - i, s[j] - s[j + 1]);
    if (!keep(j + 1, next)) return {j, drop};
    drop = next;
    ++j;
  }
  while (j + kBandGroup <= last) {
    const double next = drop + group_step_right(p, i, j);
    if (!keep(j + kBandGroup, next)) break;
    drop = next;
    j += kBandGroup;
  }
  while (j < last) {
    const double next = drop + row_step(j + 1 - i, s[j] - s[j + 1]);
    if (!keep(j + 1, next)) break;
    drop = next;
    ++j;
  }
  return {j, drop};
}

// The same to the left.
template <class Keep>
DRPM_HD inline BandEdge walk_left(const RowPlan& p, int64_t i, BandEdge at, const Keep& keep) {
  const double* s = p.s;
  int64_t j = at.column;
  double drop = at.drop;
  while (j > 0 && j % kBandGroup != 0) {
    const double next = drop + row_step(i - j + 1, s[j - 1] - s[j]);
    if (!keep(j - 1, next)) return {j, drop};
    drop = next;
    --j;
  }
  while (j >= kBandGroup) {
    const double next = drop + group_step_left(p, i, j);
    if (!keep(j - kBandGroup, next)) break;
    drop = next;
    j -= kBandGroup;
  }
  while (j > 0) {
    const double next = drop + row_step(i - j + 1, s[j - 1] - s[j]);
    if (!keep(j - 1, next)) break;
    drop = next;
    --j;
  }
  return {j, drop};
}

// Last column of row i's band: drops up to T, and up to T + log n where more than half the width lies between.
DRPM_HD inline int64_t band_right(const RowPlan& p, int64_t i) {
  const BandEdge near = walk_right(p, i, {i, 0}, [&](int64_t, double drop) { return drop <= p.near_drop; });
  const int64_t probe = near.column + (near.column - i) / 2 + 8;
  const BandEdge far =
      walk_right(p, i, near, [&](int64_t column, double drop) { return drop <= p.far_drop && column <= probe; });
  if (far.column < probe) return near.column;
  return walk_right(p, i, far, [&](int64_t, double drop) { return drop <= p.far_drop; }).column;
}

DRPM_HD inline int64_t band_left(const RowPlan& p, int64_t i) {
  const BandEdge near = walk_left(p, i, {i, 0}, [&](int64_t, double drop) { return drop <= p.near_drop; });
  const int64_t probe = near.column - (i - near.column) / 2 - 8;
  const BandEdge far =
      walk_left(p, i, near, [&](int64_t column, double drop) { return drop <= p.far_drop && column >= probe; });
  if (far.column > probe) return near.column;
  return walk_left(p, i, far, [&](int64_t, double drop) { return drop <= p.far_drop; }).column;
}

}  // namespace DRPM_ISA
}  // namespace drpm
