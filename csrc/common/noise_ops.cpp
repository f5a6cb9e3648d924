#include "common/noise.h"
#include "common/tensors.h"

namespace drpm {
namespace {

template <class T>
void run(const Tensor& seed, int64_t stream, int64_t rows, int64_t classes, int64_t width, const Tensor& out) {
  const GumbelNoiseArgs<T> args{checked_data<int64_t>("gumbel_noise", "seed", seed, 1), static_cast<uint32_t>(stream),
                                classes, width, out.mutable_data_ptr<T>()};
  for_rows(rows * classes, 20 * width, [&](int64_t begin, int64_t end) { gumbel_noise_lines(args, begin, end); });
}

Tensor gumbel_noise(const Tensor& seed, int64_t stream, int64_t rows, int64_t classes, int64_t width, bool float64) {
  const ScalarType dtype = float64 ? ScalarType::Double : ScalarType::Float;
  Tensor out = torch::stable::new_empty(seed, {rows, classes, width}, dtype);
  if (float64)
    run<double>(seed, stream, rows, classes, width, out);
  else
    run<float>(seed, stream, rows, classes, width, out);
  return out;
}

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) { m.impl("gumbel_noise", TORCH_BOX(&drpm::gumbel_noise)); }
