#include <cuda_runtime.h>

#include "device/error_cuda.h"

namespace drpm {

const char* cuda_error_string(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace drpm
