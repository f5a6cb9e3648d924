#include "device/cuda_launch.h"
#include "partition/partition.h"
#include "partition/partition_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class T>
__device__ SubsetWeights subset_weights(const PartitionCudaArgs<T>& args, int64_t row) {
  return {args.boundary + row * args.classes,
          args.rest + row * args.classes,
          args.cut + row * args.classes,
          args.n,
          args.classes,
          args.tau,
          args.eps,
          0,
          true};
}

template <class T>
__device__ bool row_is_finite(const PartitionCudaArgs<T>& args, int64_t row) {
  return is_finite(args.boundary[(row + 1) * args.classes - 1]);
}

// Boundaries by one thread, then labels by all; a block takes a row.
template <class T>
__global__ void __launch_bounds__(kMaxThreads) labels_kernel(PartitionCudaArgs<T> args) {
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const int64_t at = row * args.classes;
    if (threadIdx.x == 0) {
      subset_boundaries(args.sizes + at, args.n, args.classes, args.eps, args.boundary + at, args.cut + at,
                        args.rest + at);
      if (!scores_are_finite(args.scores + row * args.n, args.order + row * args.n, args.n))
        args.boundary[at + args.classes - 1] = __builtin_nan("");
    }
    __syncthreads();
    const SubsetWeights w = subset_weights(args, row);
    for (int64_t j = threadIdx.x; j < args.n; j += blockDim.x) {
      const int64_t label = hard_label(w, j);
      args.position_label[row * args.n + j] = label;
      if (args.labels != nullptr) args.labels[row * args.n + args.order[row * args.n + j]] = label;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) assignment_kernel(PartitionCudaArgs<T> args) {
  for_elements(args.rows * args.classes * args.n, [&](int64_t at) {
    const int64_t plane = at / args.n, row = plane / args.classes;
    const T value = args.labels[row * args.n + at % args.n] == plane % args.classes ? T(1) : T(0);
    args.assignment[at] = row_is_finite(args, row) ? value : static_cast<T>(__builtin_nan(""));
  });
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) alpha_kernel(PartitionCudaArgs<T> args) {
  for_elements(args.rows * args.classes * args.n, [&](int64_t at) {
    const int64_t plane = at / args.n, row = plane / args.classes, k = plane % args.classes;
    const SubsetWeights w = subset_weights(args, row);
    const double position = static_cast<double>(at % args.n);
    const double alpha =
        boundary_value<double>(w, k, position).value - boundary_value<double>(w, k - 1, position).value;
    args.alpha[at] = static_cast<T>(row_is_finite(args, row) ? alpha : __builtin_nan(""));
  });
}

// d/dnu_k = sum_i f_k'(i) (grad_alpha_k - grad_alpha_{k+1})[i]; sizes count towards their own boundary and all later
// ones, and the last boundary is fixed.                                                                       (Eq. 6)
template <class T>
__global__ void __launch_bounds__(kMaxThreads) sizes_gradient_kernel(PartitionCudaArgs<T> args) {
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const SubsetWeights w = subset_weights(args, row);
    const T* grad_alpha = args.grad_alpha + row * args.classes * args.n;
    T* grad_sizes = args.grad_sizes + row * args.classes;
    if (!row_is_finite(args, row)) {
      team_fill(Block(), grad_sizes, args.classes, __builtin_nan(""));
      team_fill(Block(), args.grad_scores + row * args.n, args.n, __builtin_nan(""));
      continue;
    }
    if (threadIdx.x == 0) grad_sizes[args.classes - 1] = 0;
    double suffix = 0;
    for (int64_t k = args.classes - 2; k >= 0; --k) {
      double sum = 0;
      for (int64_t i = threadIdx.x; i < args.n; i += blockDim.x) {
        const double slope = boundary_value<double>(w, k, static_cast<double>(i)).slope;
        const double here = grad_alpha[k * args.n + i], next = grad_alpha[(k + 1) * args.n + i];
        sum += slope * (here - next);
      }
      suffix += block_sum(sum);
      if (threadIdx.x == 0) grad_sizes[k] = static_cast<T>(suffix);
    }
  }
}

template <class T>
int launch_rows(void (*kernel)(PartitionCudaArgs<T>), const PartitionCudaArgs<T>& args, void* stream) {
  return launch(kernel, args.rows, threads_for(args.n), 0, stream, args);
}

template <class T>
int launch_planes(void (*kernel)(PartitionCudaArgs<T>), const PartitionCudaArgs<T>& args, void* stream) {
  return launch_elements(kernel, args.rows * args.classes * args.n, stream, args);
}

}  // namespace
}  // namespace DRPM_ISA

#define DRPM_DEFINE_PARTITION(Name, Launch, kernel)                   \
  int Name(const PartitionCudaArgs<float>& args, void* stream) {      \
    return DRPM_ISA::Launch(&DRPM_ISA::kernel<float>, args, stream);  \
  }                                                                   \
  int Name(const PartitionCudaArgs<double>& args, void* stream) {     \
    return DRPM_ISA::Launch(&DRPM_ISA::kernel<double>, args, stream); \
  }

DRPM_DEFINE_PARTITION(partition_labels_cuda, launch_rows, labels_kernel)
DRPM_DEFINE_PARTITION(partition_assignment_cuda, launch_planes, assignment_kernel)
DRPM_DEFINE_PARTITION(partition_alpha_cuda, launch_planes, alpha_kernel)
DRPM_DEFINE_PARTITION(partition_sizes_gradient_cuda, launch_rows, sizes_gradient_kernel)

}  // namespace drpm
