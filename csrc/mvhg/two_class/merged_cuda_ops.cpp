#include "glue/tensors_cuda.h"
#include "mvhg/two_class/merged_cuda.h"
#include "mvhg/two_class/merged_glue.h"

namespace drpm {
namespace {

// `per_class` doubles a class for every row in flight.
Tensor class_scratch(const Tensor& like, int64_t rows, int64_t per_class, int64_t classes) {
  return scratch_doubles(like, merged_rows_in_flight(rows) * per_class * classes);
}

struct Cuda {
  template <class T>
  static void sample(MvhgSampleMergedArgs<T> args, int64_t rows, const Tensor& like) {
    const Tensor classes = class_scratch(like, rows, 2, args.counts.classes);
    args.classes = classes.mutable_data_ptr<double>();
    launch_with_log_factorials(kSample, like, kMergedTableSize, &args.log_factorials,
                               [&](void* stream) { return mvhg_sample_merged_cuda(args, rows, stream); });
  }

  template <class T>
  static void sample_backward(MvhgSampleMergedBackwardArgs<T> args, int64_t rows, const Tensor& like) {
    const Tensor classes = class_scratch(like, rows, 3, args.counts.classes);
    args.classes = classes.mutable_data_ptr<double>();
    launch_on(kSample, like, [&](void* stream) { return mvhg_sample_merged_backward_cuda(args, rows, stream); });
  }

  template <class T>
  static void log_prob(MvhgLogProbMergedArgs<T> args, const Tensor& like) {
    const int64_t rows = args.counts.batch;
    const Tensor classes = class_scratch(like, rows, 2, args.counts.classes);
    args.classes = classes.mutable_data_ptr<double>();
    launch_with_log_factorials(kLogProb, like, kMergedTableSize, &args.log_factorials,
                               [&](void* stream) { return mvhg_log_prob_merged_cuda(args, rows, stream); });
  }

  template <class T>
  static void log_prob_backward(MvhgLogProbMergedBackwardArgs<T> args, const Tensor& like) {
    const int64_t rows = args.counts.batch;
    const Tensor classes = class_scratch(like, rows, 3, args.counts.classes);
    args.classes = classes.mutable_data_ptr<double>();
    launch_on(kLogProb, like, [&](void* stream) { return mvhg_log_prob_merged_backward_cuda(args, rows, stream); });
  }
};

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { drpm::implement_merged_ops<drpm::Cuda>(m); }
