// Launchers of the exact conditionals. A block takes one group of rows that share tables: scratch is given by block,
// and its size follows from bounds that the host knows, never from device memory.
#pragma once

#include "mvhg/contour/contour.h"
#include "mvhg/tables/exact.h"

namespace drpm {

// Counts in device memory are not known to the host. Where nothing bounds n, tables are laid out for this many draws,
// and a row that draws more is a row of NaN.
constexpr int64_t kLargestUnknownN = int64_t{1} << 20;

// Entries of the log-factorial table on the device; Stirling's series takes over beyond.
constexpr int64_t kExactTableSize = 4096;

// Scratch of one block: per class six windows and a scale, tables of `stride` doubles, and vectors of `stride` doubles.
struct ExactLayout {
  int64_t classes, stride;
  int64_t tables;   // arrays over (K, stride): f, log f, b, log b, and h where it is wanted
  int64_t vectors;  // arrays over 2 stride
  int64_t extra;    // further doubles
  int64_t blocks;   // in flight

  DRPM_HD int64_t block_doubles() const { return 7 * classes + (tables * classes + 2 * vectors) * stride + extra; }
};

constexpr int64_t kExactScratchBytes = int64_t{1} << 30;  // of all blocks in flight, unless one alone takes more

// Chunks of samples per parameter row in the forward: enough for the device, as many samples as possible a table.
inline int64_t exact_chunks(int64_t batch, int64_t samples, bool order_by_row) {
  if (order_by_row || samples <= 1) return samples;
  const int64_t wanted = (528 + batch - 1) / (batch < 1 ? 1 : batch), most = (samples + 7) / 8;
  return wanted < most ? wanted : most;
}

template <class T>
struct MvhgSampleExactCuda {
  MvhgSampleExactArgs<T> args;
  ExactLayout layout;
  double* scratch;
  int64_t chunks, group;  // work item b * chunks + c: samples c group .. (c + 1) group - 1 of parameter row b
  int64_t largest_n;      // rows that draw more are NaN
};

template <class T>
struct MvhgSampleExactBackwardCuda {
  MvhgSampleExactBackwardArgs<T> args;
  ExactLayout layout;  // extra: (group, K) remainders and (group, K) cotangents
  double* scratch;
  int64_t largest_n;
};

template <class T>
struct MvhgDrawCuda {
  MvhgDrawArgs<T> args;
  ExactLayout layout;  // extra: a contour for each warp of the block
  double* scratch;
  int64_t chunks, group;
};

// Entropy needs no tables: a warp a row, with entropy_doubles(K) of `args.contours` for each row in flight.
inline int64_t entropy_rows_in_flight(int64_t rows) { return rows < 2112 ? rows : 2112; }
inline DRPM_HD int64_t entropy_doubles(int64_t classes) { return contour_scratch(classes) + 2 * classes; }

constexpr int kExactThreads = 128;
constexpr int kExactWarps = kExactThreads / 32;

// Scratch for `items` groups, from a bound on n (negative: the host knows none).
#define DRPM_DECLARE_EXACT(T)                                                                                   \
  ExactLayout exact_layout_cuda(const MvhgExactArgs<T>& args, int64_t items, int64_t largest_n, int64_t tables, \
                                int64_t vectors, int64_t extra);                                                \
  int mvhg_sample_exact_cuda(const MvhgSampleExactCuda<T>& call, void* stream);                                 \
  int mvhg_sample_exact_backward_cuda(const MvhgSampleExactBackwardCuda<T>& call, void* stream);                \
  int mvhg_entropy_cuda(const MvhgEntropyArgs<T>& args, void* stream);                                          \
  int mvhg_draw_cuda(const MvhgDrawCuda<T>& call, void* stream);
DRPM_DECLARE_EXACT(float)
DRPM_DECLARE_EXACT(double)
#undef DRPM_DECLARE_EXACT

}  // namespace drpm
