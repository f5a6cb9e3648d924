#include "device/cuda_launch.h"
#include "special/log_factorial.h"
#include "special/log_factorial_cuda.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// Below 16 Stirling's series is not exact enough; there the factorial itself
// (15! < 2^41) is exact.
__device__ double log_factorial_at(int64_t x) {
  if (x >= 16) return log_factorial_stirling(static_cast<double>(x));
  double product = 1;
  for (int64_t i = 2; i <= x; ++i) product *= static_cast<double>(i);
  return log_lane<double>(product);
}

__global__ void __launch_bounds__(kMaxThreads) fill_log_factorials_kernel(double* table, int64_t count) {
  for_elements(count, [&](int64_t x) { table[x] = log_factorial_at(x); });
}

}  // namespace
}  // namespace DRPM_ISA

int fill_log_factorials_cuda(double* table, int64_t count, void* stream) {
  using namespace DRPM_ISA;
  const int threads = threads_for(count);
  return launch(&fill_log_factorials_kernel, (count + threads - 1) / threads, threads, 0, stream, table, count);
}

}  // namespace drpm
