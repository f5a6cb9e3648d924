#include "lanes/simd.h"

#include <cstdlib>
#include <cstring>

namespace drpm {
namespace {

SimdLevel detect() {
  SimdLevel level = SimdLevel::kBaseline;
#if defined(DRPM_X86)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) level = SimdLevel::kAvx2;
  if (level == SimdLevel::kAvx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    level = SimdLevel::kAvx512;
#endif
  const char* wanted = std::getenv("DRPM_SIMD");
  if (wanted != nullptr) {
    if (std::strcmp(wanted, "baseline") == 0) return SimdLevel::kBaseline;
    if (std::strcmp(wanted, "avx2") == 0 && level > SimdLevel::kAvx2) return SimdLevel::kAvx2;
  }
  return level;
}

}  // namespace

SimdLevel simd_level() {
  static const SimdLevel level = detect();
  return level;
}

const char* simd_level_name() {
  switch (simd_level()) {
    case SimdLevel::kAvx512:
      return "avx512";
    case SimdLevel::kAvx2:
      return "avx2";
    default:
      return "baseline";
  }
}

}  // namespace drpm
