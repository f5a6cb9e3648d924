#include "common/noise_cuda.h"
#include "common/tensors_cuda.h"

namespace drpm {
namespace {

template <class T>
void run(const Tensor& seed, int64_t stream, int64_t rows, int64_t classes, int64_t width, const Tensor& out) {
  const GumbelNoiseArgs<T> args{checked_data<int64_t>("gumbel_noise", "seed", seed, 1), static_cast<uint32_t>(stream),
                                classes, width, out.mutable_data_ptr<T>()};
  launch_on("gumbel_noise", seed, [&](void* s) { return gumbel_noise_cuda(args, rows * classes, s); });
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

DRPM_CUDA_LIBRARY_IMPL(m) { m.impl("gumbel_noise", TORCH_BOX(&drpm::gumbel_noise)); }
