// Numerics of the sized assignment's passes (docs/math/sized_assignment.md): blocks of elements, packs along the
// elements.
#pragma once

#include "lanes/lane_math.h"
#include "sized_assignment/sized_assignment.h"

namespace drpm {
namespace DRPM_ISA {

constexpr int kPack = Lane<VecD>::kWidth;
typedef float VecHalfF __attribute__((vector_size(kVectorBytes / 2)));

inline VecD load_doubles(const double* p) { return load<VecD>(p); }

inline VecD load_doubles(const float* p) {
  VecHalfF x;
  memcpy(&x, p, sizeof x);
  return __builtin_convertvector(x, VecD);
}

inline void store_doubles(double* p, VecD x) { store<VecD>(p, x); }

inline void store_doubles(float* p, VecD x) {
  const VecHalfF y = __builtin_convertvector(x, VecHalfF);
  memcpy(p, &y, sizeof y);
}

// The pack at p, of which `left` values exist; 0 beyond.
template <class T>
inline VecD load_some(const T* p, int64_t left) {
  if (left >= kPack) return load_doubles(p);
  double x[kPack] = {};
  for (int64_t i = 0; i < left; ++i) x[i] = p[i];
  return load<VecD>(x);
}

template <class T>
inline void store_some(T* p, VecD x, int64_t left) {
  if (left >= kPack) return store_doubles(p, x);
  double y[kPack];
  store<VecD>(y, x);
  for (int64_t i = 0; i < left; ++i) p[i] = static_cast<T>(y[i]);
}

// A block of elements in scratch.
struct SizedBlock {
  double *y, *weight, *lse, *other;  // (padded, stride), (stride) each; y and weight are 0 beyond the elements
  int64_t stride, count, packs;
};

template <class T>
SizedBlock sized_block_at(const SizedElements<T>& e, int64_t begin, int64_t end) {
  SizedBlock b;
  b.stride = sized_block(e.classes);
  b.count = end - begin < b.stride ? end - begin : b.stride;
  b.packs = (b.count + kPack - 1) / kPack;
  b.y = e.scratch;
  b.weight = b.y + sized_padded(e.classes) * b.stride;
  b.lse = b.weight + b.stride;
  b.other = b.lse + b.stride;
  for (int64_t p = 0; p < b.packs; ++p) {
    double one[kPack];
    for (int64_t i = 0; i < kPack; ++i) one[i] = p * kPack + i < b.count ? 1 : 0;
    const VecD w =
        e.weights == nullptr ? load<VecD>(one) : load_some(e.weights + begin + p * kPack, b.count - p * kPack);
    store<VecD>(b.weight + p * kPack, w);
  }
  return b;
}

// y_ik = softmax_k((u_ik - w_i p_k) / tau) of a block, and the logarithms of its sums                     (Eq. 4)
template <class T>
void sized_responsibilities(const SizedElements<T>& e, int64_t begin, const SizedBlock& b) {
  const VecD lowest = splat<VecD>(-__builtin_huge_val());
  const double inverse_tau = 1 / e.tau;
  double *best = b.lse, *total = b.other;
  for (int64_t p = 0; p < b.packs; ++p) store<VecD>(best + p * kPack, lowest);
  for (int64_t k = 0; k < e.classes; ++k) {
    const T* u = e.scores + e.subsets[k] * e.width + begin;
    double* z = b.y + k * b.stride;
    for (int64_t p = 0; p < b.packs; ++p) {
      const VecD w = load<VecD>(b.weight + p * kPack);
      const VecD score = load_some(u + p * kPack, b.count - p * kPack) - e.origin;
      const VecD x = (score - w * e.prices[k]) * inverse_tau;
      store<VecD>(z + p * kPack, x);
      store<VecD>(best + p * kPack, max_lane<VecD>(load<VecD>(best + p * kPack), x));
    }
  }
  for (int64_t p = 0; p < b.packs; ++p) store<VecD>(total + p * kPack, splat<VecD>(0));
  for (int64_t k = 0; k < e.classes; ++k) {
    double* z = b.y + k * b.stride;
    for (int64_t p = 0; p < b.packs; ++p) {
      const VecD x = exp_lane<VecD>(load<VecD>(z + p * kPack) - load<VecD>(best + p * kPack));
      store<VecD>(z + p * kPack, x);
      store<VecD>(total + p * kPack, load<VecD>(total + p * kPack) + x);
    }
  }
  for (int64_t p = 0; p < b.packs; ++p) {
    const VecD sum = load<VecD>(total + p * kPack), counts = load<VecD>(b.weight + p * kPack);
    const VecD lse = load<VecD>(best + p * kPack) + log_lane<VecD>(sum);
    store<VecD>(b.lse + p * kPack, counts > splat<VecD>(0) ? lse : splat<VecD>(0));
    store<VecD>(total + p * kPack, counts > splat<VecD>(0) ? 1 / sum : splat<VecD>(0));
  }
  for (int64_t k = 0; k < e.classes; ++k) {
    double* y = b.y + k * b.stride;
    for (int64_t p = 0; p < b.packs; ++p)
      store<VecD>(y + p * kPack, load<VecD>(y + p * kPack) * load<VecD>(total + p * kPack));
  }
}

// Turns y into w y, and adds its sums.
inline void sized_add_sizes(const SizedBlock& b, int64_t classes, double* sizes) {
  for (int64_t k = 0; k < classes; ++k) {
    double* y = b.y + k * b.stride;
    VecD sum = splat<VecD>(0);
    for (int64_t p = 0; p < b.packs; ++p) {
      const VecD x = load<VecD>(y + p * kPack) * load<VecD>(b.weight + p * kPack);
      store<VecD>(y + p * kPack, x);
      sum = sum + x;
    }
    sizes[k] += sum_lanes<VecD>(sum);
  }
}

// out[r][c] += sum over the block of a_r b_c
inline void sized_tile(const double* a, const double* b, const SizedBlock& block, double* out, int64_t padded) {
  VecD sum[4][4] = {};
  for (int64_t p = 0; p < block.packs; ++p) {
    VecD x[4], y[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      x[r] = load<VecD>(a + r * block.stride + p * kPack);
      y[r] = load<VecD>(b + r * block.stride + p * kPack);
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) sum[r][c] = fmadd<VecD>(x[r], y[c], sum[r][c]);
    }
  }
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c) out[r * padded + c] += sum_lanes<VecD>(sum[r][c]);
}

// Couplings sum_i (w_i y_ik) (w_i y_il) of a block that holds w y: tiles on and below the diagonal.
inline void sized_add_couplings(const SizedBlock& b, int64_t classes, double* couplings) {
  const int64_t padded = sized_padded(classes);
  for (int64_t k = classes; k < padded; ++k)
    for (int64_t i = 0; i < b.packs * kPack; ++i) b.y[k * b.stride + i] = 0;
  for (int64_t k = 0; k < padded; k += 4)
    for (int64_t l = 0; l <= k; l += 4)
      sized_tile(b.y + k * b.stride, b.y + l * b.stride, b, couplings + k * padded + l, padded);
}

}  // namespace DRPM_ISA
}  // namespace drpm
