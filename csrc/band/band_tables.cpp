#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "band/band_math.h"

namespace drpm {
namespace {

template <int kNodes>
struct TableStorage {
  std::array<double, kNodes> position;
  std::array<double, kNodes * kNodes> transform;
  std::array<double, kBandLimits> limit;

  explicit TableStorage(double tolerance) {
    const double pi = std::acos(-1.0);
    for (int m = 0; m < kNodes; ++m) {
      position[m] = std::cos((2 * m + 1) * pi / (2 * kNodes));
      for (int r = 0; r < kNodes; ++r)
        transform[m * kNodes + r] = (r == 0 ? 1.0 : 2.0) / kNodes * std::cos(r * (2 * m + 1) * pi / (2 * kNodes));
    }
    // log(2 I_R(a) / tolerance) with the uniform expansion of the modified Bessel function                (Eq. 12)
    limit[0] = -1e300;
    for (int a = 1; a < kBandLimits; ++a) {
      const double root = std::sqrt(static_cast<double>(kNodes) * kNodes + static_cast<double>(a) * a);
      const double log_bessel = root + kNodes * std::log(a / (kNodes + root)) - 0.5 * std::log(2 * pi * root);
      limit[a] = std::log(2 / tolerance) + log_bessel;
    }
  }

  BandTables tables() const { return {kNodes, position.data(), transform.data(), limit.data()}; }
};

// DRPM_INTERPOLATE=0, read once, computes every row of wide bands: to measure and to test the interpolation.
bool interpolates() {
  static const bool result = [] {
    const char* wanted = std::getenv("DRPM_INTERPOLATE");
    return wanted == nullptr || std::strcmp(wanted, "0") != 0;
  }();
  return result;
}

}  // namespace

template <>
BandTables band_tables<float>() {
  static const TableStorage<DRPM_ISA::BandConstants<float>::kNodes> storage(3e-8);
  return interpolates() ? storage.tables() : BandTables{};
}

template <>
BandTables band_tables<double>() {
  static const TableStorage<DRPM_ISA::BandConstants<double>::kNodes> storage(1e-15);
  return interpolates() ? storage.tables() : BandTables{};
}

}  // namespace drpm
