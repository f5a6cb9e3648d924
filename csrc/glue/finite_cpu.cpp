#include <cstring>

#include "glue/finite.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int64_t kStride = 4096;  // values between two looks at the result

// Neither NaN nor infinity: the exponent is not all ones.
template <class Bits, class T>
void scan(const AllFiniteArgs<T>& args, int64_t begin, int64_t end, Bits exponent) {
  for (int64_t start = begin; start < end; start += kStride) {
    const int64_t stop = end - start < kStride ? end : start + kStride;
    Bits found = 0;
    for (int64_t i = start; i < stop; ++i) {
      Bits bits;
      std::memcpy(&bits, args.values + i, sizeof bits);
      found |= static_cast<Bits>((bits & exponent) == exponent);
    }
    if (found) {
      *args.finite = false;
      return;
    }
  }
}

}  // namespace

void all_finite(const AllFiniteArgs<float>& args, int64_t begin, int64_t end) {
  scan<uint32_t>(args, begin, end, 0x7f800000u);
}

void all_finite(const AllFiniteArgs<double>& args, int64_t begin, int64_t end) {
  scan<uint64_t>(args, begin, end, 0x7ff0000000000000u);
}

}  // namespace DRPM_ISA
}  // namespace drpm
