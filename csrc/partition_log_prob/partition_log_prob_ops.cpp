#include <memory>
#include <vector>

#include "partition_log_prob/partition_log_prob.h"
#include "partition_log_prob/partition_log_prob_glue.h"
#include "partition_log_prob/rule.h"

namespace drpm {
namespace {

// The scratch of one row: one uninitialised block, carved.
class RowScratch {
 public:
  template <class T>
  RowScratch(PartitionLogProbArgs<T>* args) {
    const int64_t n = args->n, subsets = args->num_subsets;
    const int64_t chunks = n / kPartitionChunk + (subsets < n ? subsets : n) + 1;
    const int64_t slots = n / kPartitionChunk + n / kPartitionMomentsFrom;
    for (int pass = 0; pass < 2; ++pass) {  // the size, then the pointers
      at_ = 0;
      take(&args->offset, subsets + 1);
      take(&args->grouped, n);
      take(&args->score, n);
      take(&args->log_remainder, subsets);
      take(&args->value, subsets);
      take(&args->log_factor, subsets);
      take(&args->chunks, chunks);
      take(&args->chunk_sum, chunks);
      take(&args->moments, slots * kPartitionMomentsSize);
      take(&args->first_slot, subsets);
      take(&args->by_moments, subsets);
      take(&args->counts, 2);
      take(&args->factor_scratch, partition_factor_scratch(n, args->rule.nodes));
      if (pass == 0) memory_.reset(new char[at_]);
    }
  }

 private:
  template <class P>
  void take(P** pointer, int64_t count) {
    if (memory_) *pointer = reinterpret_cast<P*>(memory_.get() + at_);
    at_ += (count * static_cast<int64_t>(sizeof(P)) + 63) / 64 * 64;
  }

  std::unique_ptr<char[]> memory_;
  int64_t at_ = 0;
};

// One long row, each phase spread over the threads.
template <class T>
void run_long_row(PartitionLogProbArgs<T> row) {
  const RowScratch scratch(&row);
  const bool with_gradient = row.grad_log_scores != nullptr;
  const auto spread = [&](int64_t items, int64_t grain,
                          void (*phase)(const PartitionLogProbArgs<T>&, int64_t, int64_t)) {
    torch::stable::parallel_for(0, items, grain, [&](int64_t begin, int64_t end) { phase(row, begin, end); });
  };
  partition_group(row, 0, 1);
  if (!row.counts[1]) return partition_log_prob_rows(row, 0, 1);  // writes the NaN
  const int64_t chunks = row.counts[0];
  const int64_t grain = std::max<int64_t>(1, chunks * 4096 / std::max<int64_t>(row.n, 1));
  spread(chunks, grain, partition_log_sums);
  partition_remainders(row, 0, 1);
  spread(chunks, grain, partition_moments);
  torch::stable::parallel_for(0, row.num_subsets, 1, [&](int64_t begin, int64_t end) {
    const std::unique_ptr<double[]> own(new double[partition_factor_scratch(row.n, row.rule.nodes)]);
    PartitionLogProbArgs<T> task = row;
    task.factor_scratch = own.get();
    partition_factors(task, begin, end);
  });
  if (with_gradient) spread(chunks, grain, partition_interpolate);
  partition_totals(row, 0, 1);
  if (with_gradient) spread(chunks, grain, partition_gradient);
}

struct Cpu {
  template <class T>
  static void run(const Tensor& log_scores, const Tensor& labels, int64_t num_subsets, const Tensor& log_prob,
                  const Tensor& grad) {
    const int64_t rows = log_scores.size(0), n = log_scores.size(1);
    PartitionLogProbArgs<T> args{};
    args.log_scores = checked_data<T>(kOp, "log_scores", log_scores, rows * n);
    args.labels = checked_data<int64_t>(kOp, "labels", labels, rows * n);
    args.log_prob = log_prob.mutable_data_ptr<T>();
    if (grad.numel() > 0) args.grad_log_scores = grad.mutable_data_ptr<T>();
    args.n = n;
    args.num_subsets = num_subsets;
    args.rule = partition_rule<T>();
    const int64_t threads = torch::stable::get_num_threads();
    if (n >= 2 * kPartitionChunk && threads > 1 && rows < 4 * threads) {
      for (int64_t row = 0; row < rows; ++row) {
        PartitionLogProbArgs<T> one = args;
        one.log_scores += row * n;
        one.labels += row * n;
        one.log_prob += row;
        if (one.grad_log_scores != nullptr) one.grad_log_scores += row * n;
        run_long_row(one);
      }
      return;
    }
    for_rows(rows, 400 * n + 20 * num_subsets, [&](int64_t begin, int64_t end) {
      PartitionLogProbArgs<T> task = args;
      const RowScratch scratch(&task);
      partition_log_prob_rows(task, begin, end);
    });
  }
};

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) {
  m.impl("partition_log_prob", TORCH_BOX(&drpm::partition_log_prob<drpm::Cpu>));
}
