#include "noise/gumbel_noise.h"
#include "noise/noise_tile.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class T>
void gumbel_line(const GumbelNoiseArgs<T>& args, int64_t line) {
  const NoiseRow at = noise_row(args.seeds, line / args.classes);
  const uint32_t klass = static_cast<uint32_t>(line % args.classes);
  T* out = args.noise + line * args.width;
  T tile[kNoiseTile<T>];
  for (int64_t start = 0; start < args.width; start += kNoiseTile<T>) {
    gumbel_tile<T>(at, args.stream, klass, static_cast<uint64_t>(start), args.width - start, tile);
    const int64_t count = args.width - start < kNoiseTile<T> ? args.width - start : kNoiseTile<T>;
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
