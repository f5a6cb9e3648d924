#include "noise/gumbel_noise.h"
#include "noise/philox.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class T>
void gumbel_line(const GumbelNoiseArgs<T>& args, int64_t line) {
  using V = Pack<T>;
  constexpr int kPer = kNoisePerBlock<T>;
  constexpr int kTile = 16 * kPer;  // elements whose uniforms are drawn before the logarithms are taken in packs
  const NoiseRow at = noise_row(args.seeds, line / args.classes);
  const uint32_t klass = static_cast<uint32_t>(line % args.classes);
  T* out = args.noise + line * args.width;
  T tile[kTile];
  for (int64_t start = 0; start < args.width; start += kTile) {
    for (int b = 0; b < kTile / kPer; ++b) {
      const PhiloxBlock block = noise_block(at, args.stream, klass, static_cast<uint32_t>(start / kPer + b));
      for (int i = 0; i < kPer; ++i) tile[b * kPer + i] = uniform_of(block, i, T());
    }
    for (int i = 0; i < kTile; i += Lane<V>::kWidth) store<V>(tile + i, gumbel_of_uniform<V>(load<V>(tile + i)));
    const int64_t count = args.width - start < kTile ? args.width - start : kTile;
    for (int64_t i = 0; i < count; ++i) out[start + i] = tile[i];
  }
}

}  // namespace

void gumbel_noise_lines(const GumbelNoiseArgs<float>& args, int64_t begin, int64_t end) {
  for (int64_t line = begin; line < end; ++line) gumbel_line(args, line);
}

void gumbel_noise_lines(const GumbelNoiseArgs<double>& args, int64_t begin, int64_t end) {
  for (int64_t line = begin; line < end; ++line) gumbel_line(args, line);
}

}  // namespace DRPM_ISA
}  // namespace drpm
