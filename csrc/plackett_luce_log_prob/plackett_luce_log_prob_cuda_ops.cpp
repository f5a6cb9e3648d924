#include "glue/tensors_cuda.h"
#include "plackett_luce_log_prob/plackett_luce_log_prob_cuda.h"
#include "plackett_luce_log_prob/plackett_luce_log_prob_glue.h"

namespace drpm {
namespace {

struct Cuda {
  template <class T>
  static void run(PlackettLuceArgs<T> args, int64_t rows, const Tensor& like) {
    const Tensor scratch = scratch_doubles(like, plackett_luce_cuda_blocks(rows) * args.n);
    args.log_suffix_sum = scratch.mutable_data_ptr<double>();
    launch_on(kOp, like, [&](void* stream) { return plackett_luce_cuda(args, rows, stream); });
  }
};

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { m.impl("plackett_luce_log_prob", TORCH_BOX(&drpm::plackett_luce_log_prob<drpm::Cuda>)); }
