// The log-factorial table in device memory. Nothing is cached between calls: an op that needs the table allocates it
// as scratch and has it filled on its own stream, so that streams, devices and captured graphs share nothing.
#pragma once

#include "special/log_factorial.h"

namespace drpm {

// Entries for counts up to `count`; Stirling's series takes over from the table's end, and is exact enough from 16 on.
inline int64_t device_table_size(int64_t count) {
  return count < 32 ? 32 : count < kLogFactorialTableMax ? count : kLogFactorialTableMax;
}

// table[x] = log x! for x = 0 ... count - 1; returns the CUDA error code.
int fill_log_factorials_cuda(double* table, int64_t count, void* stream);

}  // namespace drpm
