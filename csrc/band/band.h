// The engine of every relaxed sort: what its kernels read and write (docs/math/relaxed_sort.md). Positions are 0-based
// in the sorted order. All arrays are row-major and contiguous; B rows, n elements.
//
// A slot is one row in flight: a row of its own where rows are few and long (their chunks are then spread over the
// threads), or one row after the other of a task.
#pragma once

#include <cstdint>

#include "lanes/simd.h"

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

// One chunk of one row in flight.
struct BandItem {
  int32_t slot, chunk;
};

// Made once for a precision. (band_tables.cpp)
template <class T>
BandTables band_tables();

// The band's part of an op's arguments. The op sets what stands before the scratch; run_band() (band_run.h) the rest.
template <class T>
struct BandArgs {
  const T* scores;       // (B, n)
  const int64_t* order;  // (B, n) decreasing scores, ties by index
  int64_t rows, n;
  double tau;
  bool every_row;  // rows of P are wanted one by one, n values each: no interpolated blocks
  T* grad_scores;  // (B, n); backward
  // scratch
  BandTables tables;
  double* sorted;         // (slots, 4, n + kBandGroup)
  BandBlock* blocks;      // (slots, n)
  BandChunk* chunks;      // (slots, kMaxBandChunks)
  BandCounts* counts;     // (slots)
  double* total;          // (slots, 2, n) C and M; backward
  T* slab;                // (slots, slab_stride) sums of each chunk
  T* block;               // (tasks or items, block_stride)
  const BandItem* items;  // work items of the chunk kernels
  int64_t slab_stride, block_stride;
  int64_t first_row;  // row of slot 0
  int64_t tasks;
};

// The plans of long rows, each kernel after the one before. Work items: one (slot, segment); in the last, one slot.
DRPM_DECLARE_KERNELS(band_gather_segments, BandArgs)  // sorted scores
DRPM_DECLARE_KERNELS(band_scan_segments, BandArgs)    // ranks, and the sums that give every drop
DRPM_DECLARE_KERNELS(band_block_segments, BandArgs)   // rows into blocks
DRPM_DECLARE_KERNELS(band_chunk_slots, BandArgs)      // blocks into chunks

}  // namespace drpm
