// Where the plans of the rows in flight lie. A slot is one row in flight: a row of its own where rows are few and long
// (their chunks are then spread over the threads), or one row after the other of a task.
#pragma once

#include "band/band_math.h"

namespace drpm {

struct BandScratch {
  double* sorted;      // (slots, 4, n + kBandGroup)
  BandBlock* blocks;   // (slots, n)
  BandChunk* chunks;   // (slots, kMaxBandChunks)
  BandCounts* counts;  // (slots)
};

// One chunk of one row in flight.
struct BandItem {
  int32_t slot, chunk;
};

namespace DRPM_ISA {

template <class T>
inline RowPlan row_plan(const BandScratch& scratch, int64_t slot, int64_t n, double tau) {
  const int64_t ld = n + kBandGroup;
  double* sorted = scratch.sorted + 4 * slot * ld;
  const double drop = BandConstants<T>::kDrop;
  RowPlan p;
  p.n = n;
  p.tau = tau;
  p.near_drop = drop * tau;
  p.far_drop = (drop + log_lane<double>(static_cast<double>(n))) * tau;
  p.tail_drop = BandConstants<T>::kTail * tau;
  p.frame_drop = kFrameDrop * tau;
  p.s = sorted;
  p.right = sorted + ld;
  p.left = sorted + 2 * ld;
  p.rank = sorted + 3 * ld;
  p.blocks = scratch.blocks + slot * n;
  p.chunks = scratch.chunks + slot * kMaxBandChunks;
  p.counts = scratch.counts + slot;
  return p;
}

}  // namespace DRPM_ISA
}  // namespace drpm
