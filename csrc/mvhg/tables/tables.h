// What ops that build tables of sizes share: arguments, how large tables get, and where they lie. All arrays are
// row-major and contiguous; B parameter rows, S samples, R = S B rows (row = sample * B + parameter row), K classes.
#pragma once

#include "lanes/carver.h"
#include "lanes/simd.h"
#include "mvhg/law.h"
#include "mvhg/outcome.h"
#include "noise/seeds.h"
#include "special/log_factorial.h"

namespace drpm {

constexpr int64_t kTablePadding = 64;  // whole tiles beyond the end of a table

// Memory of one task of the CPU; the tables of one parameter row live in it at a time.
struct TableScratch {
  int64_t* windows;   // (8, K)
  double* scale;      // (K)
  double *f, *log_f;  // outcomes of single classes
  double *b, *log_b;  // totals of the later classes
  double* h;          // cotangents of log b, backward only
  double* work;       // 4 (widest + kTablePadding)
  int64_t widest;     // values that a table may hold
};

// What the tables are for decides how far they reach.
enum class TableUse { kSample, kRelaxedSample, kPlain };

template <class T>
struct MvhgExactArgs {
  MvhgCounts counts;
  int64_t samples;
  const T* log_omega;  // (B, K)
  Seeds seeds;
  double tau;
  bool hard, noise;
  TableUse use;
  LogFactorialTable log_factorials;
  TableScratch scratch;
  T* outcomes;  // scratch of one task: (2, outcome_width)
  int64_t outcome_width;
};

struct TableBounds {
  CountBounds counts;
  int64_t widest;  // values of one table, at most
};

// The bounds over all parameter rows, as one work item.
template <class T>
struct MvhgTableBoundsArgs {
  MvhgExactArgs<T> common;
  int64_t largest_n;  // rows that draw more have no tables
  TableBounds* bounds;
};

DRPM_DECLARE_KERNEL(mvhg_table_bounds, MvhgTableBoundsArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_table_bounds, MvhgTableBoundsArgs<double>)

// Points `args` at the memory of one task of the CPU.
template <class T>
void place_tables(Carver* carver, const TableBounds& bounds, bool backward, MvhgExactArgs<T>* args) {
  const int64_t classes = args->counts.classes, widest = bounds.widest;
  const int64_t totals = classes * (widest + 2 * kTablePadding);
  const int64_t largest = bounds.counts.outcomes + 2 * classes * kTablePadding;
  const int64_t outcomes = largest < totals ? largest : totals;
  TableScratch& s = args->scratch;
  s.windows = carver->take<int64_t>(8 * classes);
  s.scale = carver->take<double>(classes);
  s.f = carver->take<double>(outcomes);
  s.log_f = carver->take<double>(outcomes);
  s.b = carver->take<double>(totals);
  s.log_b = carver->take<double>(totals);
  s.h = backward ? carver->take<double>(totals) : nullptr;
  s.work = carver->take<double>(4 * (widest + kTablePadding));
  s.widest = widest;
  args->outcome_width = widest + kOutcomePadding;
  args->outcomes = carver->take<T>(2 * args->outcome_width);
}

// On the device a block takes one group of rows that share tables: scratch is given by block, and its size follows from
// bounds that the host knows, never from device memory. Counts there are not known to the host: where nothing bounds n,
// tables are laid out for this many draws, and a row that draws more is a row of NaN.
constexpr int64_t kLargestUnknownN = int64_t{1} << 20;

// Entries of the log-factorial table on the device; classes of more items take another form (size_tables.h).
constexpr int64_t kExactTableSize = 4096;

constexpr int kExactThreads = 128;
constexpr int kExactWarps = kExactThreads / 32;

struct ExactLayout {
  int64_t classes, stride;  // stride: values that a table may hold
  bool backward;            // with cotangents of log b
  int64_t extra;            // further doubles
  int64_t blocks;           // in flight
};

// Memory of one block.
struct BlockMemory {
  int64_t* windows;               // (6, K)
  double* scale;                  // (K)
  double *f, *log_f, *b, *log_b;  // (K, stride)
  double* h;                      // (K, stride), backward only
  double* work;                   // (2, stride)
  double* extra;
};

DRPM_HD inline BlockMemory place_block(const ExactLayout& layout, Carver* carver) {
  const int64_t table = layout.classes * layout.stride;
  BlockMemory out{};
  out.windows = carver->take<int64_t>(6 * layout.classes);
  out.scale = carver->take<double>(layout.classes);
  out.f = carver->take<double>(table);
  out.log_f = carver->take<double>(table);
  out.b = carver->take<double>(table);
  out.log_b = carver->take<double>(table);
  if (layout.backward) out.h = carver->take<double>(table);
  out.work = carver->take<double>(2 * layout.stride);
  out.extra = carver->take<double>(layout.extra);
  return out;
}

DRPM_HD inline int64_t block_bytes(const ExactLayout& layout) {
  Carver measure(nullptr);
  place_block(layout, &measure);
  return measure.size();
}

// Scratch for `items` groups, from a bound on n (negative: the host knows none).
ExactLayout exact_layout_cuda(const MvhgExactArgs<float>& args, int64_t items, int64_t largest_n, bool backward,
                              int64_t extra);
ExactLayout exact_layout_cuda(const MvhgExactArgs<double>& args, int64_t items, int64_t largest_n, bool backward,
                              int64_t extra);

// Chunks of samples per parameter row in the forward: enough for the device, as many samples as possible a table.
inline int64_t exact_chunks(int64_t batch, int64_t samples, bool order_by_row) {
  if (order_by_row || samples <= 1) return samples;
  const int64_t wanted = (528 + batch - 1) / (batch < 1 ? 1 : batch), most = (samples + 7) / 8;
  return wanted < most ? wanted : most;
}

}  // namespace drpm
