// Numerics of the banded relaxed sort (docs/math/relaxed_sort.md): the drops D_i(j) of a row's logits below its peak,
// where a row's band ends, and how rows are grouped into blocks. Positions are 0-based in the sorted order.
#pragma once

#include "lanes/lane_math.h"

namespace drpm {

// Rows [first, first + rows) share the frame row `frame` and the columns [low, high]. nodes = 0: every row is computed;
// else the block is interpolated from that many Chebyshev nodes.
struct BandBlock {
  int32_t first, rows, frame, low, high, nodes;
};

// Blocks [block_begin, block_end) are summed into one slab of the columns [low, high]. The cut into chunks depends on
// the scores only, and slabs are added in order: results do not depend on the number of threads.
struct BandChunk {
  int32_t block_begin, block_end, low, high;
  int64_t offset;  // first column of the slab within the row's slab storage
};

struct BandCounts {
  int32_t blocks, chunks, widest, reserved;
};

// Chebyshev nodes on [-1, 1]: their positions, the transform to coefficients, and the exponent that a column needs.
struct BandTables {
  int32_t nodes;
  const double* position;   // (nodes)
  const double* transform;  // (nodes, nodes): coefficient r of f is sum_m transform[m][r] f(position[m])
  const double* limit;      // (kBandLimits): least E for growth rates up to the index, Eq. 12
};

constexpr int64_t kBandPad = 32;    // columns are padded to a multiple of this; the padding has weight 0
constexpr int64_t kBandGroup = 16;  // columns whose sums share an anchor
constexpr int64_t kBandRows = 16;   // rows of a direct block, at most
constexpr int64_t kMaxBandChunks = 32;
constexpr int64_t kBandLimits = 128;
constexpr int64_t kMaxBandNodes = 48;

// Sorted scores of one row with the sums that give every drop, and its blocks.
struct RowPlan {
  int64_t n;
  double tau;
  double near_drop;   // T tau: columns further below the peak are dropped (Eq. 6)
  double far_drop;    // (T + log n) tau: kept where the columns between the two are crowded (Eq. 7)
  double tail_drop;   // how far narrow bands reach, Section 2
  double frame_drop;  // largest drop of the frame row within a block
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

template <class T>
struct Exp2Coefficients;
template <>
struct Exp2Coefficients<float> {  // minimax on [-1/2, 1/2], relative error 1.9e-9
  static constexpr int kDegree = 6;
  static constexpr float kLowest = -126;
  DRPM_HD static constexpr float at(int i) {
    constexpr double c[] = {1.0000000005541663,   0.69314720573725267,  0.24022646890639572,   0.055503287769976638,
                            0.009618488956522792, 0.001339993120947414, 0.00015345812158740182};
    return static_cast<float>(c[i]);
  }
};
template <>
struct Exp2Coefficients<double> {  // relative error 3.1e-18
  static constexpr int kDegree = 11;
  static constexpr double kLowest = -1022;
  DRPM_HD static constexpr double at(int i) {
    constexpr double c[] = {1.0,
                            0.69314718055994533046,
                            0.24022650695910156205,
                            0.055504108664819921483,
                            0.0096181291075883350833,
                            0.0013333558146789950323,
                            0.00015403530462514613026,
                            1.52527334899608046e-5,
                            1.3215433089594629e-6,
                            1.0178198033328528e-7,
                            7.0741056262456594e-9,
                            4.4352809446103612e-10};
    return c[i];
  }
};

// The unsigned integers of a lane type: their shifts may drop bits.
template <class V>
struct UnsignedLane;
template <>
struct UnsignedLane<float> {
  using type = uint32_t;
};
template <>
struct UnsignedLane<double> {
  using type = uint64_t;
};
#if !defined(__CUDACC__)
template <>
struct UnsignedLane<VecF> {
  typedef uint32_t type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct UnsignedLane<VecD> {
  typedef uint64_t type __attribute__((vector_size(kVectorBytes)));
};
#endif

// 2^x for x <= 100; 0 below the smallest normal power. Maximum error 1 ulp with fused multiply-add, 1.3 ulp without
// (csrc/tests/relaxed_sort/test_relaxed_sort.cpp).
template <class V>
DRPM_HD inline V exp2_lane(V x) {
  using T = ScalarOf<V>;
  using Format = FloatFormat<T>;
  using Coefficients = Exp2Coefficients<T>;
  const V clamped = max_lane<V>(x, splat<V>(Coefficients::kLowest));
  const V shifted = clamped + Format::kRoundMagic;
  const V r = clamped - (shifted - Format::kRoundMagic);
  V p = splat<V>(Coefficients::at(Coefficients::kDegree));
#pragma GCC unroll 12
  for (int i = Coefficients::kDegree - 1; i >= 0; --i) p = fmadd<V>(p, r, splat<V>(Coefficients::at(i)));
  // the low bits of `shifted` are the rounded x; those of the magic number itself fall off the left end
  using Unsigned = typename UnsignedLane<V>::type;
  const V y = bits_as<V>(bits_as<Unsigned>(p) + (bits_as<Unsigned>(shifted) << Format::kMantissaBits));
  return x > splat<V>(Coefficients::kLowest + 1) ? y : splat<V>(0);
}

constexpr double kLog2E = 1.4426950408889634;

// A column and its drop below the peak of a row; where a walk stands.
struct BandEdge {
  int64_t column;
  double drop;
};

// Walks from `at` to the right, away from row i, while keep(column, drop) holds (monotone): D_i(j+1) = D_i(j) +
// (2(j-i)+1) delta_j, whole groups in one step (Eq. 3, 4).
template <class Keep>
DRPM_HD inline BandEdge walk_right(const RowPlan& p, int64_t i, BandEdge at, const Keep& keep) {
  const double* s = p.s;
  int64_t j = at.column;
  double drop = at.drop;
  const int64_t last = p.n - 1;
  while (j < last && j % kBandGroup != 0) {
    const double next = drop + static_cast<double>(2 * (j - i) + 1) * (s[j] - s[j + 1]);
    if (!keep(j + 1, next)) return {j, drop};
    drop = next;
    ++j;
  }
  constexpr int64_t kEnd = kBandGroup - 1;
  while (j + kBandGroup <= last) {
    const double inside = p.right[j + kEnd] + static_cast<double>(kEnd) * (s[j + kEnd] - s[j + kBandGroup]);
    const double next = drop + static_cast<double>(2 * (j - i) + 1) * (s[j] - s[j + kBandGroup]) + 2 * inside;
    if (!keep(j + kBandGroup, next)) break;
    drop = next;
    j += kBandGroup;
  }
  while (j < last) {
    const double next = drop + static_cast<double>(2 * (j - i) + 1) * (s[j] - s[j + 1]);
    if (!keep(j + 1, next)) break;
    drop = next;
    ++j;
  }
  return {j, drop};
}

// The same to the left: D_i(j-1) = D_i(j) + (2(i-j)+1) delta_{j-1}.
template <class Keep>
DRPM_HD inline BandEdge walk_left(const RowPlan& p, int64_t i, BandEdge at, const Keep& keep) {
  const double* s = p.s;
  int64_t j = at.column;
  double drop = at.drop;
  while (j > 0 && j % kBandGroup != 0) {
    const double next = drop + static_cast<double>(2 * (i - j) + 1) * (s[j - 1] - s[j]);
    if (!keep(j - 1, next)) return {j, drop};
    drop = next;
    --j;
  }
  while (j >= kBandGroup) {
    const int64_t g = j - kBandGroup;
    const double next = drop + static_cast<double>(2 * (i - j) - 1) * (s[g] - s[j]) + 2 * p.left[g];
    if (!keep(g, next)) break;
    drop = next;
    j = g;
  }
  while (j > 0) {
    const double next = drop + static_cast<double>(2 * (i - j) + 1) * (s[j - 1] - s[j]);
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

// Sorted scores and their ranks from the scores of a row and their order.
template <class T>
DRPM_HD inline void sort_values(const RowPlan& p, const T* scores, const int64_t* order) {
  const int64_t n = p.n;
  double* s = p.s;
  for (int64_t j = 0; j < n; ++j) s[j] = static_cast<double>(scores[order[j]]);
  for (int64_t a = 0; a < n;) {
    int64_t b = a + 1;
    while (b < n && s[b] == s[a]) ++b;
    for (int64_t j = a; j < b; ++j) p.rank[j] = 0.5 * static_cast<double>(a + b - 1);
    a = b;
  }
}

// Long rows are prepared in segments, each on its own: their number depends on n alone, and few of them keep blocks,
// which do not cross them, long where all rows are wide.
constexpr int64_t kSegmentRows = 2048, kSegments = 4;

// A multiple of kBandGroup.
DRPM_HD inline int64_t segment_rows(int64_t n) {
  const int64_t share = ((n + kSegments - 1) / kSegments + kBandGroup - 1) / kBandGroup * kBandGroup;
  return share > kSegmentRows ? share : kSegmentRows;
}

DRPM_HD inline int64_t plan_segments(int64_t n) { return n == 0 ? 0 : (n - 1) / segment_rows(n) + 1; }

DRPM_HD inline int64_t segment_end(int64_t n, int64_t segment) {
  const int64_t end = (segment + 1) * segment_rows(n);
  return end < n ? end : n;
}

// Sorted scores of a segment. The last one also sets the padding.
template <class T>
DRPM_HD inline void gather_segment(const RowPlan& p, const T* scores, const int64_t* order, int64_t segment) {
  const int64_t n = p.n, end = segment_end(n, segment);
  for (int64_t j = segment * segment_rows(n); j < end; ++j) p.s[j] = static_cast<double>(scores[order[j]]);
  if (end < n) return;
  for (int64_t j = n; j < n + kBandGroup; ++j) {
    p.s[j] = p.s[n - 1];
    p.right[j] = p.left[j] = p.rank[j] = 0;
  }
}

// Ranks of a segment, and the group sums that give every drop. All segments are gathered.
DRPM_HD inline void scan_segment(const RowPlan& p, int64_t segment) {
  const int64_t n = p.n, begin = segment * segment_rows(n), end = segment_end(n, segment);
  const double* s = p.s;
  int64_t a = begin;
  while (a > 0 && s[a - 1] == s[begin]) --a;
  while (a < end) {
    int64_t b = a + 1;
    while (b < n && s[b] == s[a]) ++b;
    const double rank = 0.5 * static_cast<double>(a + b - 1);
    for (int64_t j = a > begin ? a : begin; j < b && j < end; ++j) p.rank[j] = rank;
    a = b;
  }
  for (int64_t g = begin; g < end; g += kBandGroup) {
    double sum = 0;
    for (int64_t l = 0; l < kBandGroup && g + l < n; ++l) {
      p.right[g + l] = sum;
      sum += static_cast<double>(l) * (s[g + l] - s[g + l + 1]);
    }
    sum = 0;
    for (int64_t l = kBandGroup - 1; l >= 0; --l) {
      if (g + l >= n) continue;
      sum += static_cast<double>(kBandGroup - l) * (s[g + l] - s[g + l + 1]);
      p.left[g + l] = sum;
    }
  }
}

// All of that for a row.
template <class T>
DRPM_HD inline void sort_scores(const RowPlan& p, const T* scores, const int64_t* order) {
  for (int64_t segment = 0; segment < plan_segments(p.n); ++segment) gather_segment(p, scores, order, segment);
  for (int64_t segment = 0; segment < plan_segments(p.n); ++segment) scan_segment(p, segment);
}

// A block that starts at row `first` with at most `most` rows whose frame row lies at most frame_drop below the peaks
// of the first and the last row; columns not set.
DRPM_HD inline BandBlock framed_block(const RowPlan& p, int64_t first, int64_t most) {
  const int64_t half = most / 2;
  const int64_t frame = walk_right(p, first, {first, 0}, [&](int64_t column, double drop) {
                          return drop <= p.frame_drop && column - first <= half;
                        }).column;
  // D_e(i0) = 2 (e - i0) (s_i0 - s_e) - D_i0(e)                                                             (Eq. 5)
  const int64_t last = walk_right(p, frame, {frame, 0}, [&](int64_t e, double drop) {
                         const double back = 2 * static_cast<double>(e - frame) * (p.s[frame] - p.s[e]) - drop;
                         return back <= p.frame_drop && e - first < most;
                       }).column;
  return {static_cast<int32_t>(first), static_cast<int32_t>(last - first + 1), static_cast<int32_t>(frame), 0, 0, 0};
}

constexpr int64_t kNarrowColumns = 64;

// Columns of a block. A narrow one also takes what its padding has room for: where rows are almost one-hot, the
// gradient consists of nothing but tails. Rows of at most `whole` elements are taken whole: to look where their bands
// end would cost more than the columns.
DRPM_HD inline void set_band(const RowPlan& p, BandBlock* block, int64_t whole = 0) {
  if (p.n <= whole) {
    block->low = 0;
    block->high = static_cast<int32_t>(p.n - 1);
    return;
  }
  const int64_t first = block->first, last = first + block->rows - 1;
  int64_t low = band_left(p, first), high = band_right(p, last);
  const int64_t room = (kBandPad - (high - low + 1) % kBandPad) % kBandPad;
  if (high - low + 1 < kNarrowColumns && room > 0 && p.n > high - low + 1) {
    auto tail = [&](int64_t, double drop) { return drop <= p.tail_drop; };
    auto within = [&](int64_t columns) {
      return [=, &tail](int64_t column, double drop) {
        return tail(column, drop) && column >= low - columns && column <= high + columns;
      };
    };
    const int64_t left = walk_left(p, first, {first, 0}, within(room / 2)).column;
    const int64_t right = walk_right(p, last, {last, 0}, within(room - (low - left))).column;
    low = left;
    high = right;
  }
  block->low = static_cast<int32_t>(low);
  block->high = static_cast<int32_t>(high);
}

// Whether every column of the block is resolved by the Chebyshev nodes (Eq. 12): a column of growth rate a over half
// the block, exponent E at its middle, needs E >= limit(a).
DRPM_HD inline bool nodes_resolve(const RowPlan& p, const BandBlock& block, const BandTables& tables) {
  const double middle = 0.5 * (block.rows - 1) + block.first - block.frame;
  const double half = 0.5 * (block.rows - 1);
  const double unit = 1 / p.tau;
  const double* s = p.s;
  auto resolved = [&](int64_t j, double drop) {
    const double y = 2 * (s[j] - s[block.frame]) * unit;
    const double rate = (y < 0 ? -y : y) * half;
    if (rate < 4) return true;
    const double exponent = drop * unit + middle * y;
    return exponent >= (rate < kBandLimits - 1 ? tables.limit[static_cast<int64_t>(rate) + 1]
                                               : rate + 2 * BandConstants<double>::kDrop);
  };
  double drop = 0;
  for (int64_t j = block.frame; j < block.high; ++j) {
    drop += static_cast<double>(2 * (j - block.frame) + 1) * (s[j] - s[j + 1]);
    if (!resolved(j + 1, drop)) return false;
  }
  drop = 0;
  for (int64_t j = block.frame; j > block.low; --j) {
    drop += static_cast<double>(2 * (block.frame - j) + 1) * (s[j - 1] - s[j]);
    if (!resolved(j - 1, drop)) return false;
  }
  return true;
}

constexpr int64_t kChebyshevRows = 64;      // a block of fewer rows is computed directly
constexpr double kChebyshevOverhead = 1.3;  // cost of a node against that of a row, per column

// The largest interpolated block from row `first` that pays and ends before row `end`; nodes = 0 where there is none.
// `direct` is the direct block from the same row.
DRPM_HD inline BandBlock interpolated_block(const RowPlan& p, const BandBlock& direct, const BandTables& tables,
                                            int64_t end) {
  BandBlock none = direct;
  const int64_t first = direct.first, width = direct.high - direct.low + 1;
  const double node_cost = kChebyshevOverhead * tables.nodes;
  if (static_cast<double>(width) < 4 * node_cost || end - first < kChebyshevRows) return none;
  for (int64_t most = end - first; most >= kChebyshevRows; most /= 2) {
    BandBlock block = framed_block(p, first, most);
    if (block.rows < kChebyshevRows) return none;
    if (block.rows < most) most = block.rows;
    set_band(p, &block);
    const double columns = block.high - block.low + 1, rows = block.rows;
    if (node_cost * (columns + rows) >= rows * (columns - rows + 2 * kBandRows)) continue;
    if (!nodes_resolve(p, block, tables)) continue;
    block.nodes = tables.nodes;
    return block;
  }
  return none;
}

DRPM_HD inline double block_cost(const BandBlock& block, double row_cost) {
  const double columns = block.high - block.low + 1 + kBandPad;
  return block.nodes == 0 ? block.rows * (columns + row_cost)
                          : kChebyshevOverhead * block.nodes * (columns + static_cast<double>(block.rows));
}

// Rows of a segment into blocks, from p.blocks[its first row] on. tables.nodes = 0: direct blocks only. whole: see
// set_band(); what fits into the padding costs nothing.
DRPM_HD inline void plan_segment(const RowPlan& p, const BandTables& tables, int64_t segment,
                                 int64_t whole = kBandPad) {
  const int64_t begin = segment * segment_rows(p.n), end = segment_end(p.n, segment);
  int64_t count = begin, next_try = 0;
  for (int64_t row = begin; row < end;) {
    BandBlock block = framed_block(p, row, end - row < kBandRows ? end - row : kBandRows);
    set_band(p, &block, whole);
    if (tables.nodes > 0 && row >= next_try) {
      const BandBlock interpolated = interpolated_block(p, block, tables, end);
      if (interpolated.nodes == 0)
        next_try = row + kChebyshevRows / 2;
      else
        block = interpolated;
    }
    p.blocks[count++] = block;
    row += block.rows;
  }
}

// Blocks of all segments in one piece, and into chunks of about equal cost. row_cost: what a row costs beside its band,
// in columns.
DRPM_HD inline void plan_chunks(const RowPlan& p, double row_cost = 0) {
  const int64_t share = segment_rows(p.n);
  int64_t count = 0, widest = 0;
  double cost = 0;
  for (int64_t row = 0, from = 0; row < p.n; ++from) {
    if (row % share == 0) from = row;
    const BandBlock block = p.blocks[from];
    p.blocks[count++] = block;
    cost += block_cost(block, row_cost);
    const int64_t columns = block.high - block.low + 1;
    widest = columns > widest ? columns : widest;
    row += block.rows;
  }
  // slabs hold at most 4 n columns together, and a chunk is worth a task
  constexpr double kChunkCost = 65536;
  int64_t chunks = 1 + static_cast<int64_t>(cost / kChunkCost < kMaxBandChunks ? cost / kChunkCost : kMaxBandChunks);
  const int64_t affordable = 1 + p.n / (widest > 0 ? widest : 1);
  chunks = chunks < affordable ? chunks : affordable;
  chunks = chunks < kMaxBandChunks ? chunks : kMaxBandChunks;
  int64_t made = 0, begin = 0, offset = 0;
  double done = 0;
  for (int64_t b = 0; b < count; ++b) {
    done += block_cost(p.blocks[b], row_cost);
    if (b + 1 < count &&
        (made + 1 >= chunks || done < cost * static_cast<double>(made + 1) / static_cast<double>(chunks)))
      continue;
    int32_t low = p.blocks[begin].low, high = p.blocks[begin].high;
    for (int64_t k = begin; k <= b; ++k) {
      low = p.blocks[k].low < low ? p.blocks[k].low : low;
      high = p.blocks[k].high > high ? p.blocks[k].high : high;
    }
    p.chunks[made++] = {static_cast<int32_t>(begin), static_cast<int32_t>(b + 1), low, high, offset};
    offset += high - low + 1 + kBandPad;
    begin = b + 1;
  }
  *p.counts = {static_cast<int32_t>(count), static_cast<int32_t>(made), static_cast<int32_t>(widest), 0};
}

// All of the plan. (Eq. 3-7, 12)
DRPM_HD inline void plan_blocks(const RowPlan& p, const BandTables& tables, double row_cost = 0,
                                int64_t whole = kBandPad) {
  for (int64_t segment = 0; segment < plan_segments(p.n); ++segment) plan_segment(p, tables, segment, whole);
  plan_chunks(p, row_cost);
}

// Columns of slab storage that a row can need.
DRPM_HD constexpr int64_t slab_columns(int64_t n) { return 4 * n + kMaxBandChunks * kBandPad; }

}  // namespace DRPM_ISA
}  // namespace drpm
