// The banded relaxed sort against the dense formula in double: P = softmax of -D_i(j)/tau, every sum written out.
#include <functional>
#include <numeric>

#include "band/band_cuda.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

struct Case {
  int64_t rows, n, planes;
  double tau, scale;
  bool ties;
};

// One batch row, dense, in double.
struct Dense {
  int64_t n;
  std::vector<double> s, p;  // p (n, n) in the sorted order

  Dense(const double* scores, const int64_t* order, int64_t size, double tau) : n(size), s(size), p(size * size) {
    for (int64_t i = 0; i < n; ++i) s[i] = scores[order[i]];
    for (int64_t i = 0; i < n; ++i) {
      double total = 0;
      for (int64_t j = 0; j < n; ++j) {
        double drop = std::fabs(s[i] - s[j]);
        for (int64_t l = std::min(i, j) + 1; l < std::max(i, j); ++l) drop += 2 * std::fabs(s[l] - s[j]);
        total += p[i * n + j] = std::exp(-drop / tau);
      }
      for (int64_t j = 0; j < n; ++j) p[i * n + j] /= total;
    }
  }
};

// grad_s from Q (n, n): sum_ij Q_ij dL_ij/ds with L_ij tau = (n + 1 - 2 i) s_j - sum_l |s_j - s_l|, i 1-based.
std::vector<double> scores_gradient(const Dense& d, const std::function<double(int64_t, int64_t)>& q, double tau) {
  std::vector<double> grad(d.n, 0.0);
  for (int64_t i = 0; i < d.n; ++i)
    for (int64_t j = 0; j < d.n; ++j) {
      const double value = q(i, j) / tau;
      grad[j] += value * static_cast<double>(d.n - 1 - 2 * i);
      for (int64_t l = 0; l < d.n; ++l) {
        const double sign = d.s[j] > d.s[l] ? 1 : d.s[j] < d.s[l] ? -1 : 0;
        grad[j] -= value * sign;
        grad[l] += value * sign;
      }
    }
  return grad;
}

template <class T>
class Check {
 public:
  Check(const Case& c) : c_(c), random_(c.n * 31 + c.planes) {
    scores_ = random_.normals<T>(c.rows * c.n, c.scale);
    if (c.ties)
      for (T& x : scores_) x = static_cast<T>(std::round(2 * x) / 2);
    order_.resize(c.rows * c.n);
    for (int64_t row = 0; row < c.rows; ++row) {
      const auto begin = order_.begin() + row * c.n;
      std::iota(begin, begin + c.n, 0);
      const T* s = scores_.data() + row * c.n;
      std::stable_sort(begin, begin + c.n, [s](int64_t a, int64_t b) { return s[a] > s[b]; });
    }
    const std::vector<double> wide(scores_.begin(), scores_.end());
    for (int64_t row = 0; row < c.rows; ++row)
      dense_.emplace_back(wide.data() + row * c.n, order_.data() + row * c.n, c.n, c.tau);
    sorted_ = unset(c.rows * c.n);
    expect_launched("gather",
                    drpm::band_gather_scores_cuda(scores_.data(), order_.data(), c.rows, c.n, sorted_.data(), nullptr));
    args_.band = {sorted_.data(), c.rows, c.n, c.tau};
    args_.planes = c.planes;
    args_.scores = scores_.data();
    args_.order = order_.data();
    inverse_sum_ = unset(c.rows * c.n);
    center_ = unset(c.rows * c.n);
    moments_ = unset(2 * c.rows * c.n);
    grad_scores_ = poisoned<T>(c.rows * c.n);
    args_.inverse_sum = inverse_sum_.data();
    args_.center = center_.data();
    args_.moments = moments_.data();
    args_.grad_scores = grad_scores_.data();
  }

  void planes() {
    const int64_t n = c_.n, size = c_.rows * c_.planes * n;
    const auto left = random_.normals<T>(size, 1), right = random_.normals<T>(size, 1);
    auto product = poisoned<T>(size), sum = poisoned<T>(size);
    Buffer<T> want_product(size, 0), want_sum(size, 0), want_grad(c_.rows * n);
    args_.left = left.data();
    args_.right = right.data();
    args_.product = product.data();
    args_.sum = sum.data();
    expect_launched("row sums", drpm::band_row_sums_cuda(args_, nullptr));
    expect_launched("rows", drpm::band_rows_cuda(args_, nullptr));
    expect_launched("center", drpm::band_center_cuda(args_, nullptr));
    expect_launched("columns", drpm::band_columns_cuda(args_, nullptr));
    expect_launched("moments", drpm::band_moments_cuda(args_, nullptr));
    expect_launched("gradient", drpm::band_scores_gradient_cuda(args_, nullptr));
    for (int64_t row = 0; row < c_.rows; ++row) {
      const Dense& d = dense_[row];
      std::vector<double> center(n, 0.0);
      for (int64_t q = 0; q < c_.planes; ++q) {
        const int64_t at = (row * c_.planes + q) * n;
        for (int64_t i = 0; i < n; ++i) {
          double here = 0;
          for (int64_t j = 0; j < n; ++j) {
            here += d.p[i * n + j] * right[at + j];
            want_sum[at + j] += static_cast<T>(d.p[i * n + j] * left[at + i]);
          }
          want_product[at + i] = static_cast<T>(here);
          center[i] += left[at + i] * here;
        }
      }
      const auto q_of = [&](int64_t i, int64_t j) {
        double value = -center[i];
        for (int64_t q = 0; q < c_.planes; ++q)
          value += double(left[(row * c_.planes + q) * n + i]) * right[(row * c_.planes + q) * n + j];
        return d.p[i * n + j] * value;
      };
      keep_gradient(row, scores_gradient(d, q_of, c_.tau), &want_grad);
    }
    expect_close("product", product, want_product, tolerance());
    expect_close("sum", sum, want_sum, tolerance());
    expect_close("grad_scores", grad_scores_, want_grad, gradient_tolerance());
  }

  // One-hot left factors, by label, against the same factors written out.
  void labels() {
    const int64_t n = c_.n, size = c_.rows * c_.planes * n;
    const auto right = random_.normals<T>(size, 1);
    Buffer<T> left(size, 0);
    Buffer<int64_t> label(c_.rows * n);
    for (int64_t at = 0; at < c_.rows * n; ++at) {
      label[at] = random_.below(c_.planes);
      left[(at / n * c_.planes + label[at]) * n + at % n] = 1;
    }
    args_.left = left.data();
    args_.right = right.data();
    args_.label = label.data();
    expect_launched("center", drpm::band_center_cuda(args_, nullptr));
    expect_launched("moments", drpm::band_moments_cuda(args_, nullptr));
    expect_launched("gradient", drpm::band_scores_gradient_cuda(args_, nullptr));
    const Buffer<T> want = grad_scores_;
    const Buffer<double> want_center = center_;
    center_.assign(center_.size(), NAN);
    inverse_sum_.assign(inverse_sum_.size(), NAN);
    expect_launched("label center", drpm::band_label_center_cuda(args_, nullptr));
    expect_launched("label moments", drpm::band_label_moments_cuda(args_, nullptr));
    expect_launched("gradient", drpm::band_scores_gradient_cuda(args_, nullptr));
    expect_close("center by label", center_, want_center, tolerance());
    expect_close("grad_scores by label", grad_scores_, want, gradient_tolerance());
  }

  // Every move of planes there and back, and the hard permutation.
  void moves() {
    const int64_t n = c_.n, size = c_.rows * c_.planes * n;
    const auto elements = random_.normals<T>(size, 1);
    for (const bool by_column : {false, true})
      for (const bool sorted : {false, true}) {
        auto planes = poisoned<T>(size), back = poisoned<T>(size), want = poisoned<T>(size);
        drpm::CudaPlaneMove<T> move{c_.rows,
                                    n,
                                    c_.planes,
                                    sorted ? order_.data() : nullptr,
                                    by_column ? c_.planes : 1,
                                    by_column ? 1 : n,
                                    elements.data(),
                                    planes.data(),
                                    sorted ? scores_.data() : nullptr};
        expect_launched("gather", drpm::band_gather_planes_cuda(move, nullptr));
        for (int64_t at = 0; at < size; ++at) {
          const int64_t j = at % n, q = at / n % c_.planes, row = at / n / c_.planes;
          const int64_t index = sorted ? order_[row * n + j] : j;
          want[at] = elements[row * n * c_.planes + (by_column ? index * c_.planes + q : q * n + index)];
        }
        expect_close("gathered planes", planes, want, 0);
        move.from = planes.data();
        move.to = back.data();
        expect_launched("scatter", drpm::band_scatter_planes_cuda(move, nullptr));
        expect_close("scattered planes", back, elements, 0);
      }
    auto hard = poisoned<T>(c_.rows * n * n);
    Buffer<T> want(c_.rows * n * n, 0);
    for (int64_t line = 0; line < c_.rows * n; ++line) want[line * n + order_[line]] = 1;
    args_.permutation = hard.data();
    expect_launched("hard", drpm::band_hard_cuda(args_, nullptr));
    expect_close("hard permutation", hard, want, 0);
  }

  void dense() {
    const int64_t n = c_.n, size = c_.rows * n * n;
    const auto grad = random_.normals<T>(size, 1);
    auto permutation = poisoned<T>(size);
    Buffer<T> want(size), want_grad(c_.rows * n);
    args_.grad = grad.data();
    args_.permutation = permutation.data();
    expect_launched("dense", drpm::band_dense_cuda(args_, nullptr));
    expect_launched("dense center", drpm::band_dense_center_cuda(args_, nullptr));
    expect_launched("dense moments", drpm::band_dense_moments_cuda(args_, nullptr));
    expect_launched("gradient", drpm::band_scores_gradient_cuda(args_, nullptr));
    for (int64_t row = 0; row < c_.rows; ++row) {
      const Dense& d = dense_[row];
      const int64_t* order = order_.data() + row * n;
      const T* g = grad.data() + row * n * n;
      std::vector<double> center(n, 0.0);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j) {
          want[(row * n + i) * n + order[j]] = static_cast<T>(d.p[i * n + j]);
          center[i] += d.p[i * n + j] * g[i * n + order[j]];
        }
      const auto q_of = [&](int64_t i, int64_t j) { return d.p[i * n + j] * (g[i * n + order[j]] - center[i]); };
      keep_gradient(row, scores_gradient(d, q_of, c_.tau), &want_grad);
    }
    expect_close("permutation", permutation, want, tolerance());
    expect_close("grad_scores of permutation", grad_scores_, want_grad, gradient_tolerance());
  }

 private:
  static double tolerance() { return sizeof(T) == 4 ? 1e-6 : 1e-13; }
  // P (u - c) / tau: rounding of the bracket is magnified by 1 / tau, here and in the dense sums above
  double gradient_tolerance() const { return 4 * tolerance() * std::max(1.0, 1 / c_.tau); }

  void keep_gradient(int64_t row, const std::vector<double>& sorted, Buffer<T>* out) {
    for (int64_t j = 0; j < c_.n; ++j) (*out)[row * c_.n + order_[row * c_.n + j]] = static_cast<T>(sorted[j]);
  }

  Case c_;
  Random random_;
  Buffer<T> scores_, grad_scores_;
  Buffer<int64_t> order_;
  Buffer<double> sorted_, inverse_sum_, center_, moments_;
  std::vector<Dense> dense_;
  drpm::CudaBandArgs<T> args_{};
};

template <class T>
void all() {
  const Case cases[] = {{2, 1, 1, 1, 1, false},    {3, 5, 2, 1, 1, false},   {1, 33, 3, 0.3, 1, false},
                        {2, 40, 11, 10, 1, false}, {2, 40, 4, 1, 2, true},   {1, 50, 15, 1e-4, 1, false},
                        {1, 45, 2, 1e3, 1, false}, {1, 36, 8, 1, 80, false}, {1, 65, 2, 3, 1, false},
                        {1, 257, 1, 0.2, 1, false}};
  for (const Case& c : cases) {
    if (small_grids_only() && (c.n > 40 || c.planes > 4)) continue;
    Check<T> check(c);
    check.planes();
    check.labels();
    check.moves();
    check.dense();
  }
}

void body() {
  all<float>();
  if (!small_grids_only()) all<double>();
}

DRPM_CUDA_DRIVER(body)
