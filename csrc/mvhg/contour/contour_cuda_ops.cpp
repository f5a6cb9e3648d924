#include "glue/tensors_cuda.h"
#include "mvhg/contour/contour_cuda.h"
#include "mvhg/contour/contour_glue.h"

namespace drpm {
namespace {

struct Cuda {
  template <class Args>
  static void run(const char* op, const Tensor& like, Args args, int64_t rows, int64_t doubles) {
    const Tensor scratch = scratch_doubles(like, contour_rows_in_flight(rows) * doubles);
    args.scratch = scratch.mutable_data_ptr<double>();
    launch_on(op, like, [&](void* stream) { return mvhg_contour_cuda(args, rows, doubles, stream); });
  }
};

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { drpm::implement_contour_ops<drpm::Cuda>(m); }
