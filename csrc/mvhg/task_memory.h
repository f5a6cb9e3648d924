// The scratch memory that one task of an MVHG kernel, a thread of the CPU or a block of the device, may take.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace drpm {

constexpr double kMostTaskBytes = 4.0 * (int64_t{1} << 30);

// Counts so large that their tables would not fit are the caller's mistake: a ValueError in Python, not a crash.
inline void check_task_memory(const char* op, double bytes, int64_t n, int64_t classes, const char* task = "thread") {
  if (bytes <= kMostTaskBytes) return;
  throw std::invalid_argument(std::string(op) + ": n must be small enough for tables of 4 GiB a " + task +
                              ", got n = " + std::to_string(n) + " with " + std::to_string(classes) +
                              " classes, whose tables take " +
                              std::to_string(static_cast<int64_t>(bytes / (int64_t{1} << 30))) + " GiB");
}

}  // namespace drpm
