#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "partition_marginals/partition_marginals_glue.h"

namespace drpm {
namespace {

constexpr int64_t kWaveDoubles = int64_t{1} << 23;  // partial sums held at a time

using Doubles = std::unique_ptr<double[]>;
Doubles doubles(int64_t count) { return Doubles(new double[std::max<int64_t>(count, 1)]); }

// Rows [begin, end) of the inputs as the kernels want them, and the buffers of their phases.
template <class T>
class Wave {
 public:
  Wave(const T* log_omega, const int64_t* m, const T* log_scores, int64_t rows, int64_t n, int64_t subsets)
      : rows_(rows),
        n_(n),
        subsets_(subsets),
        order_(rows * n),
        score_(doubles(rows * n)),
        log_omega_(doubles(rows * subsets)),
        inside_(doubles(rows * subsets * n)),
        map_(new MarginalMap[rows]) {
    for (int64_t i = 0; i < rows * subsets; ++i) log_omega_[i] = log_omega[i];
    for_rows(rows, 20 * n, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* x = log_scores + row * n;
        int32_t* order = order_.data() + row * n;
        std::iota(order, order + n, 0);
        std::stable_sort(order, order + n, [x](int32_t a, int32_t b) { return x[a] > x[b]; });
        for (int64_t i = 0; i < n; ++i) score_[row * n + i] = static_cast<double>(x[order[i]]) - x[order[0]];
      }
    });
    args_.score = score_.get();
    args_.log_omega = log_omega_.get();
    args_.m = m;
    args_.n = n;
    args_.num_subsets = subsets;
    args_.rule = marginal_rule<T>();
    args_.inside = inside_.get();
    args_.map = map_.get();
    phase(rows, windows_cost(), marginal_windows);
  }

  void forward(T* marginals) {
    const int64_t size = subsets_ * n_;
    const Doubles partial = doubles(rows_ * kMarginalBlocks * size);
    args_.partial = partial.get();
    phase(rows_ * kMarginalBlocks, nodes_cost(), marginal_nodes);
    for (int64_t row = 0; row < rows_; ++row)
      for (int64_t k = 0; k < subsets_; ++k)
        for (int64_t i = 0; i < n_; ++i)
          marginals[row * size + k * n_ + order_[row * n_ + i]] =
              static_cast<T>(block_sum(partial.get(), row, size, k * n_ + i));
  }

  void backward(const T* grad, T* grad_log_omega, T* grad_log_scores) {
    const int64_t size = subsets_ * n_;
    const Doubles sorted = doubles(rows_ * size), partial_inside = doubles(rows_ * kMarginalBlocks * size);
    const Doubles partial_score = doubles(rows_ * kMarginalBlocks * n_);
    const Doubles grad_inside = doubles(rows_ * size), grad_omega = doubles(rows_ * subsets_);
    for (int64_t row = 0; row < rows_; ++row)
      for (int64_t k = 0; k < subsets_; ++k)
        for (int64_t i = 0; i < n_; ++i)
          sorted[row * size + k * n_ + i] = grad[row * size + k * n_ + order_[row * n_ + i]];
    args_.grad = sorted.get();
    args_.partial_inside = partial_inside.get();
    args_.partial_score = partial_score.get();
    args_.grad_inside = grad_inside.get();
    args_.grad_log_omega = grad_omega.get();
    phase(rows_ * kMarginalBlocks, nodes_cost(), marginal_nodes_backward);
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t i = 0; i < size; ++i) grad_inside[row * size + i] = block_sum(partial_inside.get(), row, size, i);
      for (int64_t i = 0; i < n_; ++i)
        grad_log_scores[row * n_ + order_[row * n_ + i]] = static_cast<T>(block_sum(partial_score.get(), row, n_, i));
    }
    phase(rows_, windows_cost(), marginal_windows_backward);
    for (int64_t i = 0; i < rows_ * subsets_; ++i) grad_log_omega[i] = static_cast<T>(grad_omega[i]);
  }

 private:
  static double block_sum(const double* partial, int64_t row, int64_t size, int64_t i) {
    double sum = 0;
    for (int64_t b = 0; b < kMarginalBlocks; ++b) sum += partial[(row * kMarginalBlocks + b) * size + i];
    return sum;
  }

  void phase(int64_t items, int64_t cost, void (*kernel)(const PartitionMarginalsArgs&, int64_t, int64_t)) {
    for_rows(items, cost, [&](int64_t begin, int64_t end) {
      const Doubles scratch = doubles(partition_marginals_scratch(n_, subsets_));
      PartitionMarginalsArgs task = args_;
      task.scratch = scratch.get();
      kernel(task, begin, end);
    });
  }

  // Simple operations of one item.
  int64_t windows_cost() const { return subsets_ * n_ * (n_ / 4 + 20) + 400 * n_; }
  int64_t nodes_cost() const { return 10 * n_ * (8 + n_ / 8) * (subsets_ + 4); }

  int64_t rows_, n_, subsets_;
  std::vector<int32_t> order_;
  Doubles score_, log_omega_, inside_;
  std::unique_ptr<MarginalMap[]> map_;
  PartitionMarginalsArgs args_{};
};

struct Shape {
  int64_t rows, n, subsets, wave;

  Shape(const Tensor& log_omega, const Tensor& log_scores)
      : rows(log_scores.size(0)), n(log_scores.size(1)), subsets(log_omega.size(1)) {
    wave = std::max<int64_t>(1, kWaveDoubles / std::max<int64_t>(1, kMarginalBlocks * subsets * n));
  }
};

struct Cpu {
  template <class T>
  static void forward(const Tensor& log_omega, const Tensor& m, const Tensor& log_scores, const Tensor& out) {
    const Shape shape(log_omega, log_scores);
    const int64_t n = shape.n, subsets = shape.subsets;
    const T* omega = checked_data<T>(kOp, "log_omega", log_omega, shape.rows * subsets);
    const int64_t* counts = checked_data<int64_t>(kOp, "m", m, shape.rows * subsets);
    const T* scores = checked_data<T>(kOp, "log_scores", log_scores, shape.rows * n);
    T* marginals = out.mutable_data_ptr<T>();
    for (int64_t row = 0; row < shape.rows; row += shape.wave) {
      const int64_t rows = std::min(shape.wave, shape.rows - row);
      Wave<T> wave(omega + row * subsets, counts + row * subsets, scores + row * n, rows, n, subsets);
      wave.forward(marginals + row * subsets * n);
    }
  }

  template <class T>
  static void backward(const Tensor& grad, const Tensor& log_omega, const Tensor& m, const Tensor& log_scores,
                       const Tensor& grad_omega, const Tensor& grad_scores) {
    const Shape shape(log_omega, log_scores);
    const int64_t n = shape.n, subsets = shape.subsets;
    const T* g = checked_data<T>(kOp, "grad", grad, shape.rows * subsets * n);
    const T* omega = checked_data<T>(kOp, "log_omega", log_omega, shape.rows * subsets);
    const int64_t* counts = checked_data<int64_t>(kOp, "m", m, shape.rows * subsets);
    const T* scores = checked_data<T>(kOp, "log_scores", log_scores, shape.rows * n);
    T* out_omega = grad_omega.mutable_data_ptr<T>();
    T* out_scores = grad_scores.mutable_data_ptr<T>();
    for (int64_t row = 0; row < shape.rows; row += shape.wave) {
      const int64_t rows = std::min(shape.wave, shape.rows - row);
      Wave<T> wave(omega + row * subsets, counts + row * subsets, scores + row * n, rows, n, subsets);
      wave.backward(g + row * subsets * n, out_omega + row * subsets, out_scores + row * n);
    }
  }
};

}  // namespace
}  // namespace drpm

STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) { drpm::implement_marginals_ops<drpm::Cpu>(m); }
