#include "mvhg/draw/draw_rows.h"
#include "mvhg/tables/size_tables_cuda.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// By inversion of the weights f_p(x) b_p(r - x).
__device__ inline int64_t invert(const SizeTables& t, int64_t p, int64_t r, double u) {
  const OutcomeWindow support = conditional_support(t, p, r);
  if (support.low > support.high) return negligible_outcome(t, p, r);
  const double *f = t.f + t.f_at[p] + (support.low - t.f_low[p]), *b = t.b + t.b_at[p] + (r - support.low - t.b_low[p]);
  return support.low + warp_invert_product(f, b, support.high - support.low + 1, u);
}

// The samples [begin, end) of one parameter row. A call in the kernel, which holds more than its registers otherwise.
template <class T>
DRPM_OUTLINED __device__ void draw_group(const MvhgDrawArgs<T>& args, int64_t parameters, int64_t begin, int64_t end,
                                         BlockScratch* scratch) {
  const MvhgExactArgs<T>& common = args.common;
  const T* log_omega = common.log_omega + parameters * common.counts.classes;
  const MvhgRow row = mvhg_row(common.counts, parameters, log_omega);
  double tilt = 0;
  if (row.valid && !is_point(row)) {
    if (row.n <= args.largest_table)
      build_tables_block(common, row, log_omega, scratch);
    else
      tilt = solve_tilt(Warp(), row, log_omega);
  }
  for (int64_t sample = begin + threadIdx.x / kWarpSize; sample < end; sample += blockDim.x / kWarpSize)
    draw_row<double>(Warp(), args, row, tilt, log_omega, sample * common.counts.batch + parameters,
                     [&](int64_t k, int64_t remaining, double u) { return invert(scratch->tables, k, remaining, u); });
}

template <class T>
__global__ void __launch_bounds__(kExactThreads, 1) draw_kernel(MvhgDrawCuda<T> call) {
  MvhgDrawArgs<T>& args = call.args;
  BlockScratch scratch = block_scratch(call.layout, call.scratch);
  args.contours = scratch.extra + threadIdx.x / kWarpSize * contour_scratch(args.common.counts.classes);
  for (int64_t item = blockIdx.x; item < args.common.counts.batch * call.chunks; item += gridDim.x) {
    const int64_t begin = item % call.chunks * call.group;
    const int64_t end = begin + call.group < args.common.samples ? begin + call.group : args.common.samples;
    draw_group(args, item / call.chunks, begin, end, &scratch);
  }
}

}  // namespace
}  // namespace DRPM_ISA

#define DRPM_DEFINE_DRAW(T)                                                                                 \
  int mvhg_draw_cuda(const MvhgDrawCuda<T>& call, void* stream) {                                           \
    return DRPM_ISA::launch(&DRPM_ISA::draw_kernel<T>, call.layout.blocks, kExactThreads, 0, stream, call); \
  }
DRPM_DEFINE_DRAW(float)
DRPM_DEFINE_DRAW(double)

}  // namespace drpm
