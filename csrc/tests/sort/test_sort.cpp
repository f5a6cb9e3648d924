// The stable order of a row.
#include <cmath>
#include <vector>

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

template <class T>
void check_order() {
  for (int64_t n : {1, 2, 39, 40, 41, 255, 3000, 3001, 10000}) {
    std::vector<T> scores(static_cast<size_t>(n));
    for (T& x : scores) x = static_cast<T>(std::floor(40 * (unit_random() - 0.5)) * (unit_random() < 0.5 ? 1 : 1e-3));
    std::vector<SortItem> items(static_cast<size_t>(2 * n));
    std::vector<int64_t> order(static_cast<size_t>(n));
    sort_order(scores.data(), n, items.data(), order.data());
    bool sorted = true;
    std::vector<bool> seen(static_cast<size_t>(n), false);
    for (size_t i = 0; i < order.size(); ++i) {
      seen[static_cast<size_t>(order[i])] = true;
      if (i == 0) continue;
      const T before = scores[static_cast<size_t>(order[i - 1])], here = scores[static_cast<size_t>(order[i])];
      sorted = sorted && (before > here || (before == here && order[i - 1] < order[i]));
    }
    for (bool s : seen) sorted = sorted && s;
    EXPECT(sorted, "n = %lld", static_cast<long long>(n));
  }
}

void run() {
  check_order<float>();
  check_order<double>();
}

}  // namespace
}  // namespace DRPM_ISA
}  // namespace drpm

DRPM_TEST_MAIN(drpm::DRPM_ISA::run)
