#include "device/cuda_launch.h"
#include "partition_log_prob/partition_log_prob.h"
#include "partition_log_prob/partition_log_prob_math.h"
#include "special/score_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr int kNodeGroup = 4;  // nodes whose sums a thread keeps in registers

// First position whose label is at least `label`.
__device__ inline int64_t label_begin(const int64_t* sorted_labels, int64_t n, int64_t label) {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (sorted_labels[middle] >= label)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

template <class T>
__host__ __device__ int64_t score_rows(const PartitionLogProbCudaArgs<T>& args) {
  return args.by_subset ? args.num_subsets : 1;
}

// Where the row of scores stands that orders subset k of a row.
template <class T>
__device__ int64_t score_row(const PartitionLogProbCudaArgs<T>& args, int64_t row, int64_t k) {
  return args.by_subset ? row * args.num_subsets + k : row;
}

template <class T>
__device__ bool row_is_valid(const PartitionLogProbCudaArgs<T>& args, int64_t row) {
  const int64_t* labels = args.sorted_labels + row * args.n;
  const double* largest = args.largest + score_row(args, row, 0);
  for (int64_t r = 0; r < score_rows(args); ++r)
    if (largest[r] != largest[r]) return false;
  return args.n == 0 || (labels[0] >= 0 && labels[args.n - 1] < args.num_subsets);
}

// The elements of one subset of one row.
template <class T>
struct Subset {
  const T* log_scores;     // of the row that orders it
  const int64_t* grouped;  // (count)
  double* point;           // (count)
  int64_t count;
  double largest;  // of log_scores

  __device__ double score(int64_t i) const { return reduced(log_scores[grouped[i]], largest); }
};

template <class T>
__device__ Subset<T> subset_of(const PartitionLogProbCudaArgs<T>& args, int64_t row, int64_t k) {
  const int64_t* labels = args.sorted_labels + row * args.n;
  const int64_t begin = label_begin(labels, args.n, k), end = label_begin(labels, args.n, k + 1);
  const int64_t at = row * args.n + begin, scores = score_row(args, row, k);
  return {args.log_scores + scores * args.n, args.grouped + at, args.point + at, end - begin, args.largest[scores]};
}

// A block a row of scores; the last of a matrix is not read.
template <class T>
__global__ void __launch_bounds__(kMaxThreads) largest_kernel(PartitionLogProbCudaArgs<T> args) {
  const int64_t matrix = score_rows(args);
  for (int64_t row = blockIdx.x; row < args.rows * matrix; row += gridDim.x) {
    const bool read = !args.by_subset || row % matrix + 1 < matrix;
    const double largest = read ? finite_largest(Block(), args.log_scores + row * args.n, args.n) : 0;
    if (threadIdx.x == 0) args.largest[row] = largest;
  }
}

// log-sum-exp of a subset's scores; by_subset of all later subsets' scores in its row: log Z_k. -inf of none.
template <class T>
__global__ void __launch_bounds__(kMaxThreads) log_sums_kernel(PartitionLogProbCudaArgs<T> args) {
  for (int64_t item = blockIdx.x; item < args.rows * args.num_subsets; item += gridDim.x) {
    Subset<T> subset = subset_of(args, item / args.num_subsets, item % args.num_subsets);
    if (args.by_subset) {
      subset.grouped += subset.count;
      subset.count = args.grouped + (item / args.num_subsets + 1) * args.n - subset.grouped;
    }
    double largest = -__builtin_huge_val(), sum = 0;
    for (int64_t i = threadIdx.x; i < subset.count; i += blockDim.x)
      largest = max_lane<double>(subset.score(i), largest);
    largest = block_reduce(largest, -__builtin_huge_val(), Maximum());
    for (int64_t i = threadIdx.x; i < subset.count; i += blockDim.x) sum += exp_lane<double>(subset.score(i) - largest);
    sum = block_sum(sum);
    if (threadIdx.x == 0) args.log_sum[item] = subset.count == 0 ? largest : largest + log_lane<double>(sum);
  }
}

// log Z_k = log-sum of all later subsets; one thread a row.                                                    (Eq. 3)
template <class T>
__global__ void __launch_bounds__(kMaxThreads) remainders_kernel(PartitionLogProbCudaArgs<T> args) {
  for_elements(args.rows, [&](int64_t row) {
    double later = -__builtin_huge_val();
    for (int64_t k = args.num_subsets - 1; k >= 0; --k) {
      double* at = args.log_sum + row * args.num_subsets + k;
      const double own = *at;
      *at = later;
      later = log_add(later, own);
    }
  });
}

// sum_i g(z_i) and its slope at y, over the block.
template <class T>
__device__ FactorSums block_sums(const Subset<T>& subset, double y) {
  const float scale = static_cast<float>(exp_lane<double>(y));
  double total = 0, slope = 0;
  for (int64_t i = threadIdx.x; i < subset.count; i += blockDim.x) {
    const float z = cut_z<float>(static_cast<float>(subset.point[i]) * scale);
    const Decay<float> d = decay<float>(z);
    const float g = decay_slope<float>(z, d);
    total += static_cast<double>(g);
    slope += static_cast<double>(g * decay_curvature<float>(z, g));
  }
  return {block_sum(total), block_sum(slope)};
}

// h(mode) - h(y), over the block.                                                                              (Eq. 7)
template <class T>
__device__ double block_drop(const Subset<T>& subset, double mode, double y) {
  const float scale_mode = static_cast<float>(exp_lane<double>(mode)), scale = static_cast<float>(exp_lane<double>(y));
  double total = 0;
  for (int64_t i = threadIdx.x; i < subset.count; i += blockDim.x) {
    const float point = static_cast<float>(subset.point[i]);
    const float at_mode = decay<float>(cut_z<float>(point * scale_mode)).complement;
    const float at_y = decay<float>(cut_z<float>(point * scale)).complement;
    total += static_cast<double>(log_lane<float>(at_y / at_mode));
  }
  return factor_drop(mode, y, 0, block_sum(total));
}

// Adds sum_i [log(1 - e^{-z_ij}) - log(1 - e^{-z_im})] to the h of a group of nodes.                            (Eq. 9)
template <class T>
__device__ void add_ratios(const Subset<T>& subset, T scale_mode, FactorNodes* nodes, int first, int count) {
  T scale[kNodeGroup], product[kNodeGroup];
  double total[kNodeGroup];
#pragma unroll
  for (int j = 0; j < kNodeGroup; ++j) {
    scale[j] = static_cast<T>(nodes->scale[first + (j < count ? j : 0)]);
    product[j] = 1;
    total[j] = 0;
  }
  int terms = 0;
  for (int64_t i = threadIdx.x; i < subset.count; i += blockDim.x) {
    const T point = static_cast<T>(subset.point[i]);
    const T at_mode = T(1) / decay<T>(cut_z<T>(point * scale_mode)).complement;
    ++terms;
#pragma unroll
    for (int j = 0; j < kNodeGroup; ++j) {
      product[j] *= decay<T>(cut_z<T>(point * scale[j])).complement * at_mode;
      if (terms == kFactorProduct) {
        total[j] += static_cast<double>(log_lane<T>(product[j]));
        product[j] = 1;
      }
    }
    if (terms == kFactorProduct) terms = 0;
  }
#pragma unroll
  for (int j = 0; j < kNodeGroup; ++j) {
    const double sum = block_sum(total[j] + static_cast<double>(log_lane<T>(product[j])));
    if (threadIdx.x == 0 && j < count) nodes->h[first + j] += sum;
  }
}

// log I_k by Gauss-Legendre quadrature on the panel around the mode; `nodes` is shared by the block and keeps the
// normalised weights.                                                                                   (Eq. 6 to 10)
template <class T>
__device__ double integrate(const PartitionLogProbCudaArgs<T>& args, const Subset<T>& subset, double log_remainder,
                            FactorNodes* nodes) {
  for (int64_t i = threadIdx.x; i < subset.count; i += blockDim.x) {
    subset.point[i] = static_cast<double>(static_cast<T>(factor_scale<double>(subset.score(i) - log_remainder)));
  }
  const FactorMode mode =
      factor_mode(static_cast<double>(subset.count), [&](double y) { return block_sums(subset, y); });
  const auto drop_at = [&](double y) { return block_drop(subset, mode.y, y); };
  const double right = factor_edge(mode, args.drop, 1, drop_at);
  const double left = factor_edge(mode, args.drop, -1, drop_at);

  const T scale_mode = static_cast<T>(exp_lane<double>(mode.y));
  const double y_mode = log_lane<double>(static_cast<double>(scale_mode));
  const double centre = mode.y + 0.5 * (right - left), half = 0.5 * (right + left);
  for (int j = threadIdx.x; j < args.nodes; j += blockDim.x)
    factor_set_nodes<double, T>(centre, half, static_cast<double>(scale_mode), 0, args.node, args.node_weight, j, j + 1,
                                nodes);
  __syncthreads();
  for (int j = 0; j < args.nodes; j += kNodeGroup)
    add_ratios(subset, scale_mode, nodes, j, args.nodes - j < kNodeGroup ? args.nodes - j : kNodeGroup);
  double at_mode = 0;
  for (int64_t i = threadIdx.x; i < subset.count; i += blockDim.x) {
    at_mode += factor_log_complement<double>(subset.score(i) - log_remainder + y_mode);
  }
  at_mode = block_sum(at_mode);
  __shared__ double block_shared_value;
  if (threadIdx.x == 0) block_shared_value = factor_normalise<double>(nodes, args.nodes);
  __syncthreads();
  return y_mode - static_cast<double>(scale_mode) + at_mode + block_shared_value;
}

// d log I / d a_i = sum_j w_j g(z_ij), over the points; returns the sum over the block.                        (Eq. 11)
template <class T>
__device__ double derivatives(const Subset<T>& subset, const FactorNodes* nodes, int count) {
  double gamma = 0;
  for (int64_t i = threadIdx.x; i < subset.count; i += blockDim.x) {
    const T point = static_cast<T>(subset.point[i]);
    T sum = 0;
    for (int j = 0; j < count; ++j) {
      const T z = cut_z<T>(point * static_cast<T>(nodes->scale[j]));
      const Decay<T> d = decay<T>(z);
      sum += decay_slope<T>(z, d) * static_cast<T>(nodes->h[j]);
    }
    subset.point[i] = static_cast<double>(sum);
    gamma += static_cast<double>(sum);
  }
  return block_sum(gamma);
}

// One block a factor: its value, the derivative at its elements, and their sum.
template <class T>
__global__ void __launch_bounds__(kMaxThreads, 1) factors_kernel(PartitionLogProbCudaArgs<T> args) {
  __shared__ FactorNodes block_shared_nodes;
  for (int64_t item = blockIdx.x; item < args.rows * args.num_subsets; item += gridDim.x) {
    __syncthreads();  // the previous factor's nodes may still be read
    const int64_t row = item / args.num_subsets;
    const Subset<T> subset = subset_of(args, row, item % args.num_subsets);
    const double log_remainder = args.log_sum[item];
    double value = 0, gamma = 0;
    if (subset.count == 0 || log_remainder == -__builtin_huge_val() || !row_is_valid(args, row)) {
      for (int64_t i = threadIdx.x; i < subset.count; i += blockDim.x) subset.point[i] = 0;
    } else if (subset.count == 1) {
      value = factor_single(subset.score(0) - log_remainder, &gamma);
      if (threadIdx.x == 0) subset.point[0] = gamma;
    } else {
      value = integrate(args, subset, log_remainder, &block_shared_nodes);
      if (args.grad_log_scores != nullptr) gamma = derivatives(subset, &block_shared_nodes, args.nodes);
    }
    if (threadIdx.x == 0) {
      args.value[item] = value;
      args.gamma[item] = gamma;
    }
  }
}

// log p, and log sum_{j<k} Gamma_j / Z_j; one thread a row.
template <class T>
__global__ void __launch_bounds__(kMaxThreads) totals_kernel(PartitionLogProbCudaArgs<T> args) {
  for_elements(args.rows, [&](int64_t row) {
    const bool valid = row_is_valid(args, row);
    double total = 0, earlier = -__builtin_huge_val();
    for (int64_t k = 0; k < args.num_subsets; ++k) {
      const int64_t at = row * args.num_subsets + k;
      const double gamma = args.gamma[at];
      total += args.value[at];
      args.gamma[at] = !valid ? __builtin_nan("") : args.by_subset ? gamma : earlier;
      earlier = add_taken(earlier, gamma, args.log_sum[at]);
    }
    args.log_prob[row] = static_cast<T>(valid ? total : __builtin_nan(""));
  });
}

// G_i in the subset, -e^{L_ki} Gamma_k / Z_k after it, 0 before; by rows, in the order of the sorted labels.
template <class T>
__global__ void __launch_bounds__(kMaxThreads) row_gradient_kernel(PartitionLogProbCudaArgs<T> args) {
  for_elements(args.rows * args.num_subsets * args.n, [&](int64_t at) {
    const int64_t item = at / args.n, k = item % args.num_subsets;
    const int64_t sorted = item / args.num_subsets * args.n + at % args.n,
                  element = item * args.n + args.grouped[sorted];
    const int64_t label = args.sorted_labels[sorted];
    const double gamma = args.gamma[item];
    double grad = 0;
    if (label == k) {
      grad = args.point[sorted];
    } else if (label > k && gamma > 0) {
      grad = -gamma * exp_lane<double>(reduced(args.log_scores[element], args.largest[item]) - args.log_sum[item]);
    }
    args.grad_log_scores[element] = static_cast<T>(gamma == gamma ? grad : gamma);
  });
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) gradient_kernel(PartitionLogProbCudaArgs<T> args) {
  for_elements(args.rows * args.n, [&](int64_t at) {
    const int64_t row = at / args.n, element = row * args.n + args.grouped[at];
    double grad = __builtin_nan("");
    if (row_is_valid(args, row)) {
      const double earlier = args.gamma[row * args.num_subsets + args.sorted_labels[at]];
      grad = score_gradient(args.point[at], reduced(args.log_scores[element], args.largest[row]), earlier);
    }
    args.grad_log_scores[element] = static_cast<T>(grad);
  });
}

template <class T>
int run(const PartitionLogProbCudaArgs<T>& args, void* stream) {
  const int64_t factors = args.rows * args.num_subsets;
  const int threads = threads_for(args.num_subsets == 0 ? 1 : 2 * args.n / args.num_subsets);
  int error = launch(&largest_kernel<T>, args.rows * score_rows(args), threads_for(args.n), 0, stream, args);
  if (error == 0) error = launch(&log_sums_kernel<T>, factors, threads, 0, stream, args);
  if (error == 0 && !args.by_subset) error = launch_elements(&remainders_kernel<T>, args.rows, stream, args);
  if (error == 0) error = launch(&factors_kernel<T>, factors, threads, 0, stream, args);
  if (error == 0) error = launch_elements(&totals_kernel<T>, args.rows, stream, args);
  if (error != 0 || args.grad_log_scores == nullptr) return error;
  if (args.by_subset) return launch_elements(&row_gradient_kernel<T>, factors * args.n, stream, args);
  return launch_elements(&gradient_kernel<T>, args.rows * args.n, stream, args);
}

}  // namespace
}  // namespace DRPM_ISA

int partition_log_prob_cuda(const PartitionLogProbCudaArgs<float>& args, void* stream) {
  return DRPM_ISA::run(args, stream);
}

int partition_log_prob_cuda(const PartitionLogProbCudaArgs<double>& args, void* stream) {
  return DRPM_ISA::run(args, stream);
}

}  // namespace drpm
