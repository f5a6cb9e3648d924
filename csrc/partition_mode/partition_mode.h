// Most probable random partition. Double inside for every dtype. B rows, n elements, K subsets; row-major, contiguous.
//
//   phase      items     what
//   intervals  rows x n  log probability that elements a ... b - 1 of the sorted row precede the rest, for one b
//   labels     rows      dynamic programme over the boundaries
#pragma once

#include <cstdint>

#include "lanes/simd.h"
#include "special/log_factorial.h"

namespace drpm {

// n(n + 1)/2 interval factors of 8 bytes are held for each row: 67 MB at the limit.
constexpr int64_t kPartitionModeLimit = 4096;

struct PartitionModeArgs {
  const double* score;      // (B, n) log-scores in decreasing order
  const int32_t* order;     // (B, n) their element indices
  const double* log_rest;   // (B, n + 1) log-sum of the scores from b on; -inf at n
  const double* log_omega;  // (B, K)
  const int64_t* m;         // (B, K)
  int64_t n, num_subsets;
  const double* node_scale;  // (nodes) e^{y_j}, ascending
  const double* node_base;   // (nodes) log dy_j + y_j - e^{y_j}
  int64_t nodes;
  LogFactorialTable log_factorials;
  double* interval;  // (B, n (n + 1) / 2) of [a, b) at b (b - 1) / 2 + a, b = 1 ... n
  int64_t* labels;   // (B, n); -1 where no partition is possible
  double* scratch;   // of one task: partition_mode_scratch doubles
};

inline int64_t partition_mode_scratch(int64_t n, int64_t num_subsets, int64_t nodes) {
  const int64_t intervals = 4 * (nodes + 16), labels = (n + 1) * (num_subsets + 3);
  return intervals > labels ? intervals : labels;
}

DRPM_DECLARE_KERNEL(partition_mode_intervals, PartitionModeArgs)
DRPM_DECLARE_KERNEL(partition_mode_labels, PartitionModeArgs)

}  // namespace drpm
