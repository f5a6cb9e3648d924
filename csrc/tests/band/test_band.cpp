// The drops of a relaxed sort's bands, against long double.
#include <cmath>
#include <limits>
#include <vector>

#include "band/band_block.h"
#include "sort/sort_math.h"
#include "tests/check.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

double unit_random() {  // deterministic, in [0, 1)
  static uint64_t state = 0x9E3779B97F4A7C15ull;
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return static_cast<double>(state >> 11) * 0x1p-53;
}

// D_i(j) of every block's frame row, and the claim of a band: columns outside lie below T (or T + log n) at all rows.
template <class T>
void check_bands(int64_t n, double tau, double outlier, bool interpolate) {
  const size_t size = static_cast<size_t>(n);
  std::vector<double> scores(size);
  for (double& x : scores) x = static_cast<double>(static_cast<T>(3 * (unit_random() + unit_random()) - 1));
  scores[size / 2] = outlier;
  std::vector<T> typed(scores.begin(), scores.end());
  std::vector<SortItem> items(2 * size);
  std::vector<int64_t> order(size);
  sort_order(typed.data(), n, items.data(), order.data());
  std::vector<double> sorted(4 * (size + kBandGroup));
  std::vector<BandBlock> blocks(size);
  std::vector<BandChunk> chunks(kMaxBandChunks);
  BandCounts counts;
  BandArgs<T> args{};
  args.scores = typed.data();
  args.order = order.data();
  args.rows = 1;
  args.n = n;
  args.tau = tau;
  args.sorted = sorted.data();
  args.blocks = blocks.data();
  args.chunks = chunks.data();
  args.counts = &counts;
  // limits of 0: every column is taken as resolved
  std::vector<double> limits(kBandLimits, -1e300);
  if (interpolate) args.tables = {BandConstants<T>::kNodes, nullptr, nullptr, limits.data()};
  plan_row(args, 0, 0);
  const RowPlan p = row_plan(args, 0);

  auto drop = [&](int64_t i, int64_t j) {
    long double sum = 0;
    for (int64_t l = i; l < j; ++l) sum += (2 * (l - i) + 1) * (static_cast<long double>(p.s[l]) - p.s[l + 1]);
    for (int64_t l = j; l < i; ++l) sum += (2 * (i - l) - 1) * (static_cast<long double>(p.s[l]) - p.s[l + 1]);
    return sum;
  };
  int64_t row = 0;
  int32_t interpolated = 0;
  double worst = 0;
  std::vector<T> storage(static_cast<size_t>(block_storage<T>(n)));
  for (int32_t b = 0; b < counts.blocks; ++b) {
    const BandBlock& block = p.blocks[b];
    const int64_t last = block.first + block.rows - 1;
    EXPECT(block.first == row && block.rows > 0 && block.low <= block.first && block.high >= last, "block %d", b);
    row += block.rows;
    interpolated += block.nodes > 0;
    EXPECT(block.low == 0 || drop(block.first, block.low - 1) > p.near_drop, "left end of block %d", b);
    EXPECT(block.high == n - 1 || drop(last, block.high + 1) > p.near_drop, "right end of block %d", b);
    for (int64_t i : {static_cast<int64_t>(block.first), last})
      EXPECT(drop(i, block.frame) <= kFrameDrop * tau * 1.000001L, "frame of block %d", b);
    BlockWeights<T> w;
    w.block = block;
    w.ld = padded_columns(block.high - block.low + 1);
    w.exponent = storage.data();
    w.slope = storage.data() + w.ld;
    frame_columns(p, w);
    for (int64_t j = block.low; j <= block.high; ++j) {
      const long double want = -drop(block.frame, j) * 1.4426950408889634074L / tau;
      const double error =
          static_cast<double>(std::fabs(w.exponent[j - block.low] - want) / (std::fabs(want) + 1e-30L));
      worst = std::fmax(worst, error);
    }
  }
  EXPECT(row == n, "blocks cover %lld rows", static_cast<long long>(row));
  EXPECT(interpolate || interpolated == 0, "%d interpolated blocks", interpolated);
  const double bound = 60 * static_cast<double>(std::numeric_limits<T>::epsilon());
  EXPECT(worst <= bound, "n %lld tau %g: drops off by %.3g", static_cast<long long>(n), tau, worst);
  int64_t columns = 0;
  for (int32_t c = 0; c < counts.chunks; ++c) columns += p.chunks[c].high - p.chunks[c].low + 1 + kBandPad;
  EXPECT(counts.chunks >= 1 && columns <= slab_columns(n), "%lld columns", static_cast<long long>(columns));
}

template <class T>
void check_all_bands() {
  for (bool interpolate : {false, true})
    for (double outlier : {0.5, 1e30, -1e30})
      for (int64_t n : {1, 2, 16, 17, 100, 1500})
        for (double tau : {1e-3, 0.3, 30.0}) check_bands<T>(n, tau, outlier, interpolate);
  check_bands<T>(60000, 1e-3, 0.5, true);
}

void run() {
  check_all_bands<float>();
  check_all_bands<double>();
}

}  // namespace
}  // namespace DRPM_ISA
}  // namespace drpm

DRPM_TEST_MAIN(drpm::DRPM_ISA::run)
