#include <cstdlib>
#include <limits>
#include <numeric>

#include "partition_log_prob/factor_points.h"
#include "partition_log_prob/partition_log_prob.h"
#include "partition_log_prob/rule.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

// The CPU kernel on one row, with scratch of its own.
template <class T>
void reference_row(const T* log_scores, const int64_t* labels, int64_t n, int64_t subsets, bool by_subset, T* log_prob,
                   T* grad) {
  const int64_t chunks = n / drpm::kSubsetChunk + subsets + 2, slots = n / drpm::kMomentsFrom + 2;
  std::vector<int64_t> offset(subsets + 1), counts(2);
  std::vector<int32_t> grouped(n + 1), first_slot(subsets + 1), by_moments(subsets + 1);
  std::vector<double> score(n + 1), remainder(subsets + 1), value(subsets + 1), factor(subsets + 1), sum(chunks),
      moments(slots * drpm::kMomentsSize);
  std::vector<drpm::SubsetChunk> chunk(chunks);
  drpm::PartitionLogProbArgs<T> args{};
  args.rule = drpm::quadrature_rule<T>();
  std::vector<double> scratch(drpm::DRPM_ISA::factor_scratch_doubles(n, args.rule.nodes));
  args.log_scores = log_scores;
  args.labels = labels;
  args.log_prob = log_prob;
  args.grad_log_scores = grad;
  args.n = n;
  args.num_subsets = subsets;
  args.by_subset = by_subset;
  args.offset = offset.data();
  args.grouped = grouped.data();
  std::vector<double> largest(subsets + 1);
  args.largest = largest.data();
  std::vector<T> label(n + 1);
  args.label = label.data();
  args.score = score.data();
  args.log_remainder = remainder.data();
  args.value = value.data();
  args.log_factor = factor.data();
  args.chunks = chunk.data();
  args.chunk_sum = sum.data();
  args.moments = moments.data();
  args.first_slot = first_slot.data();
  args.by_moments = by_moments.data();
  args.counts = counts.data();
  args.factor_scratch = scratch.data();
  drpm::partition_log_prob_rows(args, 0, 1);
}

template <class T>
void check(int64_t rows, int64_t n, int64_t subsets, double scale, bool invalid, bool with_gradient,
           bool by_subset = false) {
  Random random(rows * 17 + n * 3 + subsets);
  const int64_t scores = n * (by_subset ? subsets : 1);  // of a row
  auto log_scores = random.normals<T>(rows * scores, scale);
  if (by_subset)  // the last row of a matrix is not read
    for (int64_t i = 0; i < rows * n; ++i)
      log_scores[(i / n + 1) * scores - n + i % n] = std::numeric_limits<T>::quiet_NaN();
  Buffer<int64_t> labels(rows * n), sorted(rows * n), grouped(rows * n);
  for (int64_t& label : labels) label = random.below(subsets);
  if (subsets > 3)
    for (int64_t& label : labels) label = label == 1 ? 2 : label;  // an empty subset
  if (invalid) labels[rows * n - 1] = subsets, labels[0] = -1;
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = grouped.begin() + row * n;
    const int64_t* of_row = labels.data() + row * n;
    std::iota(begin, begin + n, 0);
    std::stable_sort(begin, begin + n, [of_row](int64_t a, int64_t b) { return of_row[a] < of_row[b]; });
    for (int64_t i = 0; i < n; ++i) sorted[row * n + i] = of_row[begin[i]];
  }
  const int64_t gradients = with_gradient ? rows * scores : 0;
  auto got = poisoned<T>(rows), want = poisoned<T>(rows);
  auto got_grad = poisoned<T>(gradients), want_grad = poisoned<T>(gradients);
  for (int64_t row = 0; row < rows; ++row)
    reference_row(log_scores.data() + row * scores, labels.data() + row * n, n, subsets, by_subset, want.data() + row,
                  with_gradient ? want_grad.data() + row * scores : nullptr);
  auto largest = unset(rows * (by_subset ? subsets : 1)), log_sum = unset(rows * subsets),
       value = unset(rows * subsets);
  auto gamma = unset(rows * subsets), point = unset(rows * n);
  const drpm::QuadratureRule& rule = drpm::quadrature_rule<T>();
  drpm::PartitionLogProbCudaArgs<T> args{};
  args.log_scores = log_scores.data();
  args.sorted_labels = sorted.data();
  args.grouped = grouped.data();
  args.log_prob = got.data();
  if (with_gradient) args.grad_log_scores = got_grad.data();
  args.rows = rows;
  args.n = n;
  args.num_subsets = subsets;
  args.by_subset = by_subset;
  args.nodes = rule.nodes;
  args.drop = rule.drop;
  std::copy_n(rule.node, rule.nodes, args.node);
  std::copy_n(rule.node_weight, rule.nodes, args.node_weight);
  args.largest = largest.data();
  args.log_sum = log_sum.data();
  args.value = value.data();
  args.gamma = gamma.data();
  args.point = point.data();
  expect_launched("partition_log_prob", drpm::partition_log_prob_cuda(args, nullptr));
  // two quadratures over panels that differ within the 7 % of Eq. 8
  expect_close("log_prob", got, want, sizeof(T) == 4 ? 1e-6 : 1e-11);
  expect_close("grad_log_scores", got_grad, want_grad, sizeof(T) == 4 ? 1e-6 : 1e-11);
}

template <class T>
void all() {
  check<T>(2, 1, 1, 1, false, true);
  check<T>(3, 5, 3, 1, false, true);
  check<T>(2, 40, 4, 3, false, true);
  check<T>(2, 40, 4, 3, true, true);
  check<T>(2, 90, 2, 40, false, false);
  check<T>(1, 0, 2, 1, false, true);
  check<T>(2, 1, 1, 1, false, true, true);
  check<T>(3, 40, 5, 3, false, true, true);
  check<T>(2, 40, 4, 3, true, true, true);
  check<T>(2, 90, 3, 30, false, false, true);
  if (small_grids_only()) return;
  check<T>(1, 900, 2, 1, false, true);
  check<T>(1, 9000, 2, 0.3, false, true);  // threads that multiply more ratios than one product takes
}

void body() {
  all<float>();
  all<double>();
}

DRPM_CUDA_DRIVER(body)
