// The plan of a row: its sorted scores with the sums that give every drop, its rows grouped into blocks, and these into
// chunks (docs/math/relaxed_sort.md). And how kernels go over the rows of a task, or over chunks.
#pragma once

#include "band/band_math.h"

namespace drpm {
namespace DRPM_ISA {

// Long rows are prepared in segments, each on its own: their number depends on n alone, and few of them keep blocks,
// which do not cross them, long where all rows are wide.
constexpr int64_t kSegmentRows = 2048, kSegments = 4;

// A multiple of kBandGroup.
DRPM_HD inline int64_t segment_rows(int64_t n) {
  const int64_t share = ((n + kSegments - 1) / kSegments + kBandGroup - 1) / kBandGroup * kBandGroup;
  return share > kSegmentRows ? share : kSegmentRows;
}

DRPM_HD inline int64_t segment_count(int64_t n) { return n == 0 ? 0 : (n - 1) / segment_rows(n) + 1; }

DRPM_HD inline int64_t segment_end(int64_t n, int64_t segment) {
  const int64_t end = (segment + 1) * segment_rows(n);
  return end < n ? end : n;
}

// Ranks of positions [begin, end): equal scores share the mean of theirs.
DRPM_HD inline void rank_positions(const RowPlan& p, int64_t begin, int64_t end) {
  const double* s = p.s;
  int64_t a = begin;
  while (a > 0 && s[a - 1] == s[begin]) --a;
  while (a < end) {
    int64_t b = a + 1;
    while (b < p.n && s[b] == s[a]) ++b;
    const double rank = 0.5 * static_cast<double>(a + b - 1);
    for (int64_t j = a > begin ? a : begin; j < b && j < end; ++j) p.rank[j] = rank;
    a = b;
  }
}

// Sorted scores of a segment; scores far apart where those of the row are not finite and its op returns NaN anyway.
// The last segment also sets the padding.
template <class T>
DRPM_HD inline void gather_segment(const RowPlan& p, const T* scores, const int64_t* order, int64_t segment) {
  const int64_t n = p.n, end = segment_end(n, segment);
  const bool finite = scores_are_finite(scores, order, n);
  for (int64_t j = segment * segment_rows(n); j < end; ++j)
    p.s[j] = finite ? static_cast<double>(scores[order[j]]) : -1e30 * static_cast<double>(j);
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
  rank_positions(p, begin, end);
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
DRPM_HD inline bool nodes_resolve(const RowPlan& p, const BandBlock& block) {
  const double middle = 0.5 * (block.rows - 1) + block.first - block.frame;
  const double half = 0.5 * (block.rows - 1);
  const double unit = 1 / p.tau;
  const double* s = p.s;
  return for_drops<double>(s, block.frame, block.low, block.high, [&](int64_t j, double drop) {
    const double y = 2 * (s[j] - s[block.frame]) * unit;
    const double rate = (y < 0 ? -y : y) * half;
    if (rate < 4) return true;
    const double exponent = drop * unit + middle * y;
    return exponent >= (rate < kBandLimits - 1 ? p.tables.limit[static_cast<int64_t>(rate) + 1]
                                               : rate + 2 * BandConstants<double>::kDrop);
  });
}

constexpr int64_t kChebyshevRows = 64;      // a block of fewer rows is computed directly
constexpr double kChebyshevOverhead = 1.3;  // cost of a node against that of a row, per column

// The largest interpolated block from row `first` that pays and ends before row `end`; nodes = 0 where there is none.
// `direct` is the direct block from the same row.
DRPM_HD inline BandBlock interpolated_block(const RowPlan& p, const BandBlock& direct, int64_t end) {
  BandBlock none = direct;
  const int64_t first = direct.first, width = direct.high - direct.low + 1;
  const double node_cost = kChebyshevOverhead * p.tables.nodes;
  if (static_cast<double>(width) < 4 * node_cost || end - first < kChebyshevRows) return none;
  for (int64_t most = end - first; most >= kChebyshevRows; most /= 2) {
    BandBlock block = framed_block(p, first, most);
    if (block.rows < kChebyshevRows) return none;
    if (block.rows < most) most = block.rows;
    set_band(p, &block);
    const double columns = block.high - block.low + 1, rows = block.rows;
    if (node_cost * (columns + rows) >= rows * (columns - rows + 2 * kBandRows)) continue;
    if (!nodes_resolve(p, block)) continue;
    block.nodes = p.tables.nodes;
    return block;
  }
  return none;
}

DRPM_HD inline double block_cost(const BandBlock& block, double row_cost) {
  const double columns = block.high - block.low + 1 + kBandPad;
  return block.nodes == 0 ? block.rows * (columns + row_cost)
                          : kChebyshevOverhead * block.nodes * (columns + static_cast<double>(block.rows));
}

// Rows of a segment into blocks, from p.blocks[its first row] on.
DRPM_HD inline void block_segment(const RowPlan& p, int64_t segment) {
  const int64_t begin = segment * segment_rows(p.n), end = segment_end(p.n, segment);
  int64_t count = begin, next_try = 0;
  for (int64_t row = begin; row < end;) {
    BandBlock block = framed_block(p, row, end - row < kBandRows ? end - row : kBandRows);
    set_band(p, &block, p.whole);
    if (p.tables.nodes > 0 && row >= next_try) {
      const BandBlock interpolated = interpolated_block(p, block, end);
      if (interpolated.nodes == 0)
        next_try = row + kChebyshevRows / 2;
      else
        block = interpolated;
    }
    p.blocks[count++] = block;
    row += block.rows;
  }
}

// Blocks of all segments in one piece, and into chunks of about equal cost.
DRPM_HD inline void chunk_blocks(const RowPlan& p) {
  const int64_t share = segment_rows(p.n);
  int64_t count = 0, widest = 0;
  double cost = 0;
  for (int64_t row = 0, from = 0; row < p.n; ++from) {
    if (row % share == 0) from = row;
    const BandBlock block = p.blocks[from];
    p.blocks[count++] = block;
    cost += block_cost(block, p.row_cost);
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
    done += block_cost(p.blocks[b], p.row_cost);
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

DRPM_HD constexpr int64_t padded_columns(int64_t columns) { return (columns + kBandPad - 1) / kBandPad * kBandPad; }

// Elements of T that a block of at most `widest` columns needs: U, and exponent, slope and rank of the columns.
template <class T>
DRPM_HD constexpr int64_t block_storage(int64_t widest) {
  constexpr int64_t kMost = BandConstants<T>::kNodes > kBandRows ? BandConstants<T>::kNodes : kBandRows;
  return (kMost + 3) * padded_columns(widest);
}

// Columns of slab storage that a row can need.
DRPM_HD constexpr int64_t slab_columns(int64_t n) { return 4 * n + kMaxBandChunks * kBandPad; }

// The rows of a chunk.
inline BandBlock chunk_rows(const RowPlan& p, const BandChunk& chunk) {
  const int32_t first = p.blocks[chunk.block_begin].first;
  const BandBlock& last = p.blocks[chunk.block_end - 1];
  return {first, last.first + last.rows - first, 0, 0, 0, 0};
}

// The whole plan of a row, in a slot. (Eq. 3-7, 12)
template <class T>
inline void plan_row(const BandArgs<T>& args, int64_t slot, int64_t row) {
  const RowPlan p = row_plan(args, slot);
  const int64_t at = row * args.n, segments = segment_count(args.n);
  for (int64_t segment = 0; segment < segments; ++segment)
    gather_segment(p, args.scores + at, args.order + at, segment);
  for (int64_t segment = 0; segment < segments; ++segment) scan_segment(p, segment);
  for (int64_t segment = 0; segment < segments; ++segment) block_segment(p, segment);
  chunk_blocks(p);
}

// f(row, block storage) for the rows of a task.
template <class T, class F>
inline void for_task_rows(const BandArgs<T>& args, int64_t task, const F& f) {
  const int64_t end = args.rows * (task + 1) / args.tasks;
  for (int64_t row = args.rows * task / args.tasks; row < end; ++row) f(row, args.block + task * args.block_stride);
}

// f(slot, row, chunk, block storage) for a work item of a chunk kernel; the storage of the range's first item serves
// the whole range.
template <class T, class F>
inline void with_chunk(const BandArgs<T>& args, int64_t item, int64_t begin, const F& f) {
  const BandItem& work = args.items[item];
  f(work.slot, args.first_row + work.slot, work.chunk, args.block + begin * args.block_stride);
}

}  // namespace DRPM_ISA
}  // namespace drpm
