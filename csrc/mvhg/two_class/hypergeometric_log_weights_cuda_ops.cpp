#include "glue/tensors_cuda.h"
#include "mvhg/two_class/hypergeometric_log_weights_cuda.h"
#include "mvhg/two_class/hypergeometric_log_weights_glue.h"
#include "special/log_factorial_cuda.h"

namespace drpm {
namespace {

struct Cuda {
  template <class T>
  static void forward(HypergeometricLogWeightsArgs<T> args, int64_t rows, const Tensor& like) {
    launch_with_log_factorials(kOp, like, device_table_size(args.width), &args.log_factorials,
                               [&](void* stream) { return hypergeometric_log_weights_cuda(args, rows, stream); });
  }

  template <class T>
  static void backward(const HypergeometricLogWeightsBackwardArgs<T>& args, int64_t rows, const Tensor& like) {
    launch_on(kOp, like, [&](void* stream) { return hypergeometric_log_weights_backward_cuda(args, rows, stream); });
  }
};

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { drpm::implement_hypergeometric_ops<drpm::Cuda>(m); }
