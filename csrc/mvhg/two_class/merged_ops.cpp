#include <memory>

#include "mvhg/task_memory.h"
#include "mvhg/two_class/merged_glue.h"

namespace drpm {
namespace {

constexpr int64_t kScratchPadding = 256;  // whole noise tiles and packs beyond the last outcome

struct Sizing {
  int64_t max_m, max_total;
  int64_t width;  // of one class's outcomes, padded
};

Sizing sizing(const char* op, const MergedCounts& counts) {
  const int64_t m_rows = counts.batch == 0 || counts.m_stride != 0 ? counts.batch : 1;
  const int64_t n_rows = counts.batch == 0 || counts.n_stride != 0 ? counts.batch : 1;
  Sizing out{0, 0, 0};
  for (int64_t row = 0; row < m_rows; ++row) {
    int64_t total = 0;
    for (int64_t k = 0; k < counts.classes; ++k) {
      const int64_t m = counts.m[row * counts.classes + k];
      if (m < 0) break;  // the kernel answers with NaN
      out.max_m = std::max(out.max_m, m);
      total += m;
    }
    out.max_total = std::max(out.max_total, total);
  }
  int64_t max_n = 0;
  for (int64_t row = 0; row < n_rows; ++row) max_n = std::max(max_n, std::min(counts.n[row], out.max_total));
  out.width = std::min(out.max_m, max_n) + 2 + kScratchPadding;
  check_task_memory(op, 2.0 * sizeof(double) * static_cast<double>(out.width), max_n, counts.classes);
  return out;
}

// Outcomes of one class that a row looks at, roughly: the windows grow with the square root of the counts.
int64_t typical_window(int64_t max_m) {
  int64_t root = 1;
  while (root * root < max_m) ++root;
  return std::min(max_m + 1, 16 + 8 * root);
}

// Uninitialised memory of one task.
template <class T>
std::unique_ptr<T[]> scratch(int64_t count) {
  return std::unique_ptr<T[]>(new T[static_cast<size_t>(count)]);
}

struct Cpu {
  template <class T>
  static void sample(MvhgSampleMergedArgs<T> args, int64_t rows, const Tensor&) {
    const int64_t classes = args.counts.classes;
    const Sizing size = sizing(kSample, args.counts);
    args.log_factorials = log_factorial_table(size.max_total + 1);
    args.width = size.width;
    for_rows(rows, 20 * classes * typical_window(size.max_m), [&](int64_t begin, int64_t end) {
      const auto outcomes = scratch<T>(2 * args.width);
      const auto masses = scratch<double>(2 * classes);
      MvhgSampleMergedArgs<T> local = args;
      local.outcomes = outcomes.get();
      local.classes = masses.get();
      mvhg_sample_merged_rows(local, begin, end);
    });
  }

  template <class T>
  static void sample_backward(const MvhgSampleMergedBackwardArgs<T>& args, int64_t rows, const Tensor&) {
    const int64_t classes = args.counts.classes;
    for_rows(rows, 100 * classes, [&](int64_t begin, int64_t end) {
      const auto masses = scratch<double>(3 * classes);
      MvhgSampleMergedBackwardArgs<T> local = args;
      local.classes = masses.get();
      mvhg_sample_merged_backward_rows(local, begin, end);
    });
  }

  template <class T>
  static void log_prob(MvhgLogProbMergedArgs<T> args, const Tensor&) {
    const int64_t classes = args.counts.classes;
    const Sizing size = sizing(kLogProb, args.counts);
    args.log_factorials = log_factorial_table(size.max_total + 1);
    args.width = size.width;
    for_rows(args.counts.batch, 10 * classes * typical_window(size.max_m), [&](int64_t begin, int64_t end) {
      const auto outcomes = scratch<double>(2 * args.width);
      const auto masses = scratch<double>(2 * classes);
      MvhgLogProbMergedArgs<T> local = args;
      local.outcomes = outcomes.get();
      local.classes = masses.get();
      mvhg_log_prob_merged_rows(local, begin, end);
    });
  }

  template <class T>
  static void log_prob_backward(const MvhgLogProbMergedBackwardArgs<T>& args, const Tensor&) {
    const int64_t classes = args.counts.classes;
    for_rows(args.counts.batch, 200 * classes, [&](int64_t begin, int64_t end) {
      const auto masses = scratch<double>(3 * classes);
      MvhgLogProbMergedBackwardArgs<T> local = args;
      local.classes = masses.get();
      mvhg_log_prob_merged_backward_rows(local, begin, end);
    });
  }
};

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) { drpm::implement_merged_ops<drpm::Cpu>(m); }
