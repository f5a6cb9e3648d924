#include "glue/register.h"
#include "noise/gumbel_noise.h"

namespace drpm {
namespace {

constexpr const char* kOp = "gumbel_noise";

struct Cpu {
  template <class T>
  static void run(const GumbelNoiseArgs<T>& args, int64_t lines, const Tensor&) {
    for_rows(lines, 8 * args.width, [&](int64_t begin, int64_t end) { gumbel_noise_lines(args, begin, end); });
  }
};

struct Cuda {
  template <class T>
  static void run(const GumbelNoiseArgs<T>& args, int64_t lines, const Tensor& like) {
    launch_on(kOp, like, [&](void* stream) { return gumbel_noise_cuda(args, lines, stream); });
  }
};

template <class Backend>
Tensor gumbel_noise(const Tensor& seed, int64_t stream, int64_t rows, int64_t classes, int64_t width, bool float64) {
  const ScalarType dtype = float64 ? ScalarType::Double : ScalarType::Float;
  Tensor out = new_tensor(seed, {rows, classes, width}, dtype);
  by_dtype(out, [&](auto zero) {
    using T = decltype(zero);
    const GumbelNoiseArgs<T> args{checked_seeds(kOp, seed, rows), static_cast<uint32_t>(stream), classes, width,
                                  out.mutable_data_ptr<T>()};
    Backend::run(args, rows * classes, seed);
  });
  return out;
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) { m.impl("gumbel_noise", TORCH_BOX(&drpm::gumbel_noise<Backend>)); }
