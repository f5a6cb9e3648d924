#include "glue/tensors_cuda.h"
#include "noise/gumbel_noise_cuda.h"
#include "noise/gumbel_noise_glue.h"

namespace drpm {
namespace {

struct Cuda {
  template <class T>
  static void run(const GumbelNoiseArgs<T>& args, int64_t lines, const Tensor& like) {
    launch_on("gumbel_noise", like, [&](void* stream) { return gumbel_noise_cuda(args, lines, stream); });
  }
};

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { m.impl("gumbel_noise", TORCH_BOX(&drpm::gumbel_noise<drpm::Cuda>)); }
