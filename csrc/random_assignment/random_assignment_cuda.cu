#include "device/cuda_launch.h"
#include "noise/philox.h"
#include "random_assignment/random_assignment.h"
#include "random_assignment/random_assignment_math.h"
#include "sort/sort_math.h"
#include "special/score_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kDigitBits = 8, kBuckets = 1 << kDigitBits;

template <class T>
__device__ T noisy_score(const NoisyScores<T>& scores, int64_t row, int64_t k, int64_t i, T origin) {
  const T score = scores_of(scores, row, k)[i];
  if (!scores.noise) return score;
  return (score - origin) + gumbel_at<T>(noise_row(scores.seeds, row), kStreamAssignment, static_cast<uint32_t>(k),
                                         static_cast<uint64_t>(i));
}

template <class T>
__device__ bool sizes_are_finite(const T* sizes, int64_t classes) {
  double check = 0;
  for (int64_t k = threadIdx.x; k < classes; k += blockDim.x) check += static_cast<double>(sizes[k] - sizes[k]);
  return block_sum(check) == 0;
}

// The key at `position` of the sorted keys of the elements that remain (label = classes); *ties gets how many positions
// up to this one hold it. Most significant digit first.
template <class T>
__device__ uint64_t key_at(const T* own, const int64_t* labels, int64_t n, int64_t classes, int64_t position,
                           int64_t* ties) {
  __shared__ int block_shared_count[kBuckets];
  __shared__ int64_t block_shared_digit[2];
  uint64_t prefix = 0;
  for (int shift = 8 * sizeof(T) - kDigitBits; shift >= 0; shift -= kDigitBits) {
    for (int b = threadIdx.x; b < kBuckets; b += blockDim.x) block_shared_count[b] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      if (labels[i] != classes) continue;
      const uint64_t key = decreasing_key(own[i]);
      if (key >> shift >> kDigitBits == prefix) atomicAdd(&block_shared_count[(key >> shift) & (kBuckets - 1)], 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = 0;
      for (; position >= block_shared_count[digit]; ++digit) position -= block_shared_count[digit];
      block_shared_digit[0] = digit;
      block_shared_digit[1] = position;
    }
    __syncthreads();
    prefix = prefix << kDigitBits | static_cast<uint64_t>(block_shared_digit[0]);
    position = block_shared_digit[1];
    __syncthreads();
  }
  *ties = position + 1;
  return prefix;
}

// A block a row: the n_k best of the remaining elements go to subset k, by a selection.                        (Eq. 1)
template <class T>
__global__ void __launch_bounds__(kMaxThreads, 1) labels_kernel(RandomAssignmentCudaArgs<T> args) {
  const int64_t n = args.scores.n, classes = args.scores.classes;
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    int64_t* labels = args.labels + row * n;
    T* own = args.own + row * n;
    const T* sizes = args.sizes + row * classes;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) labels[i] = classes;
    int64_t left = n;
    bool finite = sizes_are_finite(sizes, classes);
    for (int64_t k = 0; k < classes; ++k) {
      const double largest = finite_largest(Block(), scores_of(args.scores, row, k), n);
      finite = finite && (k + 1 == classes || largest == largest);
      const int64_t taken = k + 1 == classes ? left : whole_size(sizes[k], left);
      if (taken == 0) continue;
      for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        if (labels[i] == classes) own[i] = noisy_score(args.scores, row, k, i, noise_origin<T>(largest));
      __syncthreads();
      int64_t ties = n;
      const uint64_t last = taken == left ? ~uint64_t{0} : key_at(own, labels, n, classes, taken - 1, &ties);
      int64_t before = 0;  // elements of the last key in earlier turns
      for (int64_t start = 0; start < n; start += blockDim.x) {
        const int64_t i = start + threadIdx.x;
        const bool remains = i < n && labels[i] == classes;
        const uint64_t key = remains ? decreasing_key(own[i]) : 0;
        const bool tied = remains && key == last;
        int64_t total;
        const int64_t rank = before + block_scan<int64_t>(tied ? 1 : 0, 0, Add(), &total);
        if (remains && (key < last || (tied && rank <= ties))) labels[i] = k;
        before += total;
      }
      left -= taken;
      __syncthreads();
    }
    T* planes = args.assignment + row * classes * n;
    for (int64_t at = threadIdx.x; at < classes * n; at += blockDim.x)
      planes[at] = !finite ? static_cast<T>(__builtin_nan("")) : labels[at % n] == at / n ? T(1) : T(0);
    __syncthreads();
  }
}

// value[at] = table[index[at]], by rows.
__global__ void __launch_bounds__(kMaxThreads)
    gather_kernel(const int64_t* table, const int64_t* index, int64_t rows, int64_t n, int64_t* value) {
  for_elements(rows * n, [&](int64_t at) { value[at] = table[at / n * n + index[at]]; });
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) begin_kernel(RandomAssignmentStepCudaArgs<T> args) {
  const int64_t n = args.scores.n, classes = args.scores.classes;
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    bool finite = sizes_are_finite(args.sizes + row * classes, classes);
    for (int64_t k = 0; k + 1 < classes; ++k) {
      const double largest = finite_largest(Block(), scores_of(args.scores, row, k), n);
      finite = finite && largest == largest;
    }
    const T fill = finite ? T(0) : static_cast<T>(__builtin_nan(""));
    if (threadIdx.x == 0) args.invalid[row] = fill;
    for (int64_t k = threadIdx.x; k < classes; k += blockDim.x) args.grad_sizes[row * classes + k] = fill;
    const int64_t last = (row * classes + classes - 1) * n;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      args.grad_scores[last + i] = fill;
      args.grad_rest[row * n + i] = static_cast<double>(args.grad[last + i]);
    }
  }
}

// A block a row: the partition of the step, in which elements that are gone lie far below all others.
template <class T>
__global__ void __launch_bounds__(kMaxThreads) prepare_kernel(RandomAssignmentStepCudaArgs<T> args) {
  const int64_t n = args.scores.n, k = args.step;
  const double infinity = __builtin_huge_val();
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const int64_t* labels = args.labels + row * n;
    const bool valid = args.invalid[row] == 0;
    T* ranked = args.ranked + row * n;
    const T origin = noise_origin<T>(finite_largest(Block(), scores_of(args.scores, row, k), n));
    double lowest = infinity, least = infinity, taken = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      const T score = valid ? noisy_score(args.scores, row, k, i, origin) : T(0);
      ranked[i] = score;
      if (labels[i] < k) continue;
      lowest = static_cast<double>(score) < lowest ? static_cast<double>(score) : lowest;
      if (labels[i] != k) continue;
      least = static_cast<double>(score) < least ? static_cast<double>(score) : least;
      taken += 1;
    }
    lowest = -block_reduce(-lowest, -infinity, Maximum());
    least = -block_reduce(-least, -infinity, Maximum());
    taken = block_sum(taken);
    if (lowest == infinity) lowest = 0;
    const double step = gone_spacing<T>(lowest, args.tau, n);
    const T* grad = args.grad + (row * args.scores.classes + k) * n;
    T* planes = args.grad_planes + 2 * row * n;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      const bool remains = labels[i] >= k;
      if (!remains) ranked[i] = static_cast<T>(lowest - step * static_cast<double>(i + 1));
      planes[i] = static_cast<T>(remains ? static_cast<double>(grad[i]) - args.grad_rest[row * n + i] : 0);
      planes[n + i] = 0;
    }
    if (threadIdx.x == 0) {
      args.origin[row] = origin;
      args.least[row] = least;
      args.plane_sizes[2 * row] = static_cast<T>(taken);
      args.plane_sizes[2 * row + 1] = static_cast<T>(static_cast<double>(n) - taken);
    }
  }
}

// The step's gradients in place, and that of rho_k: u (G_k - d/dn_k) + (1 - u) that of rho_{k+1}.              (Eq. 9)
template <class T>
__global__ void __launch_bounds__(kMaxThreads) settle_kernel(RandomAssignmentStepCudaArgs<T> args) {
  const int64_t n = args.scores.n, classes = args.scores.classes, k = args.step;
  for_elements(args.rows * n, [&](int64_t at) {
    const int64_t row = at / n, i = at % n, label = args.labels[at];
    const T invalid = args.invalid[row], by_size = args.grad_plane_sizes[2 * row];
    const int64_t plane = (row * classes + k) * n + i;
    args.grad_scores[plane] = invalid + (label >= k ? args.grad_ranked[at] : T(0));
    if (i == 0) args.grad_sizes[row * classes + k] = invalid + by_size;
    const bool chosen =
        label >= k ? label == k
                   : static_cast<double>(noisy_score(args.scores, row, k, i, args.origin[row])) > args.least[row];
    if (chosen) args.grad_rest[at] = static_cast<double>(args.grad[plane]) - static_cast<double>(by_size);
  });
}

}  // namespace
}  // namespace DRPM_ISA

#define DRPM_DEFINE_ASSIGNMENT(T)                                                                 \
  int random_assignment_labels_cuda(const RandomAssignmentCudaArgs<T>& args, void* stream) {      \
    using namespace DRPM_ISA;                                                                     \
    return launch(&labels_kernel<T>, args.rows, threads_for(args.scores.n), 0, stream, args);     \
  }                                                                                               \
  int random_assignment_begin_cuda(const RandomAssignmentStepCudaArgs<T>& args, void* stream) {   \
    using namespace DRPM_ISA;                                                                     \
    return launch(&begin_kernel<T>, args.rows, threads_for(args.scores.n), 0, stream, args);      \
  }                                                                                               \
  int random_assignment_prepare_cuda(const RandomAssignmentStepCudaArgs<T>& args, void* stream) { \
    using namespace DRPM_ISA;                                                                     \
    return launch(&prepare_kernel<T>, args.rows, threads_for(args.scores.n), 0, stream, args);    \
  }                                                                                               \
  int random_assignment_settle_cuda(const RandomAssignmentStepCudaArgs<T>& args, void* stream) {  \
    using namespace DRPM_ISA;                                                                     \
    return launch_elements(&settle_kernel<T>, args.rows * args.scores.n, stream, args);           \
  }
DRPM_DEFINE_ASSIGNMENT(float)
DRPM_DEFINE_ASSIGNMENT(double)

int gather_rows_cuda(const int64_t* table, const int64_t* index, int64_t rows, int64_t n, int64_t* value,
                     void* stream) {
  return DRPM_ISA::launch_elements(&DRPM_ISA::gather_kernel, rows * n, stream, table, index, rows, n, value);
}

}  // namespace drpm
