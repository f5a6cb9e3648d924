#include "mvhg/two_class/hypergeometric_log_weights_glue.h"

namespace drpm {
namespace {

struct Cpu {
  template <class T>
  static void forward(HypergeometricLogWeightsArgs<T> args, int64_t rows, const Tensor&) {
    args.log_factorials = log_factorial_table(args.width);
    for_rows(rows, 8 * args.width,
             [&](int64_t begin, int64_t end) { hypergeometric_log_weights_rows(args, begin, end); });
  }

  template <class T>
  static void backward(const HypergeometricLogWeightsBackwardArgs<T>& args, int64_t rows, const Tensor&) {
    for_rows(rows, 2 * args.width,
             [&](int64_t begin, int64_t end) { hypergeometric_log_weights_backward_rows(args, begin, end); });
  }
};

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) { drpm::implement_hypergeometric_ops<drpm::Cpu>(m); }
