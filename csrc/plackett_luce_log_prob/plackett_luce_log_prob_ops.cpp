#include <vector>

#include "plackett_luce_log_prob/plackett_luce_log_prob_glue.h"

namespace drpm {
namespace {

struct Cpu {
  template <class T>
  static void run(const PlackettLuceArgs<T>& args, int64_t rows, const Tensor&) {
    for_rows(rows, 40 * args.n, [&](int64_t begin, int64_t end) {
      std::vector<double> scratch(2 * args.n);
      PlackettLuceArgs<T> task = args;
      task.log_suffix_sum = scratch.data();
      task.ranked = scratch.data() + args.n;
      plackett_luce_rows(task, begin, end);
    });
  }
};

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) {
  m.impl("plackett_luce_log_prob", TORCH_BOX(&drpm::plackett_luce_log_prob<drpm::Cpu>));
}
