#include "band/band_cuda.h"
#include "band/band_math.h"
#include "device/cuda_launch.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class T>
using Plain = T;  // kernels of the element type alone, beside those of a form of the terms

constexpr int kBandThreads = 128;  // four warps a block, each with its own row or column; launch bounds: no spills

// Dropped mass of a row: at most e^-T, as (T + log n) tau is the drop that is kept. Short rows keep all.  (Eq. 6, 7)
template <class T>
__device__ double band_limit(const CudaBand& band) {
  if (band.n <= kNarrowColumns) return __builtin_huge_val();
  return (BandConstants<T>::kDrop + log_lane<double>(static_cast<double>(band.n))) * band.tau;
}

template <class T>
__device__ T band_weight(double drop, double inverse_tau) {
  return exp_lane<T>(static_cast<T>(-drop * inverse_tau));
}

// The same for the backward, whose sums are in double, as their terms cancel. In a short row that is flat nothing but
// rounding would be left of them with float's exponential.
template <class T>
__device__ double gradient_weight(const CudaBand& band, double drop, double inverse_tau) {
  if (band.n <= kFlatRow) return exp_lane<double>(-drop * inverse_tau);
  return static_cast<double>(band_weight<T>(drop, inverse_tau));
}

__device__ inline double wide(double x) { return x; }
__device__ inline double wide(float x) { return static_cast<double>(x); }

// Which way walk_band() goes; its steps (band_math.h) are summed by the whole warp, so there are no group sums here.
struct AlongRow {
  __device__ double operator()(const double* s, int64_t, int64_t q, int64_t p, int64_t t) const {
    return row_step(t, abs_lane<double>(s[q] - s[p]));
  }
};
struct AlongColumn {
  __device__ double operator()(const double* s, int64_t centre, int64_t q, int64_t p, int64_t) const {
    return column_step(s, centre, q, p);
  }
};

// Calls visit(position, drop) for every position of the band around `centre`, each in one lane of the warp. The nearest
// kWarpSize on either side always count: they cost nothing, and where rows are almost one-hot the gradient consists of
// nothing but tails.
template <class Step, class Visit>
__device__ void walk_band(const double* s, int64_t n, int64_t centre, double limit, Step step, Visit visit) {
  const int lane = threadIdx.x % kWarpSize;
  if (lane == 0) visit(centre, 0.0);
  for (int side = -1; side <= 1; side += 2) {
    const int64_t reach = side > 0 ? n - 1 - centre : centre;
    double carry = 0;
    for (int64_t before = 0; before < reach && carry <= limit; before += kWarpSize) {
      const int64_t t = before + 1 + lane;
      const int64_t p = centre + side * (t <= reach ? t : reach);
      const double own = t <= reach ? step(s, centre, p - side, p, t) : 0;
      const double drop = carry + warp_scan(own, Add());
      if (t <= reach && (drop <= limit || before == 0)) visit(p, drop);
      carry = __shfl_sync(kFullWarp, drop, kWarpSize - 1);
    }
  }
}

// f(batch row, position) for every position of every row, one warp each.
template <class F>
__device__ void for_positions(const CudaBand& band, F f) {
  for_warp_items(band.rows * band.n, [&](int64_t item, int64_t) { f(item / band.n, item % band.n); });
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads)
    gather_scores_kernel(const T* scores, const int64_t* order, int64_t rows, int64_t n, double* s) {
  for_elements(rows * n, [&](int64_t i) { s[i] = static_cast<double>(scores[i / n * n + order[i]]); });
}

template <class T, bool kGather>
__global__ void __launch_bounds__(kMaxThreads) move_planes_kernel(CudaPlaneMove<T> args) {
  for_elements(args.rows * args.planes * args.n, [&](int64_t at) {
    const int64_t j = at % args.n, plane = at / args.n;
    const int64_t q = plane % args.planes, row = plane / args.planes;
    const int64_t index = args.order == nullptr ? j : args.order[row * args.n + j];
    const int64_t element = row * args.n * args.planes + index * args.item_stride + q * args.plane_stride;
    const T value = args.from[kGather ? element : at];
    const bool keep =
        args.scores == nullptr || scores_are_finite(args.scores + row * args.n, args.order + row * args.n, args.n);
    args.to[kGather ? at : element] = keep ? value : static_cast<T>(__builtin_nan(""));
  });
}

// x, or NaN where the scores of the row are not finite.
template <class T>
__device__ T of_finite_row(const double* s, int64_t n, T x) {
  return is_finite(s[0]) && is_finite(s[n - 1]) ? x : static_cast<T>(__builtin_nan(""));
}

template <class T>
__device__ T row_sum(const double* s, int64_t n, int64_t i, double limit, double inverse_tau) {
  T sum = 0;
  walk_band(s, n, i, limit, AlongRow(), [&](int64_t, double drop) { sum += band_weight<T>(drop, inverse_tau); });
  return warp_reduce(sum, Add());
}

template <class T>
__global__ void __launch_bounds__(kBandThreads, 4) row_sums_kernel(CudaBandArgs<T> args) {
  const CudaBand band = args.band;
  const double limit = band_limit<T>(band), inverse_tau = 1 / band.tau;
  for_positions(band, [&](int64_t row, int64_t i) {
    const double* s = band.s + row * band.n;
    const T sum = row_sum<T>(s, band.n, i, limit, inverse_tau);
    if (Warp().first()) args.inverse_sum[row * band.n + i] = of_finite_row(s, band.n, static_cast<double>(1 / sum));
  });
}

// N_q[i] = sum_j P_ij R_q[j] for kPlanes planes from q on.
template <class T, int kPlanes>
__device__ void row_products(const CudaBandArgs<T>& args, int64_t row, int64_t i, int64_t q, double limit,
                             double inverse_tau, T* product) {
  const int64_t n = args.band.n;
  const T* right = args.right + (row * args.planes + q) * n;
#pragma unroll
  for (int c = 0; c < kPlanes; ++c) product[c] = 0;
  walk_band(args.band.s + row * n, n, i, limit, AlongRow(), [&](int64_t j, double drop) {
    const T weight = band_weight<T>(drop, inverse_tau);
#pragma unroll
    for (int c = 0; c < kPlanes; ++c) product[c] += weight * right[c * n + j];
  });
  const T inverse = static_cast<T>(args.inverse_sum[row * n + i]);
#pragma unroll
  for (int c = 0; c < kPlanes; ++c) product[c] = warp_reduce(product[c], Add()) * inverse;
}

// Runs f with a compile-time number of planes, at most 8 at a time, until all are done.
template <class F>
__device__ void for_plane_groups(int64_t planes, F f) {
  int64_t q = 0;
  for (; q + 8 <= planes; q += 8) f(q, std::integral_constant<int, 8>());
  if (planes - q >= 4) {
    f(q, std::integral_constant<int, 4>());
    q += 4;
  }
  if (planes - q >= 2) {
    f(q, std::integral_constant<int, 2>());
    q += 2;
  }
  if (planes - q >= 1) f(q, std::integral_constant<int, 1>());
}

template <class T>
__global__ void __launch_bounds__(kBandThreads, 4) rows_kernel(CudaBandArgs<T> args) {
  const CudaBand band = args.band;
  const double limit = band_limit<T>(band), inverse_tau = 1 / band.tau;
  for_positions(band, [&](int64_t row, int64_t i) {
    for_plane_groups(args.planes, [&](int64_t q, auto count) {
      constexpr int kPlanes = decltype(count)::value;
      T product[kPlanes];
      row_products<T, kPlanes>(args, row, i, q, limit, inverse_tau, product);
#pragma unroll
      for (int c = 0; c < kPlanes; ++c)
        if (Warp().first()) args.product[(row * args.planes + q + c) * band.n + i] = product[c];
    });
  });
}

// What P_ij multiplies in the gradient, less its value at the peak: sum_q A_q[i] (R_q[j] - R_q[i]). In a row that is
// almost one-hot all of the gradient sits in such small differences.
template <class T>
struct PlaneTerms {
  using Value = T;
  const T *left, *right;
  int64_t planes, n;
  __device__ PlaneTerms(const CudaBandArgs<T>& args, int64_t row)
      : left(args.left + row * args.planes * args.band.n),
        right(args.right + row * args.planes * args.band.n),
        planes(args.planes),
        n(args.band.n) {}
  __device__ double operator()(int64_t i, int64_t j) const {
    double value = 0;
    for (int64_t q = 0; q < planes; ++q)
      value += wide(left[q * n + i]) * (wide(right[q * n + j]) - wide(right[q * n + i]));
    return value;
  }
};

// One-hot A: R_label(i)[j] - R_label(i)[i], whatever the number of planes.
template <class T>
struct LabelTerms {
  using Value = T;
  const int64_t* label;
  const T* right;
  int64_t n;
  __device__ LabelTerms(const CudaBandArgs<T>& args, int64_t row)
      : label(args.label + row * args.band.n), right(args.right + row * args.planes * args.band.n), n(args.band.n) {}
  __device__ double operator()(int64_t i, int64_t j) const {
    const T* plane = right + label[i] * n;
    return wide(plane[j]) - wide(plane[i]);
  }
};

// P itself is the output: row i of its gradient, in the original order of columns.
template <class T>
struct DenseTerms {
  using Value = T;
  const int64_t* order;
  const T* grad;
  int64_t n;
  __device__ DenseTerms(const CudaBandArgs<T>& args, int64_t row)
      : order(args.order + row * args.band.n), grad(args.grad + row * args.band.n * args.band.n), n(args.band.n) {}
  __device__ double operator()(int64_t i, int64_t j) const {
    return wide(grad[i * n + order[j]]) - wide(grad[i * n + order[i]]);
  }
};

// c_i, the mean of the terms over row i.
template <class Terms>
__global__ void __launch_bounds__(kBandThreads, 4) center_kernel(CudaBandArgs<typename Terms::Value> args) {
  using T = typename Terms::Value;
  const CudaBand band = args.band;
  const double limit = band_limit<T>(band), inverse_tau = 1 / band.tau;
  for_positions(band, [&](int64_t row, int64_t i) {
    const Terms terms(args, row);
    double sum = 0, product = 0;
    walk_band(band.s + row * band.n, band.n, i, limit, AlongRow(), [&](int64_t j, double drop) {
      const double weight = gradient_weight<T>(band, drop, inverse_tau);
      sum += weight;
      product += weight * terms(i, j);
    });
    sum = warp_reduce(sum, Add());
    product = warp_reduce(product, Add());
    if (Warp().first()) {
      args.inverse_sum[row * band.n + i] = of_finite_row(band.s + row * band.n, band.n, 1 / sum);
      args.center[row * band.n + i] = product / sum;
    }
  });
}

template <class T>
__global__ void __launch_bounds__(kBandThreads, 4) columns_kernel(CudaBandArgs<T> args) {
  const CudaBand band = args.band;
  const double limit = band_limit<T>(band), inverse_tau = 1 / band.tau;
  for_positions(band, [&](int64_t row, int64_t j) {
    const double* inverse_sum = args.inverse_sum + row * band.n;
    for_plane_groups(args.planes, [&](int64_t q, auto count) {
      constexpr int kPlanes = decltype(count)::value;
      const int64_t plane = (row * args.planes + q) * band.n;
      const T* left = args.left + plane;
      T sum[kPlanes] = {};
      walk_band(band.s + row * band.n, band.n, j, limit, AlongColumn(), [&](int64_t i, double drop) {
        const T weight = band_weight<T>(drop, inverse_tau) * static_cast<T>(inverse_sum[i]);
#pragma unroll
        for (int c = 0; c < kPlanes; ++c) sum[c] += weight * left[c * band.n + i];
      });
#pragma unroll
      for (int c = 0; c < kPlanes; ++c) {
        const T total = warp_reduce(sum[c], Add());
        if (Warp().first()) args.sum[plane + c * band.n + j] = total;
      }
    });
  });
}

// First position whose sorted score is <= x (`strict`: < x).
__device__ inline int64_t first_below(const double* s, int64_t n, double x, bool strict) {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (strict ? s[middle] < x : s[middle] <= x)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// The position of a score; equal scores share the mean of theirs.
__device__ inline double rank_of(const double* s, int64_t n, int64_t j) {
  return 0.5 * static_cast<double>(first_below(s, n, s[j], false) + first_below(s, n, s[j], true) - 1);
}

// C_j and M_j of column j, in double: their terms cancel.                                                       (Eq. 9)
template <class Terms>
__global__ void __launch_bounds__(kBandThreads, 4) moments_kernel(CudaBandArgs<typename Terms::Value> args) {
  using T = typename Terms::Value;
  const CudaBand band = args.band;
  const double limit = band_limit<T>(band), inverse_tau = 1 / band.tau;
  for_positions(band, [&](int64_t row, int64_t j) {
    const double* inverse_sum = args.inverse_sum + row * band.n;
    const double* center = args.center + row * band.n;
    const Terms terms(args, row);
    const double rank = rank_of(band.s + row * band.n, band.n, j);
    double c = 0, m = 0;
    walk_band(band.s + row * band.n, band.n, j, limit, AlongColumn(), [&](int64_t i, double drop) {
      const double term = gradient_weight<T>(band, drop, inverse_tau) * inverse_sum[i] * (terms(i, j) - center[i]);
      c += term;
      m += term * (rank - static_cast<double>(i));
    });
    c = warp_reduce(c, Add());
    m = warp_reduce(m, Add());
    if (Warp().first()) {
      args.moments[2 * row * band.n + j] = c;
      args.moments[(2 * row + 1) * band.n + j] = m;
    }
  });
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads) hard_kernel(CudaBandArgs<T> args) {
  const int64_t n = args.band.n;
  for (int64_t line = blockIdx.x; line < args.band.rows * n; line += gridDim.x) {
    const int64_t row = line / n, element = args.order[line];
    const bool finite = scores_are_finite(args.scores + row * n, args.order + row * n, n);
    const T one = static_cast<T>(finite ? 1 : __builtin_nan("")), zero = static_cast<T>(finite ? 0 : __builtin_nan(""));
    T* out = args.permutation + line * n;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) out[j] = j == element ? one : zero;
  }
}

template <class T>
__global__ void __launch_bounds__(kBandThreads, 4) dense_kernel(CudaBandArgs<T> args) {
  const CudaBand band = args.band;
  const double limit = band_limit<T>(band), inverse_tau = 1 / band.tau;
  for_positions(band, [&](int64_t row, int64_t i) {
    const double* s = band.s + row * band.n;
    const int64_t* order = args.order + row * band.n;
    T* out = args.permutation + (row * band.n + i) * band.n;
    const T inverse = of_finite_row(s, band.n, 1 / row_sum<T>(s, band.n, i, limit, inverse_tau));
    const T outside = inverse == inverse ? 0 : inverse;
    for (int64_t j = Warp().rank(); j < band.n; j += kWarpSize) out[j] = outside;
    __syncwarp();  // other lanes write the band
    walk_band(s, band.n, i, limit, AlongRow(),
              [&](int64_t j, double drop) { out[order[j]] = band_weight<T>(drop, inverse_tau) * inverse; });
  });
}

// grad_s_j = 2 M_j + PC_{a-1} + PC_b over tau, PC the prefix sums of C, a ... b the positions of j's score.   (Eq. 9)
template <class T>
__global__ void __launch_bounds__(kMaxThreads) scores_gradient_kernel(CudaBandArgs<T> args) {
  const int64_t n = args.band.n;
  const double scale = 1 / args.band.tau;
  for (int64_t row = blockIdx.x; row < args.band.rows; row += gridDim.x) {
    double* prefix = args.moments + 2 * row * n;
    const double* moment = prefix + n;
    const double* s = args.band.s + row * n;
    double before = 0;
    for (int64_t start = 0; start < n; start += blockDim.x) {
      const int64_t j = start + threadIdx.x;
      double total;
      const double inside = block_scan(j < n ? prefix[j] : 0.0, 0.0, Add(), &total);
      if (j < n) prefix[j] = before + inside;
      before += total;
    }
    __syncthreads();  // prefix sums are read by other threads
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
      const int64_t a = first_below(s, n, s[j], false), b = first_below(s, n, s[j], true) - 1;
      const double around = (a > 0 ? prefix[a - 1] : 0) + prefix[b];
      args.grad_scores[row * n + args.order[row * n + j]] = static_cast<T>(scale * (2 * moment[j] + around));
    }
  }
}

template <class T>
int launch_gather_scores(const T* scores, const int64_t* order, int64_t rows, int64_t n, double* s, void* stream) {
  return launch_elements(&gather_scores_kernel<T>, rows * n, stream, scores, order, rows, n, s);
}

template <class T>
int launch_positions(void (*kernel)(CudaBandArgs<T>), const CudaBandArgs<T>& args, void* stream) {
  return launch_warps(kernel, args.band.rows * args.band.n, kBandThreads, 0, stream, args);
}

template <class T>
int launch_lines(void (*kernel)(CudaBandArgs<T>), const CudaBandArgs<T>& args, void* stream) {
  return launch(kernel, args.band.rows * args.band.n, threads_for(args.band.n), 0, stream, args);
}

template <class T>
int launch_rows(void (*kernel)(CudaBandArgs<T>), const CudaBandArgs<T>& args, void* stream) {
  return launch(kernel, args.band.n == 0 ? 0 : args.band.rows, threads_for(args.band.n), 0, stream, args);
}

template <bool kGather, class T>
int launch_move(const CudaPlaneMove<T>& args, void* stream) {
  return launch_elements(&move_planes_kernel<T, kGather>, args.rows * args.planes * args.n, stream, args);
}

}  // namespace
}  // namespace DRPM_ISA

int band_gather_scores_cuda(const float* scores, const int64_t* order, int64_t rows, int64_t n, double* s,
                            void* stream) {
  return DRPM_ISA::launch_gather_scores(scores, order, rows, n, s, stream);
}
int band_gather_scores_cuda(const double* scores, const int64_t* order, int64_t rows, int64_t n, double* s,
                            void* stream) {
  return DRPM_ISA::launch_gather_scores(scores, order, rows, n, s, stream);
}

#define DRPM_DEFINE_BAND_LAUNCHER(Name, launcher, kernel, Of)               \
  int Name(const CudaBandArgs<float>& args, void* stream) {                 \
    using DRPM_ISA::Of;                                                     \
    return DRPM_ISA::launcher(&DRPM_ISA::kernel<Of<float>>, args, stream);  \
  }                                                                         \
  int Name(const CudaBandArgs<double>& args, void* stream) {                \
    using DRPM_ISA::Of;                                                     \
    return DRPM_ISA::launcher(&DRPM_ISA::kernel<Of<double>>, args, stream); \
  }

DRPM_DEFINE_BAND_LAUNCHER(band_row_sums_cuda, launch_positions, row_sums_kernel, Plain)
DRPM_DEFINE_BAND_LAUNCHER(band_rows_cuda, launch_positions, rows_kernel, Plain)
DRPM_DEFINE_BAND_LAUNCHER(band_columns_cuda, launch_positions, columns_kernel, Plain)
DRPM_DEFINE_BAND_LAUNCHER(band_dense_cuda, launch_positions, dense_kernel, Plain)
DRPM_DEFINE_BAND_LAUNCHER(band_center_cuda, launch_positions, center_kernel, PlaneTerms)
DRPM_DEFINE_BAND_LAUNCHER(band_label_center_cuda, launch_positions, center_kernel, LabelTerms)
DRPM_DEFINE_BAND_LAUNCHER(band_dense_center_cuda, launch_positions, center_kernel, DenseTerms)
DRPM_DEFINE_BAND_LAUNCHER(band_moments_cuda, launch_positions, moments_kernel, PlaneTerms)
DRPM_DEFINE_BAND_LAUNCHER(band_label_moments_cuda, launch_positions, moments_kernel, LabelTerms)
DRPM_DEFINE_BAND_LAUNCHER(band_dense_moments_cuda, launch_positions, moments_kernel, DenseTerms)
DRPM_DEFINE_BAND_LAUNCHER(band_hard_cuda, launch_lines, hard_kernel, Plain)
DRPM_DEFINE_BAND_LAUNCHER(band_scores_gradient_cuda, launch_rows, scores_gradient_kernel, Plain)

int band_gather_planes_cuda(const CudaPlaneMove<float>& args, void* stream) {
  return DRPM_ISA::launch_move<true>(args, stream);
}
int band_gather_planes_cuda(const CudaPlaneMove<double>& args, void* stream) {
  return DRPM_ISA::launch_move<true>(args, stream);
}
int band_scatter_planes_cuda(const CudaPlaneMove<float>& args, void* stream) {
  return DRPM_ISA::launch_move<false>(args, stream);
}
int band_scatter_planes_cuda(const CudaPlaneMove<double>& args, void* stream) {
  return DRPM_ISA::launch_move<false>(args, stream);
}

}  // namespace drpm
