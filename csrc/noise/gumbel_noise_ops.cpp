#include "noise/gumbel_noise_glue.h"

namespace drpm {
namespace {

struct Cpu {
  template <class T>
  static void run(const GumbelNoiseArgs<T>& args, int64_t lines, const Tensor&) {
    for_rows(lines, 20 * args.width, [&](int64_t begin, int64_t end) { gumbel_noise_lines(args, begin, end); });
  }
};

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) { m.impl("gumbel_noise", TORCH_BOX(&drpm::gumbel_noise<drpm::Cpu>)); }
