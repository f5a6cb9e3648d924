#include "sized_assignment/sized_assignment.h"
#include "sized_assignment/sized_assignment_math.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr double kInfinity = __builtin_huge_val();

template <class T>
int64_t chunk_end(const SizedElements<T>& e, int64_t chunk) {
  const int64_t end = (chunk + 1) * e.chunk;
  return end < e.n ? end : e.n;
}

void fill(double* x, int64_t count, double value) {
  for (int64_t i = 0; i < count; ++i) x[i] = value;
}

template <class T>
void scan_chunk(const SizedScanArgs<T>& args, int64_t chunk) {
  const SizedElements<T>& e = args.elements;
  const int64_t begin = chunk * e.chunk, end = chunk_end(e, chunk);
  T lowest = static_cast<T>(kInfinity), highest = static_cast<T>(-kInfinity);
  bool forbidden = false, invalid = false;
  for (int64_t k = 0; k < e.classes; ++k) {
    const T* u = e.scores + e.subsets[k] * e.width;
    for (int64_t i = begin; i < end; ++i) {
      const bool never = u[i] == static_cast<T>(-kInfinity);
      forbidden |= never;
      invalid |= !(u[i] < static_cast<T>(kInfinity));
      lowest = !never && u[i] < lowest ? u[i] : lowest;
      highest = u[i] > highest ? u[i] : highest;
    }
  }
  if (e.weights != nullptr)
    for (int64_t i = begin; i < end; ++i) invalid |= !(e.weights[i] > 0 && e.weights[i] < static_cast<T>(kInfinity));
  args.lowest[chunk] = lowest;
  args.highest[chunk] = highest;
  args.found[chunk] = (forbidden ? kSizedForbidden : 0) | (invalid ? kSizedInvalid : 0);
}

template <class T>
void sums_chunk(const SizedSumsArgs<T>& args, int64_t chunk) {
  const SizedElements<T>& e = args.elements;
  const int64_t end = chunk_end(e, chunk), padded = sized_padded(e.classes);
  double* sizes = args.sizes + chunk * e.classes;
  double* couplings = args.couplings == nullptr ? nullptr : args.couplings + chunk * padded * padded;
  fill(sizes, e.classes, 0);
  if (couplings != nullptr) fill(couplings, padded * padded, 0);
  double value = 0;
  for (int64_t begin = chunk * e.chunk; begin < end;) {
    const SizedBlock b = sized_block_at(e, begin, end);
    sized_responsibilities(e, begin, b);
    VecD sum = splat<VecD>(0);
    for (int64_t p = 0; p < b.packs; ++p) sum = sum + load<VecD>(b.lse + p * kPack);
    value += sum_lanes<VecD>(sum);
    sized_add_sizes(b, e.classes, sizes);
    if (couplings != nullptr) sized_add_couplings(b, e.classes, couplings);
    begin += b.count;
  }
  args.value[chunk] = e.tau * value;
}

template <class T>
void write_chunk(const SizedWriteArgs<T>& args, int64_t chunk) {
  const SizedElements<T>& e = args.elements;
  const int64_t end = chunk_end(e, chunk);
  double* sizes = args.sizes + chunk * e.classes;
  fill(sizes, e.classes, 0);
  for (int64_t begin = chunk * e.chunk; begin < end;) {
    const SizedBlock b = sized_block_at(e, begin, end);
    sized_responsibilities(e, begin, b);
    T best[256];
    for (int64_t k = 0; k < e.classes; ++k) {
      const double* y = b.y + k * b.stride;
      T* out = args.assignment + e.subsets[k] * e.width + begin;
      for (int64_t p = 0; p < b.packs; ++p) store_some(out + p * kPack, load<VecD>(y + p * kPack), b.count - p * kPack);
      for (int64_t i = 0; i < b.count; ++i) {
        if (k > 0 && !(out[i] > best[i])) continue;
        best[i] = out[i];
        args.labels[begin + i] = e.subsets[k];
      }
    }
    sized_add_sizes(b, e.classes, sizes);
    begin += b.count;
  }
}

template <class T>
void nearest_chunk(const SizedNearestArgs<T>& args, int64_t chunk) {
  const SizedElements<T>& e = args.elements;
  const int64_t end = chunk_end(e, chunk);
  double* sizes = args.sizes + chunk * e.classes;
  fill(sizes, e.classes, 0);
  for (int64_t begin = chunk * e.chunk; begin < end;) {
    const SizedBlock b = sized_block_at(e, begin, end);
    double best[256], second[256], label[256];
    fill(best, b.packs * kPack, -kInfinity);
    fill(second, b.packs * kPack, -kInfinity);
    fill(label, b.packs * kPack, 0);
    for (int64_t k = 0; k < e.classes; ++k) {
      const T* u = e.scores + e.subsets[k] * e.width + begin;
      for (int64_t p = 0; p < b.packs; ++p) {
        const VecD w = load<VecD>(b.weight + p * kPack), first = load<VecD>(best + p * kPack);
        const VecD x = (load_some(u + p * kPack, b.count - p * kPack) - e.origin) / w - e.prices[k];
        const auto better = x > first;
        store<VecD>(best + p * kPack, better ? x : first);
        store<VecD>(second + p * kPack, better ? first : max_lane<VecD>(load<VecD>(second + p * kPack), x));
        store<VecD>(label + p * kPack, better ? splat<VecD>(static_cast<double>(k)) : load<VecD>(label + p * kPack));
      }
    }
    for (int64_t i = 0; i < b.count; ++i) {
      const int32_t k = static_cast<int32_t>(label[i]);
      args.labels[begin + i] = k;
      args.gaps[begin + i] = second[i] == -kInfinity ? kInfinity : best[i] - second[i];
      sizes[k] += b.weight[i];
    }
    begin += b.count;
  }
}

// v_ik = y_ik (G_ik - sum_l y_il G_il) / tau with G less w_i mu_k, over y                                  (Eq. 7)
template <class T>
void push_gradient(const SizedBackwardArgs<T>& args, int64_t begin, const SizedBlock& b, const double* mu) {
  const SizedElements<T>& e = args.elements;
  const double inverse_tau = 1 / e.tau;
  const auto incoming = [&](int64_t k, int64_t p) {
    const T* g = args.grad + e.subsets[k] * e.width + begin;
    const VecD x = load_some(g + p * kPack, b.count - p * kPack);
    return mu == nullptr ? x : x - load<VecD>(b.weight + p * kPack) * mu[k];
  };
  double* mean = b.lse;
  fill(mean, b.packs * kPack, 0);
  for (int64_t k = 0; k < e.classes; ++k)
    for (int64_t p = 0; p < b.packs; ++p) {
      const VecD y = load<VecD>(b.y + k * b.stride + p * kPack);
      store<VecD>(mean + p * kPack, fmadd<VecD>(y, incoming(k, p), load<VecD>(mean + p * kPack)));
    }
  for (int64_t k = 0; k < e.classes; ++k)
    for (int64_t p = 0; p < b.packs; ++p) {
      double* y = b.y + k * b.stride + p * kPack;
      store<VecD>(y, load<VecD>(y) * (incoming(k, p) - load<VecD>(mean + p * kPack)) * inverse_tau);
    }
}

template <class T>
void backward_sums_chunk(const SizedBackwardArgs<T>& args, int64_t chunk) {
  const SizedElements<T>& e = args.elements;
  const int64_t end = chunk_end(e, chunk), padded = sized_padded(e.classes);
  double* right = args.right + chunk * e.classes;
  double* couplings = args.couplings + chunk * padded * padded;
  fill(right, e.classes, 0);
  fill(couplings, padded * padded, 0);
  for (int64_t begin = chunk * e.chunk; begin < end;) {
    const SizedBlock b = sized_block_at(e, begin, end);
    sized_responsibilities(e, begin, b);
    // the couplings want w y, v wants y: w y first, and divided again, would lose nothing but time
    double scaled[256];
    for (int64_t p = 0; p < b.packs; ++p) store<VecD>(scaled + p * kPack, load<VecD>(b.weight + p * kPack));
    if (e.weights != nullptr) {
      for (int64_t k = 0; k < e.classes; ++k)
        for (int64_t p = 0; p < b.packs; ++p) {
          double* y = b.y + k * b.stride + p * kPack;
          store<VecD>(y, load<VecD>(y) * load<VecD>(scaled + p * kPack));
        }
    }
    sized_add_couplings(b, e.classes, couplings);
    // with w y for y and G for the incoming gradient, the mean is w sum y G: one division an element
    if (e.weights != nullptr) {
      for (int64_t k = 0; k < e.classes; ++k)
        for (int64_t p = 0; p < b.packs; ++p) {
          double* y = b.y + k * b.stride + p * kPack;
          const VecD w = load<VecD>(scaled + p * kPack);
          store<VecD>(y, w > splat<VecD>(0) ? load<VecD>(y) / w : splat<VecD>(0));
        }
    }
    push_gradient(args, begin, b, nullptr);
    sized_add_sizes(b, e.classes, right);
    begin += b.count;
  }
}

template <class T>
void backward_write_chunk(const SizedBackwardArgs<T>& args, int64_t chunk) {
  const SizedElements<T>& e = args.elements;
  const int64_t end = chunk_end(e, chunk);
  for (int64_t begin = chunk * e.chunk; begin < end;) {
    const SizedBlock b = sized_block_at(e, begin, end);
    sized_responsibilities(e, begin, b);
    push_gradient(args, begin, b, args.multipliers);
    for (int64_t k = 0; k < e.classes; ++k) {
      T* out = args.grad_scores + e.subsets[k] * e.width + begin;
      for (int64_t p = 0; p < b.packs; ++p)
        store_some(out + p * kPack, load<VecD>(b.y + k * b.stride + p * kPack), b.count - p * kPack);
    }
    begin += b.count;
  }
}

// row += factor * other
void add_scaled(double* row, const double* other, double factor, int64_t count) {
  int64_t i = 0;
  for (; i + kPack <= count; i += kPack)
    store<VecD>(row + i, fmadd<VecD>(splat<VecD>(factor), load<VecD>(other + i), load<VecD>(row + i)));
  for (; i < count; ++i) row[i] += factor * other[i];
}

double sum_of(const double* x, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += x[i];
  return sum;
}

}  // namespace

#define SIZED_KERNEL(Name, Args, Chunk)                                   \
  void Name(const Args<float>& args, int64_t begin, int64_t end) {        \
    for (int64_t chunk = begin; chunk < end; ++chunk) Chunk(args, chunk); \
  }                                                                       \
  void Name(const Args<double>& args, int64_t begin, int64_t end) {       \
    for (int64_t chunk = begin; chunk < end; ++chunk) Chunk(args, chunk); \
  }
SIZED_KERNEL(sized_scan, SizedScanArgs, scan_chunk)
SIZED_KERNEL(sized_sums, SizedSumsArgs, sums_chunk)
SIZED_KERNEL(sized_write, SizedWriteArgs, write_chunk)
SIZED_KERNEL(sized_nearest, SizedNearestArgs, nearest_chunk)
SIZED_KERNEL(sized_backward_sums, SizedBackwardArgs, backward_sums_chunk)
SIZED_KERNEL(sized_backward_write, SizedBackwardArgs, backward_write_chunk)
#undef SIZED_KERNEL

void sized_laplacian(const SizedLaplacianArgs& args, int64_t, int64_t) {
  constexpr double kSingular = 1e-13;  // below this share of its own couplings a pivot is rounding
  double* x = args.solution;
  for (int64_t t = args.classes - 1; t >= 0; --t) {
    double* row = args.couplings + t * args.stride;
    double whole = args.ground[t] + sum_of(row, t);
    for (int64_t k = t + 1; k < args.classes; ++k) whole += args.couplings[k * args.stride + t];
    args.pivots[t] = whole;  // for now: what the node was coupled to, eliminated nodes at their values then
  }
  for (int64_t t = args.classes - 1; t >= 0; --t) {
    double* row = args.couplings + t * args.stride;
    double pivot = args.ground[t] + sum_of(row, t);
    if (pivot <= kSingular * args.pivots[t] && (args.reach == 0 || __builtin_fabs(x[t]) <= args.rounding)) {
      pivot = 0;
    } else if (args.reach > 0) {
      const double least = __builtin_fabs(x[t]) / args.reach;
      if (pivot < least) {  // more ground under this node
        args.ground[t] += least - pivot;
        pivot = least;
      }
    }
    args.pivots[t] = pivot;
    if (pivot == 0) continue;
    for (int64_t k = 0; k < t; ++k) {
      const double share = row[k] / pivot;
      add_scaled(args.couplings + k * args.stride, row, share, k);
      args.ground[k] += share * args.ground[t];
      x[k] += share * x[t];
    }
  }
  for (int64_t t = 0; t < args.classes; ++t) {
    if (args.pivots[t] == 0) {
      x[t] = 0;
      continue;
    }
    const double* row = args.couplings + t * args.stride;
    double sum = x[t];
    for (int64_t l = 0; l < t; ++l) sum += row[l] * x[l];
    x[t] = sum / args.pivots[t];
  }
}

}  // namespace DRPM_ISA
}  // namespace drpm
