#include <memory>

#include "mvhg/contour/contour_glue.h"

namespace drpm {
namespace {

template <class T>
void run_task(const MvhgNormalizerArgs<T>& args, int64_t begin, int64_t end) {
  mvhg_normalizer_rows(args, begin, end);
}
template <class T>
void run_task(const MvhgLogProbArgs<T>& args, int64_t begin, int64_t end) {
  mvhg_log_prob_rows(args, begin, end);
}
template <class T>
void run_task(const MvhgCumulantArgs<T>& args, int64_t begin, int64_t end) {
  mvhg_cumulant_rows(args, begin, end);
}
template <class T>
void run_task(const MvhgKlArgs<T>& args, int64_t begin, int64_t end) {
  mvhg_kl_rows(args, begin, end);
}

struct Cpu {
  template <class Args>
  static void run(const char*, const Tensor&, const Args& args, int64_t rows, int64_t doubles) {
    for_rows(rows, 1500 * args.counts.classes, [&](int64_t begin, int64_t end) {
      const std::unique_ptr<double[]> memory(new double[static_cast<size_t>(doubles)]);  // of the task
      Args local = args;
      local.scratch = memory.get();
      run_task(local, begin, end);
    });
  }
};

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) { drpm::implement_contour_ops<drpm::Cpu>(m); }
