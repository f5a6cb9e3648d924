#include <algorithm>

#include "band/band_cuda_ops.h"
#include "partition_marginals/partition_marginals_cuda.h"
#include "partition_marginals/partition_marginals_glue.h"

namespace drpm {
namespace {

constexpr int64_t kWaveDoubles = int64_t{1} << 24;  // 128 MB of scratch at a time
constexpr int64_t kWantedBlocks = 2112, kMostSlots = 256;

// Rows at a time, and slots of nodes for each: enough blocks to fill a device, within the memory.
struct Wave {
  int64_t rows, slots;

  Wave(int64_t all_rows, int64_t n, int64_t subsets, bool backward) {
    const int64_t item = marginal_block_scratch(n, backward) + (subsets + 1) * n;
    const int64_t items = std::max(kMarginalBlocks, std::min(kWantedBlocks, kWaveDoubles / item));
    const int64_t most = std::clamp(n / 2, kMarginalBlocks, kMostSlots);  // few elements: nodes are not worth a block
    slots = std::clamp(items / all_rows, kMarginalBlocks, most);
    rows = std::min(all_rows, std::max<int64_t>(1, kWaveDoubles / (slots * item)));
  }
};

// Runs `launch` on one wave of rows after the other, with pointers moved on and scratch in place.
template <class T>
class Marginals {
 public:
  Marginals(const Tensor& log_omega, const Tensor& m, const Tensor& log_scores, bool backward)
      : all_rows_(log_scores.size(0)),
        wave_(all_rows_, log_scores.size(1), log_omega.size(1), backward),
        like_(log_scores),
        order_(sorted_order_cuda(log_scores)) {
    args.n = log_scores.size(1);
    args.num_subsets = log_omega.size(1);
    args.slots = wave_.slots;
    args.rule = marginal_rule<T>();
    args.log_scores = checked_data<T>(kOp, "log_scores", log_scores, all_rows_ * args.n);
    args.log_omega = checked_data<T>(kOp, "log_omega", log_omega, all_rows_ * args.num_subsets);
    args.m = checked_data<int64_t>(kOp, "m", m, all_rows_ * args.num_subsets);
    args.order = order_.const_data_ptr<int64_t>();
    const int64_t size = args.num_subsets * args.n, rows = wave_.rows, items = rows * wave_.slots;
    const int64_t heads = (sizeof(MarginalMap) + sizeof(double) - 1) / sizeof(double);
    const int64_t counts[] = {rows * args.n,
                              rows * marginal_table_scratch(args.n, args.num_subsets),
                              rows * heads,
                              rows * size,
                              items * marginal_block_scratch(args.n, backward),
                              items * size,
                              backward ? rows * size : 0,
                              backward ? items * args.n : 0,
                              backward ? rows * size : 0};
    int64_t total = 0;
    for (const int64_t count : counts) total += count;
    scratch_ = scratch_doubles(log_scores, total);
    double* at = scratch_.mutable_data_ptr<double>();
    double* parts[9];
    for (int i = 0; i < 9; at += counts[i++]) parts[i] = at;
    args.score = parts[0];
    args.tables = parts[1];
    args.map = reinterpret_cast<MarginalMap*>(parts[2]);
    args.inside = parts[3];
    args.block = parts[4];
    args.partial = parts[5];
    args.sorted_grad = parts[6];
    args.partial_score = parts[7];
    args.grad_inside = parts[8];
  }

  template <class Launch>
  void run(const Launch& launch) {
    const int64_t size = args.num_subsets * args.n;
    launch_on(kOp, like_, [&](void* stream) {
      int error = 0;
      for (int64_t row = 0; row < all_rows_ && error == 0; row += wave_.rows) {
        PartitionMarginalsCudaArgs<T> here = args;
        here.rows = std::min(wave_.rows, all_rows_ - row);
        here.log_scores += row * args.n;
        here.order += row * args.n;
        here.log_omega += row * args.num_subsets;
        here.m += row * args.num_subsets;
        if (here.marginals != nullptr) here.marginals += row * size;
        if (here.grad != nullptr) {
          here.grad += row * size;
          here.grad_log_omega += row * args.num_subsets;
          here.grad_log_scores += row * args.n;
        }
        error = launch(here, stream);
      }
      return error;
    });
  }

  PartitionMarginalsCudaArgs<T> args{};

 private:
  int64_t all_rows_;
  Wave wave_;
  Tensor like_, order_, scratch_;
};

struct Cuda {
  template <class T>
  static void forward(const Tensor& log_omega, const Tensor& m, const Tensor& log_scores, const Tensor& out) {
    Marginals<T> marginals(log_omega, m, log_scores, false);
    marginals.args.marginals = out.mutable_data_ptr<T>();
    marginals.run([](const auto& args, void* stream) { return partition_marginals_cuda(args, stream); });
  }

  template <class T>
  static void backward(const Tensor& grad, const Tensor& log_omega, const Tensor& m, const Tensor& log_scores,
                       const Tensor& grad_omega, const Tensor& grad_scores) {
    Marginals<T> marginals(log_omega, m, log_scores, true);
    marginals.args.grad = checked_data<T>(kOp, "grad", grad, log_scores.numel() * log_omega.size(1));
    marginals.args.grad_log_omega = grad_omega.mutable_data_ptr<T>();
    marginals.args.grad_log_scores = grad_scores.mutable_data_ptr<T>();
    marginals.run([](const auto& args, void* stream) { return partition_marginals_backward_cuda(args, stream); });
  }
};

}  // namespace
}  // namespace drpm

DRPM_CUDA_LIBRARY_IMPL(m) { drpm::implement_marginals_ops<drpm::Cuda>(m); }
