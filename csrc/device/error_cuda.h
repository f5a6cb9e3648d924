// CUDA's words for an error code, for glue that sees no CUDA header.
#pragma once

namespace drpm {

const char* cuda_error_string(int error);

}  // namespace drpm
