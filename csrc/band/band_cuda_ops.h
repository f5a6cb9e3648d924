// What the glue of the sorting ops shares: the order from torch's sort, and the band's arguments with their scratch.
#pragma once

#include <initializer_list>

#include "band/band_cuda.h"
#include "glue/tensors_cuda.h"

namespace drpm {

// Decreasing order of each row, ties by index.
inline Tensor sorted_order_cuda(const Tensor& scores) { return std::get<1>(stable_sort(scores, true)); }

// The first error of launches made one after another on one stream.
inline int first_error(std::initializer_list<int> errors) {
  for (const int error : errors)
    if (error != 0) return error;
  return 0;
}

// Sorted scores and the scratch of the band's kernels; the tensors outlive the launches that use them, as torch frees
// memory in the order of the stream.
template <class T>
struct BandScratchCuda {
  Tensor sorted, inverse_sum, center, moments;
  CudaBandArgs<T> args{};

  BandScratchCuda(const Tensor& scores, const Tensor& order, double tau, bool backward)
      : sorted(scratch_doubles(scores, scores.numel())),
        inverse_sum(scratch_doubles(scores, scores.numel())),
        center(scratch_doubles(scores, backward ? scores.numel() : 0)),
        moments(scratch_doubles(scores, backward ? 2 * scores.numel() : 0)) {
    args.band = {sorted.const_data_ptr<double>(), scores.size(0), scores.size(1), tau};
    args.order = order.const_data_ptr<int64_t>();
    args.inverse_sum = inverse_sum.mutable_data_ptr<double>();
    if (!backward) return;
    args.center = center.mutable_data_ptr<double>();
    args.moments = moments.mutable_data_ptr<double>();
  }

  int gather_scores(const Tensor& scores, void* stream) {
    return band_gather_scores_cuda(scores.const_data_ptr<T>(), args.order, args.band.rows, args.band.n,
                                   sorted.mutable_data_ptr<double>(), stream);
  }
};

}  // namespace drpm
