#include "device/cuda_launch.h"
#include "mvhg/contour/entropy_rows.h"
#include "mvhg/tables/size_tables.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kEntropyThreads = 128;  // four warps a block, each with its own row

// f phi of one class, 32 outcomes at a time, one a lane.
struct WarpOutcomes {
  int64_t low, stride, size, mode;
  double mass, centre;
  ClassWeights weights;
  LogFactorialTable table;
  double own;

  __device__ void enter(int64_t i) {
    const int64_t own_index = i + Warp().rank();
    const double phi = own_index < size ? -class_drop(weights, low + own_index * stride, table) : 0;
    own = exp_lane<double>(phi) * phi;
  }
  __device__ double at(int64_t t) const { return __shfl_sync(kFullWarp, own, static_cast<int>(t)); }
};

template <class T>
__device__ WarpOutcomes open_class(const MvhgEntropyArgs<T>& args, int64_t m, double a) {
  const ClassWeights w = class_weights(m, a, m, kPlainCut, m + 1, args.log_factorials);
  const int64_t stride = outcome_stride(w.high - w.low + 1);
  WarpOutcomes out{w.low, stride, (w.high - w.low) / stride + 1, w.mode, 0, 0, w, args.log_factorials, 0};
  double mass = 0, sum = 0;
  for (int64_t i = Warp().rank(); i < out.size; i += kWarpSize) {
    const int64_t x = w.low + i * stride;
    const double f = exp_lane<double>(-class_drop(w, x, args.log_factorials));
    mass += f;
    sum += f * static_cast<double>(x - w.mode);
  }
  out.mass = Warp().sum(mass);
  out.centre = Warp().sum(sum) / out.mass;
  return out;
}

template <class T>
__global__ void __launch_bounds__(kEntropyThreads, 1) entropy_kernel(MvhgEntropyArgs<T> args) {
  double* const contours = args.contours;
  for_warp_items(args.counts.batch, [&](int64_t row, int64_t warp) {
    args.contours = contours + warp * entropy_scratch(args.counts.classes);
    entropy_row<double>(Warp(), args, row, [&](int64_t, int64_t m, double a) { return open_class(args, m, a); });
  });
}

template <class T>
int launch_entropy(const MvhgEntropyArgs<T>& args, void* stream) {
  const int64_t warps = entropy_rows_in_flight(args.counts.batch);
  return launch_spread_warps(&entropy_kernel<T>, warps, kEntropyThreads, stream, args);
}

}  // namespace
}  // namespace DRPM_ISA

int mvhg_entropy_cuda(const MvhgEntropyArgs<float>& args, void* stream) {
  return DRPM_ISA::launch_entropy(args, stream);
}

int mvhg_entropy_cuda(const MvhgEntropyArgs<double>& args, void* stream) {
  return DRPM_ISA::launch_entropy(args, stream);
}

}  // namespace drpm
