// The elements of one row, as the solvers see them: sums over chunks that threads share, added in order.
#pragma once

#include <algorithm>
#include <vector>

#include "glue/tensors.h"
#include "sized_assignment/relaxed.h"

namespace drpm {

template <class T>
class Elements {
 public:
  Elements(const T* scores, int64_t width, const T* weights, int64_t n, const std::vector<int32_t>& subsets,
           double origin)
      : subsets_(subsets) {
    const int64_t classes = static_cast<int64_t>(subsets.size()), padded = sized_padded(classes);
    const int64_t most = std::min<int64_t>(64, std::max<int64_t>(8, (int64_t{1} << 24) / (padded * padded)));
    e_ = SizedElements<T>{};
    e_.scores = scores;
    e_.weights = weights;
    e_.width = width;
    e_.n = n;
    e_.origin = origin;
    e_.classes = classes;
    e_.chunk = std::max<int64_t>(4096, (n + most - 1) / most);
    e_.chunk = (e_.chunk + sized_block(classes) - 1) / sized_block(classes) * sized_block(classes);
    chunks_ = (n + e_.chunk - 1) / e_.chunk;
  }

  int64_t n() const { return e_.n; }
  int64_t classes() const { return e_.classes; }
  const std::vector<int32_t>& subsets() const { return subsets_; }
  double score(int64_t i, int64_t k) const {  // of the k-th subset, by weight
    const double u = static_cast<double>(e_.scores[subsets_[k] * e_.width + i]) - e_.origin;
    return e_.weights == nullptr ? u : u / e_.weights[i];
  }
  double weight(int64_t i) const { return e_.weights == nullptr ? 1 : e_.weights[i]; }
  double total_weight() const {
    if (e_.weights == nullptr) return static_cast<double>(e_.n);
    double sum = 0;
    for (int64_t i = 0; i < e_.n; ++i) sum += e_.weights[i];
    return sum;
  }

  struct Scan {
    double lowest, highest;
    int32_t found;

    // What is taken off the scores: the highest, where it dwarfs their differences.
    double origin() const { return highest >= lowest && std::fabs(highest) > 1e3 * (highest - lowest) ? highest : 0; }
  };
  Scan scan() const {
    std::vector<double> lowest(chunks_), highest(chunks_);
    std::vector<int32_t> found(chunks_);
    run(SizedScanArgs<T>{at(nullptr, 1), lowest.data(), highest.data(), found.data()}, sized_scan, 1);
    Scan all{kInfinite, -kInfinite, 0};
    for (int64_t c = 0; c < chunks_; ++c) {
      all.lowest = std::min(all.lowest, lowest[c]);
      all.highest = std::max(all.highest, highest[c]);
      all.found |= found[c];
    }
    return all;
  }

  SizedSums sums(const std::vector<double>& prices, double tau, bool with_couplings) const {
    const int64_t classes = e_.classes, square = sized_padded(classes) * sized_padded(classes);
    std::vector<double> value(chunks_), sizes(chunks_ * classes), couplings(with_couplings ? chunks_ * square : 0);
    SizedSumsArgs<T> args{at(prices.data(), tau), value.data(), sizes.data(), nullptr};
    if (with_couplings) args.couplings = couplings.data();
    run(args, sized_sums, with_couplings ? 40 + classes : 40);
    SizedSums out;
    for (double x : value) out.value += x;
    out.sizes = added(sizes, classes);
    if (with_couplings) out.couplings = both_triangles(added(couplings, square), classes);
    return out;
  }

  std::vector<double> nearest(const std::vector<double>& prices, int32_t* labels, double* gaps) const {
    std::vector<double> sizes(chunks_ * e_.classes);
    run(SizedNearestArgs<T>{at(prices.data(), 1), labels, gaps, sizes.data()}, sized_nearest, 4);
    return added(sizes, e_.classes);
  }

  std::vector<double> write(const std::vector<double>& prices, double tau, T* assignment, int64_t* labels) const {
    std::vector<double> sizes(chunks_ * e_.classes);
    run(SizedWriteArgs<T>{at(prices.data(), tau), assignment, labels, sizes.data()}, sized_write, 40);
    return added(sizes, e_.classes);
  }

  SizedSums backward_sums(const std::vector<double>& prices, double tau, const T* grad) const {
    const int64_t classes = e_.classes, square = sized_padded(classes) * sized_padded(classes);
    std::vector<double> right(chunks_ * classes), couplings(chunks_ * square);
    SizedBackwardArgs<T> args{at(prices.data(), tau), grad, nullptr, right.data(), couplings.data(), nullptr};
    run(args, sized_backward_sums, 60 + classes);
    SizedSums out;
    out.sizes = added(right, classes);
    out.couplings = both_triangles(added(couplings, square), classes);
    return out;
  }

  void backward_write(const std::vector<double>& prices, double tau, const T* grad,
                      const std::vector<double>& multipliers, T* grad_scores) const {
    run(SizedBackwardArgs<T>{at(prices.data(), tau), grad, multipliers.data(), nullptr, nullptr, grad_scores},
        sized_backward_write, 60);
  }

 private:
  SizedElements<T> at(const double* prices, double tau) const {
    SizedElements<T> e = e_;
    e.subsets = subsets_.data();
    e.prices = prices;
    e.tau = tau;
    return e;
  }

  template <class Args>
  void run(const Args& args, void (*kernel)(const Args&, int64_t, int64_t), int64_t cost) const {
    for_rows(chunks_, cost * e_.chunk * e_.classes, [&](int64_t begin, int64_t end) {
      std::vector<double> scratch(sized_scratch(e_.classes));
      Args task = args;
      task.elements.scratch = scratch.data();
      kernel(task, begin, end);
    });
  }

  std::vector<double> added(const std::vector<double>& by_chunk, int64_t count) const {
    std::vector<double> sum(count, 0.0);
    for (int64_t c = 0; c < chunks_; ++c)
      for (int64_t i = 0; i < count; ++i) sum[i] += by_chunk[c * count + i];
    return sum;
  }

  static std::vector<double> both_triangles(std::vector<double> c, int64_t classes) {
    const int64_t padded = sized_padded(classes);
    for (int64_t k = 0; k < classes; ++k)
      for (int64_t l = 0; l < k; ++l) c[l * padded + k] = c[k * padded + l];
    return c;
  }

  SizedElements<T> e_;
  std::vector<int32_t> subsets_;
  int64_t chunks_;
};

// Every stride-th element, in memory of its own.
template <class T>
class Sample {
 public:
  Sample(const T* scores, int64_t width, const T* weights, int64_t n, const std::vector<int32_t>& subsets,
         double origin, int64_t stride)
      : origin_(origin),
        count_((n + stride - 1) / stride),
        scores_(count_ * subsets.size()),
        weights_(weights == nullptr ? 0 : count_) {
    for (size_t k = 0; k < subsets.size(); ++k)
      for (int64_t i = 0; i < count_; ++i) scores_[k * count_ + i] = scores[subsets[k] * width + i * stride];
    for (int64_t i = 0; i < static_cast<int64_t>(weights_.size()); ++i) weights_[i] = weights[i * stride];
    rows_.resize(subsets.size());
    for (size_t k = 0; k < subsets.size(); ++k) rows_[k] = static_cast<int32_t>(k);
  }

  Elements<T> elements() const {
    return Elements<T>(scores_.data(), count_, weights_.empty() ? nullptr : weights_.data(), count_, rows_, origin_);
  }

 private:
  double origin_;
  int64_t count_;
  std::vector<T> scores_, weights_;
  std::vector<int32_t> rows_;
};

}  // namespace drpm
