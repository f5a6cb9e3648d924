// Dispatcher glue of the noise, for either backend: `Backend::run(args, lines, like)`.
#pragma once

#include "glue/tensors.h"
#include "noise/gumbel_noise.h"

namespace drpm {
namespace {

template <class Backend>
Tensor gumbel_noise(const Tensor& seed, int64_t stream, int64_t rows, int64_t classes, int64_t width, bool float64) {
  const ScalarType dtype = float64 ? ScalarType::Double : ScalarType::Float;
  Tensor out = torch::stable::new_empty(seed, {rows, classes, width}, dtype);
  by_dtype(out, [&](auto zero) {
    using T = decltype(zero);
    const GumbelNoiseArgs<T> args{checked_seeds("gumbel_noise", seed, rows), static_cast<uint32_t>(stream), classes,
                                  width, out.mutable_data_ptr<T>()};
    Backend::run(args, rows * classes, seed);
  });
  return out;
}

}  // namespace
}  // namespace drpm
