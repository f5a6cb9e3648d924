// Choice of the instruction set at run time, and the declaration of kernels that exist once per set.
#pragma once

#include <cstdint>

namespace drpm {

enum class SimdLevel : int { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

// The widest compiled set that this processor has; the environment variable DRPM_SIMD (baseline, avx2, avx512),
// read once, can lower it.
SimdLevel simd_level();
const char* simd_level_name();

}  // namespace drpm

// Declares `void Name(const Args&, int64_t begin, int64_t end)` in every instruction-set namespace, and drpm::Name,
// which calls the one that fits the processor. [begin, end) is the range of work items (rows, blocks) to do.
#if defined(DRPM_X86)
#define DRPM_DECLARE_KERNEL(Name, Args)                            \
  namespace isa_baseline {                                         \
  void Name(const Args& args, int64_t begin, int64_t end);         \
  }                                                                \
  namespace isa_avx2 {                                             \
  void Name(const Args& args, int64_t begin, int64_t end);         \
  }                                                                \
  namespace isa_avx512 {                                           \
  void Name(const Args& args, int64_t begin, int64_t end);         \
  }                                                                \
  inline void Name(const Args& args, int64_t begin, int64_t end) { \
    switch (simd_level()) {                                        \
      case SimdLevel::kAvx512:                                     \
        return isa_avx512::Name(args, begin, end);                 \
      case SimdLevel::kAvx2:                                       \
        return isa_avx2::Name(args, begin, end);                   \
      default:                                                     \
        return isa_baseline::Name(args, begin, end);               \
    }                                                              \
  }
#else
#define DRPM_DECLARE_KERNEL(Name, Args)                    \
  namespace isa_baseline {                                 \
  void Name(const Args& args, int64_t begin, int64_t end); \
  }                                                        \
  inline void Name(const Args& args, int64_t begin, int64_t end) { isa_baseline::Name(args, begin, end); }
#endif

// The same for Args<float> and Args<double>.
#define DRPM_DECLARE_KERNELS(Name, Args) \
  DRPM_DECLARE_KERNEL(Name, Args<float>) \
  DRPM_DECLARE_KERNEL(Name, Args<double>)

// Defines both, inside the instruction-set namespace: the statement runs for every `item` of [begin, end) of `args`.
#define DRPM_DEFINE_KERNELS(Name, Args, ...)                        \
  void Name(const Args<float>& args, int64_t begin, int64_t end) {  \
    for (int64_t item = begin; item < end; ++item) __VA_ARGS__;     \
  }                                                                 \
  void Name(const Args<double>& args, int64_t begin, int64_t end) { \
    for (int64_t item = begin; item < end; ++item) __VA_ARGS__;     \
  }
