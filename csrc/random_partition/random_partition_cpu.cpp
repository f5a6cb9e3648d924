#include "noise/noise_tile.h"
#include "random_partition/random_partition_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class T>
void perturb_row(const PerturbArgs<T>& args, int64_t row) {
  const int64_t n = args.n, length = row_length(args.lengths, row, args.batch, n);
  const T* scores = args.scores + row % args.batch * n;
  T* out = args.perturbed + row * n;
  if (args.seeds.values == nullptr) {
    for (int64_t j = 0; j < length; ++j) out[j] = scores[j];
  } else {
    const NoiseRow at = noise_row(args.seeds, row);
    T largest = -static_cast<T>(__builtin_huge_val());
    for (int64_t j = 0; j < length; ++j) largest = scores[j] > largest ? scores[j] : largest;
    T tile[kNoiseTile<T>];
    for (int64_t start = 0; start < length; start += kNoiseTile<T>) {
      gumbel_tile<T>(at, kStreamOrder, 0, static_cast<uint64_t>(start), length - start, tile);
      const int64_t count = length - start < kNoiseTile<T> ? length - start : kNoiseTile<T>;
      for (int64_t i = 0; i < count; ++i) out[start + i] = (scores[start + i] - largest) + tile[i];
    }
  }
  if (length == n) return;
  T lowest = static_cast<T>(__builtin_huge_val());
  for (int64_t j = 0; j < length; ++j) lowest = out[j] < lowest ? out[j] : lowest;
  const Padding<T> padding = padding_below(lowest, args.spacing, n);
  for (int64_t j = length; j < n; ++j) out[j] = padding.lowest - padding.step * static_cast<T>(j - length + 1);
}

template <class T>
void mask_row(const MaskArgs<T>& args, int64_t row) {
  const int64_t n = args.n, length = row_length(args.lengths, row, args.batch, n);
  for (int64_t plane = row * args.planes; plane < (row + 1) * args.planes; ++plane) {
    const T* from = args.from + plane * n;
    T* to = args.to + plane * n;
    if (from != to)
      for (int64_t j = 0; j < length; ++j) to[j] = from[j];
    for (int64_t j = length; j < n; ++j) to[j] = 0;
  }
  if (args.labels != nullptr)
    for (int64_t j = length; j < n; ++j) args.labels[row * n + j] = -1;
}

}  // namespace

DRPM_DEFINE_KERNELS(perturb_rows, PerturbArgs, perturb_row(args, item))
DRPM_DEFINE_KERNELS(mask_rows, MaskArgs, mask_row(args, item))

}  // namespace DRPM_ISA
}  // namespace drpm
