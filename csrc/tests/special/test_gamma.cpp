// Maximum error of log Gamma and digamma at real arguments, against long double.
#include <cmath>

#include "special/gamma.h"
#include "tests/check.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

long double digamma_exact(long double x) {  // psi(x + 1)
  long double shift = 0;
  while (x < 40) x += 1, shift += 1 / x;
  const long double r = 1 / x, r2 = r * r;
  const long double series =
      r2 * (1 / 12.0L - r2 * (1 / 120.0L - r2 * (1 / 252.0L - r2 * (1 / 240.0L - r2 * (1 / 132.0L)))));
  return std::log(x) + r / 2 - series - shift;
}

void run() {
  double worst_gamma = 0, worst_digamma = 0;
  double x = -0.75;
  for (int i = 0; i < 200000; ++i) {
    const long double gamma = lgammal(x + 1.0L), digamma = digamma_exact(x);
    const double gamma_scale = std::fmax(1.0, static_cast<double>(std::fabs(gamma)));
    const double digamma_scale = std::fmax(1.0, static_cast<double>(std::fabs(digamma)));
    worst_gamma = std::fmax(worst_gamma, static_cast<double>(std::fabs(log_gamma1p(x) - gamma)) / gamma_scale);
    worst_digamma = std::fmax(worst_digamma, static_cast<double>(std::fabs(digamma1p(x) - digamma)) / digamma_scale);
    x = x < 50 ? x + 0.00137 : x * 1.0001;
  }
  std::printf("log gamma: %.3g, digamma: %.3g, up to %.3g\n", worst_gamma, worst_digamma, x);
  EXPECT(x > 1e7, "reached %g", x);
  EXPECT(worst_gamma <= 2e-14, "log gamma error %.3g", worst_gamma);
  EXPECT(worst_digamma <= 4e-15, "digamma error %.3g", worst_digamma);
}

}  // namespace
}  // namespace DRPM_ISA
}  // namespace drpm

DRPM_TEST_MAIN(drpm::DRPM_ISA::run)
