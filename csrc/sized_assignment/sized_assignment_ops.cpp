#include <optional>
#include <tuple>

#include "glue/tensors.h"
#include "sized_assignment/row.h"

namespace drpm {
namespace {

constexpr const char* kOp = "sized_assignment";

// Calls f(row) for every row: large ones one after the other with all threads, many small ones side by side.
template <class F>
void for_problems(int64_t rows, int64_t scores, const F& f) {
  if (scores >= int64_t{1} << 17) {
    for (int64_t row = 0; row < rows; ++row) f(row);
    return;
  }
  for_rows(rows, 400 * scores, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) f(row);
  });
}

template <class T>
const T* optional_data(const char* argument, const std::optional<Tensor>& t, int64_t count) {
  return t.has_value() ? checked_data<T>(kOp, argument, *t, count) : nullptr;
}

int64_t checked_length(const int64_t* lengths, int64_t row, int64_t width) {
  if (lengths == nullptr) return width;
  return std::min(std::max<int64_t>(lengths[row], 0), width);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> sized_assignment(
    const Tensor& scores, const Tensor& low, const Tensor& high, const std::optional<Tensor>& weights,
    const std::optional<Tensor>& prices, const std::optional<Tensor>& lengths, double tau, bool relaxed, bool hard,
    double rounding) {
  check_float(kOp, "scores", scores);
  DRPM_CHECK(scores.dim() == 3, kOp, "scores", "have three dimensions", scores.dim());
  const int64_t rows = scores.size(0), classes = scores.size(1), width = scores.size(2);
  Tensor assignment = new_tensor(scores, {rows, classes, width});
  Tensor labels = new_tensor(scores, {rows, width}, ScalarType::Long);
  Tensor found = new_tensor(scores, {rows, classes}, ScalarType::Double);
  Tensor sizes = new_tensor(scores, {rows, classes}, ScalarType::Double);
  Tensor violation = new_tensor(scores, {rows}, ScalarType::Double);
  Tensor converged = new_tensor(scores, {rows}, ScalarType::Long);
  Tensor state = new_tensor(scores, {rows, classes}, ScalarType::Long);
  by_dtype(scores, [&](auto zero) {
    using T = decltype(zero);
    const T* u = checked_data<T>(kOp, "scores", scores, rows * classes * width);
    const T* w = optional_data<T>("weights", weights, rows * width);
    const double* start = optional_data<double>("prices", prices, rows * classes);
    const int64_t* counts = optional_data<int64_t>("lengths", lengths, rows);
    const double* least = checked_data<double>(kOp, "min_sizes", low, rows * classes);
    const double* most = checked_data<double>(kOp, "max_sizes", high, rows * classes);
    for_problems(rows, classes * width, [&](int64_t row) {
      SizedRow<T> r{};
      r.scores = u + row * classes * width;
      r.weights = w == nullptr ? nullptr : w + row * width;
      r.low = least + row * classes;
      r.high = most + row * classes;
      r.start = start == nullptr ? nullptr : start + row * classes;
      r.classes = classes;
      r.width = width;
      r.n = checked_length(counts, row, width);
      r.tau = tau;
      r.rounding = rounding;
      r.relaxed = relaxed;
      r.hard = hard;
      r.assignment = assignment.mutable_data_ptr<T>() + row * classes * width;
      r.labels = labels.mutable_data_ptr<int64_t>() + row * width;
      r.prices = found.mutable_data_ptr<double>() + row * classes;
      r.sizes = sizes.mutable_data_ptr<double>() + row * classes;
      r.violation = violation.mutable_data_ptr<double>() + row;
      r.state = state.mutable_data_ptr<int64_t>() + row * classes;
      r.converged = converged.mutable_data_ptr<int64_t>() + row;
      SizedSolver<T>(r).run();
    });
  });
  return {assignment, labels, found, sizes, violation, converged, state};
}

// Multipliers of the bounds that hold, H mu = (sum_i w_i v_i) - offset, of least norm                     (Eq. 7)
std::vector<double> multipliers(const SizedSums& sums, const std::vector<int64_t>& held, const double* offset,
                                const std::vector<int32_t>& subsets, double tau) {
  const int64_t classes = static_cast<int64_t>(subsets.size()), padded = sized_padded(classes);
  const int64_t count = static_cast<int64_t>(held.size());
  std::vector<double> c(count * count), ground(count, 0.0), x(count), pivots(count);
  std::vector<char> is_held(classes, 0);
  for (int64_t k : held) is_held[k] = 1;
  for (int64_t i = 0; i < count; ++i) {
    const double* row = sums.couplings.data() + held[i] * padded;
    for (int64_t j = 0; j < count; ++j) c[i * count + j] = row[held[j]] / tau;
    for (int64_t l = 0; l < classes; ++l)
      if (!is_held[l]) ground[i] += row[l] / tau;
    x[i] = sums.sizes[held[i]] - offset[subsets[held[i]]];
  }
  // parts that are coupled to nothing that is free: only differences count, their mean is 0
  std::vector<int64_t> part(count, -1), stack;
  std::vector<std::vector<int64_t>> parts;
  std::vector<char> grounded;
  for (int64_t i = 0; i < count; ++i) {
    if (part[i] >= 0) continue;
    parts.emplace_back();
    grounded.push_back(0);
    stack.assign(1, i);
    part[i] = static_cast<int64_t>(parts.size()) - 1;
    while (!stack.empty()) {
      const int64_t a = stack.back();
      stack.pop_back();
      parts.back().push_back(a);
      grounded.back() |= ground[a] > 0;
      for (int64_t b = 0; b < count; ++b)
        if (b != a && part[b] < 0 && c[a * count + b] > 0) {
          part[b] = part[i];
          stack.push_back(b);
        }
    }
  }
  sized_laplacian({c.data(), ground.data(), x.data(), pivots.data(), count, count, 0, 0}, 0, 1);
  for (size_t p = 0; p < parts.size(); ++p) {
    if (grounded[p]) continue;
    double mean = 0;
    for (int64_t i : parts[p]) mean += x[i] / static_cast<double>(parts[p].size());
    for (int64_t i : parts[p]) x[i] -= mean;
  }
  std::vector<double> mu(classes, 0.0);
  for (int64_t i = 0; i < count; ++i) mu[held[i]] = x[i];
  return mu;
}

template <class T>
void backward_row(const T* grad, const double* offset, const T* scores, const T* weights, const double* prices,
                  const int64_t* state, int64_t classes, int64_t width, int64_t n, double tau, T* grad_scores,
                  double* grad_bounds) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<int32_t> subsets;
  std::vector<int64_t> held;
  std::vector<double> p;
  bool failed = false;
  for (int64_t k = 0; k < classes; ++k) {
    grad_bounds[k] = 0;
    failed = failed || state[k] > kSizedForced || prices[k] != prices[k];
    if (state[k] == kSizedForced) continue;
    if (state[k] != kSizedInside) held.push_back(static_cast<int64_t>(subsets.size()));
    subsets.push_back(static_cast<int32_t>(k));
    p.push_back(prices[k]);
  }
  for (int64_t k = 0; k < classes; ++k) {
    std::fill(grad_scores + k * width, grad_scores + (k + 1) * width, T(0));
    if (!failed) continue;
    std::fill(grad_scores + k * width, grad_scores + k * width + n, static_cast<T>(nan));
    grad_bounds[k] = nan;
  }
  if (failed || subsets.size() < 2) return;
  const double origin = Elements<T>(scores, width, weights, n, subsets, 0).scan().origin();
  const Elements<T> all(scores, width, weights, n, subsets, origin);
  const std::vector<double> mu = multipliers(all.backward_sums(p, tau, grad), held, offset, subsets, tau);
  all.backward_write(p, tau, grad, mu, grad_scores);
  for (size_t i = 0; i < subsets.size(); ++i) grad_bounds[subsets[i]] = mu[i];
}

std::tuple<Tensor, Tensor> sized_assignment_backward(const Tensor& grad, const Tensor& offset, const Tensor& scores,
                                                     const std::optional<Tensor>& weights, const Tensor& prices,
                                                     const Tensor& state, const std::optional<Tensor>& lengths,
                                                     double tau) {
  check_float(kOp, "scores", scores);
  DRPM_CHECK(scores.dim() == 3, kOp, "scores", "have three dimensions", scores.dim());
  const int64_t rows = scores.size(0), classes = scores.size(1), width = scores.size(2);
  Tensor grad_scores = new_tensor(scores, {rows, classes, width});
  Tensor grad_bounds = new_tensor(prices, {rows, classes});
  by_dtype(scores, [&](auto zero) {
    using T = decltype(zero);
    const int64_t all = rows * classes * width;
    const T* g = checked_data<T>(kOp, "grad", grad, all);
    const T* u = checked_data<T>(kOp, "scores", scores, all);
    const T* w = optional_data<T>("weights", weights, rows * width);
    const double* c = checked_data<double>(kOp, "offset", offset, rows * classes);
    const double* p = checked_data<double>(kOp, "prices", prices, rows * classes);
    const int64_t* s = checked_data<int64_t>(kOp, "state", state, rows * classes);
    const int64_t* counts = optional_data<int64_t>("lengths", lengths, rows);
    for_problems(rows, classes * width, [&](int64_t row) {
      const int64_t at = row * classes;
      backward_row<T>(g + at * width, c + at, u + at * width, w == nullptr ? nullptr : w + row * width, p + at, s + at,
                      classes, width, checked_length(counts, row, width), tau,
                      grad_scores.mutable_data_ptr<T>() + at * width, grad_bounds.mutable_data_ptr<double>() + at);
    });
  });
  return {grad_scores, grad_bounds};
}

}  // namespace
}  // namespace drpm

// The host alone: tensors of a device are copied there and back by drpm/ops/sized_assignment.py.
STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) {
  m.impl("sized_assignment", TORCH_BOX(&drpm::sized_assignment));
  m.impl("sized_assignment_backward", TORCH_BOX(&drpm::sized_assignment_backward));
}
