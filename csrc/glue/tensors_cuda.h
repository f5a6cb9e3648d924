// Glue of the CUDA kernels, beside tensors.h: device guard, stream, launch check. Compiled by the C++ compiler alone;
// links against the CPU build of torch. With DRPM_EMULATED the same glue serves the kernels that run on the CPU.
#pragma once

#include <tuple>

#include "device/error_cuda.h"
#include "glue/scratch.h"
#include "glue/tensors.h"
#include "special/log_factorial_cuda.h"

#if defined(DRPM_EMULATED)
#define DRPM_CUDA_LIBRARY_IMPL(m) STABLE_TORCH_LIBRARY_IMPL(drpm_emulated, CPU, m)
#else
#include <torch/csrc/stable/accelerator.h>
#define DRPM_CUDA_LIBRARY_IMPL(m) STABLE_TORCH_LIBRARY_IMPL(drpm, CUDA, m)
#endif

namespace drpm {

// torch's current stream on the tensor's device, as a cudaStream_t. (tensors_cuda_ops.cpp)
void* current_stream(int32_t device_index);

// Each row's values in order, ties by index, and the indices they come from: torch's own sort. (tensors_cuda_ops.cpp)
std::tuple<Tensor, Tensor> stable_sort(const Tensor& rows, bool descending);

// Runs `launch(stream)` on the device of `like`, and raises where it returns an error code.
template <class F>
void launch_on(const char* op, [[maybe_unused]] const Tensor& like, const F& launch) {
#if defined(DRPM_EMULATED)
  const int error = launch(static_cast<void*>(nullptr));
#else
  const int32_t device = like.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  const int error = launch(current_stream(device));
#endif
  STD_TORCH_CHECK(error == 0, op, ": the CUDA kernel could not be launched: ", cuda_error_string(error));
}

// launch_on() with a table of log-factorials in device memory, filled before `launch(stream)` on the same stream.
template <class F>
void launch_with_log_factorials(const char* op, const Tensor& like, int64_t size, LogFactorialTable* table,
                                const F& launch) {
  double* values = nullptr;
  const Tensor memory = carve(like, [&](Carver& c) { values = c.take<double>(size); });
  *table = {values, size};
  launch_on(op, like, [&](void* stream) {
    const int error = fill_log_factorials_cuda(values, size, stream);
    return error != 0 ? error : launch(stream);
  });
}

}  // namespace drpm
