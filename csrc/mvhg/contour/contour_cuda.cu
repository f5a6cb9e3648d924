#include "device/cuda_launch.h"
#include "mvhg/contour/contour.h"
#include "mvhg/contour/contour_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kContourThreads = 128;  // four warps a block, each with its own row and its lanes over the nodes

// `doubles` of scratch for each warp of the grid.
#define DRPM_CONTOUR_KERNEL(Args, kernel, row_function)                                                       \
  template <class T>                                                                                          \
  __global__ void __launch_bounds__(kContourThreads, 1) kernel(Args<T> args, int64_t rows, int64_t doubles) { \
    double* const scratch = args.scratch;                                                                     \
    for_warp_items(rows, [&](int64_t row, int64_t warp) {                                                     \
      args.scratch = scratch + warp * doubles;                                                                \
      row_function<double>(Warp(), args, row);                                                                \
    });                                                                                                       \
  }                                                                                                           \
  template <class T>                                                                                          \
  int launch_contour(const Args<T>& args, int64_t rows, int64_t doubles, void* stream) {                      \
    return launch_spread_warps(&kernel<T>, contour_rows_in_flight(rows), kContourThreads, stream, args, rows, \
                               doubles);                                                                      \
  }

DRPM_CONTOUR_KERNEL(MvhgNormalizerArgs, normalizer_kernel, normalizer_row)
DRPM_CONTOUR_KERNEL(MvhgLogProbArgs, log_prob_kernel, log_prob_row)
DRPM_CONTOUR_KERNEL(MvhgCumulantArgs, cumulant_kernel, cumulant_row)
DRPM_CONTOUR_KERNEL(MvhgKlArgs, kl_kernel, kl_row)

}  // namespace
}  // namespace DRPM_ISA

#define DRPM_DEFINE_CONTOUR(Args)                                                                \
  int mvhg_contour_cuda(const Args<float>& args, int64_t rows, int64_t doubles, void* stream) {  \
    return DRPM_ISA::launch_contour(args, rows, doubles, stream);                                \
  }                                                                                              \
  int mvhg_contour_cuda(const Args<double>& args, int64_t rows, int64_t doubles, void* stream) { \
    return DRPM_ISA::launch_contour(args, rows, doubles, stream);                                \
  }

DRPM_DEFINE_CONTOUR(MvhgNormalizerArgs)
DRPM_DEFINE_CONTOUR(MvhgLogProbArgs)
DRPM_DEFINE_CONTOUR(MvhgCumulantArgs)
DRPM_DEFINE_CONTOUR(MvhgKlArgs)

}  // namespace drpm
