#pragma once

#include "mvhg/two_class/hypergeometric_log_weights.h"

namespace drpm {

// Launchers over `rows` work items; every pointer, the log-factorial table's included, is device memory.
int hypergeometric_log_weights_cuda(const HypergeometricLogWeightsArgs<float>& args, int64_t rows, void* stream);
int hypergeometric_log_weights_cuda(const HypergeometricLogWeightsArgs<double>& args, int64_t rows, void* stream);
int hypergeometric_log_weights_backward_cuda(const HypergeometricLogWeightsBackwardArgs<float>& args, int64_t rows,
                                             void* stream);
int hypergeometric_log_weights_backward_cuda(const HypergeometricLogWeightsBackwardArgs<double>& args, int64_t rows,
                                             void* stream);

}  // namespace drpm
