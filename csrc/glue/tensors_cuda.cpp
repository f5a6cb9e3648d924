#include "glue/tensors_cuda.h"

#include <array>
#include <optional>

namespace drpm {

std::tuple<Tensor, Tensor> stable_sort(const Tensor& rows, bool descending) {
  using torch::stable::detail::from;
  std::array<StableIValue, 4> stack{from(rows), from(std::optional<bool>(true)), from(int64_t{-1}), from(descending)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  return {torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

}  // namespace drpm

#if !defined(DRPM_EMULATED)
#include <dlfcn.h>

// The device-generic handle came with torch 2.13; a CUDA build of an older torch exports a CUDA-specific shim instead.
// One binary serves both: the first is a weak symbol, the second is looked up where that library is loaded.
extern "C" __attribute__((weak)) AOTITorchError torch_stream_native_handle(StreamHandle stream, void** handle);

namespace drpm {

void* current_stream(int32_t device_index) {
  void* native = nullptr;
  if (torch_stream_native_handle != nullptr) {
    StreamHandle stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_stream(device_index, &stream));
    const AOTITorchError error = torch_stream_native_handle(stream, &native);
    aoti_torch_delete_stream(stream);
    TORCH_ERROR_CODE_CHECK(error);
    return native;
  }
  using CurrentStream = AOTITorchError (*)(int32_t, void**);
  static const CurrentStream current = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_NOLOAD | RTLD_LAZY);
    return library == nullptr ? nullptr
                              : reinterpret_cast<CurrentStream>(dlsym(library, "aoti_torch_get_current_cuda_stream"));
  }();
  STD_TORCH_CHECK(current != nullptr, "drpm: this torch gives no access to its CUDA streams; torch >= 2.11 does");
  TORCH_ERROR_CODE_CHECK(current(device_index, &native));
  return native;
}

}  // namespace drpm
#endif
