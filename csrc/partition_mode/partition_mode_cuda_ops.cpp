#include "band/band_cuda_ops.h"
#include "partition_mode/partition_mode_cuda.h"
#include "partition_mode/partition_mode_glue.h"
#include "partition_mode/partition_mode_math.h"
#include "special/log_factorial_cuda.h"

namespace drpm {
namespace {

constexpr int64_t kWaveDoubles = int64_t{1} << 24;  // interval factors held at a time: 128 MB

struct Cuda {
  template <class T>
  static void run(const Tensor& log_omega, const Tensor& m, const Tensor& log_scores, const Tensor& labels) {
    const int64_t rows = log_scores.size(0), n = log_scores.size(1), subsets = log_omega.size(1);
    const int64_t intervals = n * (n + 1) / 2, width = n + 1;
    const int64_t wave = std::min(rows, std::max<int64_t>(1, kWaveDoubles / (intervals + subsets * width)));
    const Tensor order = sorted_order_cuda(log_scores);
    const T* omega = checked_data<T>(kOp, "log_omega", log_omega, rows * subsets);
    const int64_t* counts = checked_data<int64_t>(kOp, "m", m, rows * subsets);
    const T* scores = checked_data<T>(kOp, "log_scores", log_scores, rows * n);
    PartitionModeCudaArgs<T> args{};
    args.n = n;
    args.num_subsets = subsets;
    args.nodes = DRPM_ISA::mode_node_count(n);
    const int64_t factorials = device_table_size(n + 1);
    const Tensor table = scratch_doubles(log_scores, factorials);
    const Tensor nodes = scratch_doubles(log_scores, 2 * args.nodes);
    const Tensor by_row = scratch_doubles(log_scores, wave * (n + 3 * width + subsets * width));
    const Tensor interval = scratch_doubles(log_scores, wave * intervals);
    const Tensor whole = torch::stable::new_empty(m, {wave * (subsets * width + subsets + 1)});
    args.log_factorials = {table.const_data_ptr<double>(), factorials};
    args.node_scale = nodes.mutable_data_ptr<double>();
    args.node_base = args.node_scale + args.nodes;
    args.score = by_row.mutable_data_ptr<double>();
    args.log_rest = args.score + wave * n;
    args.best = args.log_rest + wave * width;
    args.weight = args.best + 2 * wave * width;
    args.interval = interval.mutable_data_ptr<double>();
    args.start = whole.mutable_data_ptr<int64_t>();
    args.cut = args.start + wave * subsets * width;
    launch_on(kOp, log_scores, [&](void* stream) {
      int error = fill_log_factorials_cuda(table.mutable_data_ptr<double>(), factorials, stream);
      for (int64_t row = 0; row < rows && error == 0; row += wave) {
        args.rows = std::min(wave, rows - row);
        args.log_scores = scores + row * n;
        args.order = order.const_data_ptr<int64_t>() + row * n;
        args.log_omega = omega + row * subsets;
        args.m = counts + row * subsets;
        args.labels = labels.mutable_data_ptr<int64_t>() + row * n;
        error = partition_mode_cuda(args, stream);
      }
      return error;
    });
  }
};

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { m.impl("partition_mode", TORCH_BOX(&drpm::partition_mode<drpm::Cuda>)); }
