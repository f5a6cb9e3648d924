// The C++ tests' only tools: a check that counts and prints, and the skip where the processor lacks the set.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "lanes/simd.h"

namespace drpm_test {

inline int& failures() {
  static int count = 0;
  return count;
}

inline bool processor_can_run(const char* level) {
  if (std::strcmp(level, "avx512") == 0) return drpm::simd_level() >= drpm::SimdLevel::kAvx512;
  if (std::strcmp(level, "avx2") == 0) return drpm::simd_level() >= drpm::SimdLevel::kAvx2;
  return true;
}

}  // namespace drpm_test

#define EXPECT(condition, ...)                                    \
  do {                                                            \
    if (!(condition)) {                                           \
      ++drpm_test::failures();                                    \
      std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                   \
      std::printf("\n");                                          \
    }                                                             \
  } while (false)

// Defines main(): runs `body` unless the processor lacks the instruction set.
#define DRPM_TEST_MAIN(body)                                           \
  int main() {                                                         \
    if (!drpm_test::processor_can_run(DRPM_TEST_LEVEL)) return 77;     \
    body();                                                            \
    std::printf("%s: %d failures\n", __FILE__, drpm_test::failures()); \
    return drpm_test::failures() == 0 ? 0 : 1;                         \
  }
