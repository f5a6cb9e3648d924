#include "glue/tensors_cuda.h"
#include "mvhg/tables/exact_cuda.h"
#include "mvhg/tables/exact_glue.h"
#include "mvhg/task_memory.h"

namespace drpm {
namespace {

template <class Call, class T, class Launch>
void run(const char* op, const Tensor& like, Call& call, MvhgExactArgs<T>& common, const Launch& launch) {
  const Tensor scratch = scratch_doubles(like, call.layout.blocks * call.layout.block_doubles());
  call.scratch = scratch.mutable_data_ptr<double>();
  launch_with_log_factorials(op, like, kExactTableSize, &common.log_factorials,
                             [&](void* stream) { return launch(call, stream); });
}

// What the CPU refuses is refused here, too, as far as the host knows n.
template <class Call>
void check_layout(const Call& call) {
  check_task_memory(kOp, sizeof(double) * static_cast<double>(call.layout.block_doubles()), call.largest_n,
                    call.layout.classes, "block");
}

struct Cuda {
  template <class T>
  static void sample(const MvhgSampleExactArgs<T>& args, const Tensor& like, int64_t largest_n) {
    MvhgSampleExactCuda<T> call{args, {}, nullptr, 0, 0, largest_n < 0 ? kLargestUnknownN : largest_n};
    MvhgExactArgs<T>& common = call.args.common;
    if (common.batch * common.samples == 0) return;
    call.chunks = exact_chunks(common.batch, common.samples, common.order_stride != 0);
    call.group = (common.samples + call.chunks - 1) / call.chunks;
    call.layout = exact_layout_cuda(common, common.batch * call.chunks, largest_n, 4, 1, 0);
    check_layout(call);
    run(kOp, like, call, common, [](const auto& c, void* stream) { return mvhg_sample_exact_cuda(c, stream); });
  }

  template <class T>
  static void sample_backward(const MvhgSampleExactBackwardArgs<T>& args, const Tensor& like, int64_t largest_n) {
    MvhgSampleExactBackwardCuda<T> call{args, {}, nullptr, largest_n < 0 ? kLargestUnknownN : largest_n};
    MvhgExactArgs<T>& common = call.args.common;
    call.layout =
        exact_layout_cuda(common, common.batch * args.chunks, largest_n, 5, 1, 2 * args.group * common.classes);
    check_layout(call);
    run(kOp, like, call, common,
        [](const auto& c, void* stream) { return mvhg_sample_exact_backward_cuda(c, stream); });
  }

  template <class T>
  static void entropy(const char* op, MvhgEntropyArgs<T> args, const Tensor& like) {
    const int64_t doubles = entropy_doubles(args.common.classes);
    const Tensor scratch = scratch_doubles(like, entropy_rows_in_flight(args.common.batch) * doubles);
    args.contours = scratch.mutable_data_ptr<double>();
    launch_with_log_factorials(op, like, kExactTableSize, &args.common.log_factorials,
                               [&](void* stream) { return mvhg_entropy_cuda(args, stream); });
  }

  template <class T>
  static void draw(const MvhgDrawArgs<T>& args, const Tensor& like) {
    MvhgDrawCuda<T> call{args, {}, nullptr, 0, 0};
    MvhgExactArgs<T>& common = call.args.common;
    if (common.batch * common.samples == 0) return;
    call.chunks = exact_chunks(common.batch, common.samples, false);
    call.group = (common.samples + call.chunks - 1) / call.chunks;
    call.layout = exact_layout_cuda(common, common.batch * call.chunks, args.largest_table, 4, 1,
                                    kExactWarps * contour_scratch(common.classes));
    run("mvhg_draw", like, call, common, [](const auto& c, void* stream) { return mvhg_draw_cuda(c, stream); });
  }
};

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { drpm::implement_exact_ops<drpm::Cuda>(m); }
