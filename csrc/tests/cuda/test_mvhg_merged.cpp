#include "mvhg/two_class/merged.h"
#include "special/log_factorial_cuda.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

template <class T>
class Check {
 public:
  // `invalid`: row 1 asks for more than there is; `ordered`: classes in reverse order.
  Check(int64_t batch, int64_t samples, int64_t classes, int64_t most, bool invalid, bool ordered)
      : batch_(batch), rows_(batch * samples), classes_(classes), random_(batch * 7 + classes * 131 + most) {
    width_ = most + 1 + 256;
    for (int64_t b = 0; b < batch; ++b) {
      int64_t total = 0;
      for (int64_t k = 0; k < classes; ++k) {
        m_.push_back(b == 0 ? most : random_.below(most + 1));
        total += m_.back();
      }
      n_.push_back(invalid && b == 1 ? total + 1 : b == 2 ? 0 : random_.below(total + 1));
    }
    for (int64_t k = 0; k < classes; ++k) order_.push_back(classes - 1 - k);
    log_omega_ = random_.template normals<T>(batch * classes, 2);
    set_up(most, ordered);
  }

  // One row of these counts and log-weights.
  Check(Buffer<int64_t> m, int64_t n, Buffer<T> log_omega, int64_t samples)
      : batch_(1),
        rows_(samples),
        classes_(static_cast<int64_t>(m.size())),
        width_(n + 257),
        random_(n),
        m_(m),
        n_{n},
        log_omega_(log_omega) {
    set_up(*std::max_element(m.begin(), m.end()), false);
  }

  void sample(double tau, bool hard, bool noise, bool with_statistics) {
    const int64_t size = rows_ * classes_;
    auto got = poisoned<T>(size), want = poisoned<T>(size);
    auto got_statistics = poisoned<double>(2 * size), want_statistics = poisoned<double>(2 * size);
    Buffer<T> outcomes(2 * width_);
    drpm::MvhgSampleMergedArgs<T> args{counts_,
                                       log_omega_.data(),
                                       {seed_.data(), batch_, batch_ % 2 == 0 ? batch_ / 2 : batch_},
                                       want.data(),
                                       with_statistics ? want_statistics.data() : nullptr,
                                       tau,
                                       hard,
                                       noise,
                                       host_,
                                       outcomes.data(),
                                       scratch_.data(),
                                       width_};
    drpm::mvhg_sample_merged_rows(args, 0, rows_);
    args.sizes = got.data();
    if (with_statistics) args.statistics = got_statistics.data();
    args.log_factorials = device_;
    args.outcomes = nullptr;
    expect_launched("sample", drpm::mvhg_sample_merged_cuda(args, rows_, nullptr));
    expect_close("sizes", got, want, hard ? 0 : (sizeof(T) == 4 ? 2e-5 : 1e-11));
    if (!with_statistics) return;
    expect_close("statistics", got_statistics, want_statistics, sizeof(T) == 4 ? 2e-4 : 1e-10);

    const auto grad_sizes = random_.template normals<T>(size, 1);
    auto got_grad = poisoned<T>(size), want_grad = poisoned<T>(size);
    drpm::MvhgSampleMergedBackwardArgs<T> back{
        counts_, grad_sizes.data(), log_omega_.data(), want_statistics.data(), want_grad.data(), scratch_.data()};
    drpm::mvhg_sample_merged_backward_rows(back, 0, rows_);
    back.grad_log_omega = got_grad.data();
    expect_launched("backward", drpm::mvhg_sample_merged_backward_cuda(back, rows_, nullptr));
    expect_close("grad_log_omega", got_grad, want_grad, kRounding<T>);
  }

  void log_prob() {
    const int64_t size = batch_ * classes_;
    Buffer<T> sizes(size);
    for (int64_t b = 0; b < batch_; ++b) {
      int64_t left = n_[b];
      for (int64_t k = 0; k < classes_; ++k) {
        int64_t later = 0;
        for (int64_t l = k + 1; l < classes_; ++l) later += m_[b * classes_ + l];
        const int64_t least = std::max<int64_t>(0, left - later), most = std::min(left, m_[b * classes_ + k]);
        const int64_t x = most < least ? 0 : least + random_.below(most - least + 1);
        sizes[b * classes_ + k] = static_cast<T>(x);
        left -= x;
      }
      if (b == 3 && classes_ > 1 && n_[b] > 2) sizes[b * classes_] += T(0.5), sizes[b * classes_ + 1] -= T(0.5);
      if (b == 4) sizes[b * classes_] += 1;
    }
    auto got = poisoned<T>(batch_), want = poisoned<T>(batch_);
    auto got_statistics = poisoned<double>(2 * size), want_statistics = poisoned<double>(2 * size);
    Buffer<double> outcomes(2 * drpm::kSummedOutcomes);
    drpm::MvhgCounts natural = counts_;
    natural.order = nullptr;
    drpm::MvhgLogProbMergedArgs<T> args{natural,         sizes.data(),           log_omega_.data(),
                                        want.data(),     want_statistics.data(), host_,
                                        outcomes.data(), scratch_.data()};
    drpm::mvhg_log_prob_merged_rows(args, 0, batch_);
    args.log_prob = got.data();
    args.statistics = got_statistics.data();
    args.log_factorials = device_;
    args.outcomes = nullptr;
    expect_launched("log_prob", drpm::mvhg_log_prob_merged_cuda(args, batch_, nullptr));
    expect_close("log_prob", got, want, sizeof(T) == 4 ? 4e-7 : 1e-12);
    for (int64_t b = 0; b < batch_; ++b)  // the last class has none
      for (int64_t i = 0; i < 2; ++i)
        got_statistics[2 * ((b + 1) * classes_ - 1) + i] = want_statistics[2 * ((b + 1) * classes_ - 1) + i];
    expect_close("statistics of log_prob", got_statistics, want_statistics, 1e-10);

    const auto grad = random_.template normals<T>(batch_, 1);
    auto got_sizes = poisoned<T>(size), want_sizes = poisoned<T>(size);
    auto got_omega = poisoned<T>(size), want_omega = poisoned<T>(size);
    drpm::MvhgLogProbMergedBackwardArgs<T> back{natural,           grad.data(),       sizes.data(),
                                                log_omega_.data(), want.data(),       want_statistics.data(),
                                                want_sizes.data(), want_omega.data(), scratch_.data()};
    drpm::mvhg_log_prob_merged_backward_rows(back, 0, batch_);
    back.grad_sizes = got_sizes.data();
    back.grad_log_omega = got_omega.data();
    expect_launched("backward", drpm::mvhg_log_prob_merged_backward_cuda(back, batch_, nullptr));
    expect_close("grad_sizes", got_sizes, want_sizes, kRounding<T>);
    expect_close("grad_log_omega", got_omega, want_omega, kRounding<T>);
  }

 private:
  void set_up(int64_t most, bool ordered) {
    const int64_t batch = batch_, classes = classes_;
    counts_ = {m_.data(), n_.data(), ordered ? order_.data() : nullptr, batch, classes, classes, 1, 0};
    table_ = poisoned<double>(drpm::kMergedTableSize);
    expect_launched("table", drpm::fill_log_factorials_cuda(table_.data(), drpm::kMergedTableSize, nullptr));
    host_ = drpm::log_factorial_table(classes * most + 1);
    device_ = {table_.data(), drpm::kMergedTableSize};
    scratch_.assign(drpm::merged_rows_in_flight(rows_) * 3 * classes, NAN);
  }

  int64_t batch_, rows_, classes_, width_;
  Random random_;
  Buffer<int64_t> m_, n_, order_, seed_{42, -7};
  Buffer<T> log_omega_;
  Buffer<double> table_, scratch_;
  drpm::MvhgCounts counts_;
  drpm::LogFactorialTable host_, device_;
};

template <class T>
void all() {
  for (const bool ordered : {false, true}) {
    Check<T> check(6, 2, 3, 40, true, ordered);
    check.sample(1, true, true, true);
    check.sample(0.5, false, true, true);
    check.sample(1, true, false, false);
    check.sample(0.1, false, false, true);
    if (!ordered) check.log_prob();
  }
  Check<T> one_class(2, 1, 1, 9, false, false);
  one_class.sample(1, true, true, true);
  one_class.log_prob();
  // Supports of 33 outcomes, one more than a warp; the last is likely, or the first.
  for (const T weight : {T(-3), T(8)}) {
    Check<T> edges({32, 64, 48}, 64, {weight, weight / 2, 0}, 8);
    edges.sample(0.7, true, true, true);
    edges.sample(0.7, false, true, true);
    edges.log_prob();
  }
  Check<T> wide(2, 3, 5, 700, false, false);
  wide.sample(1, true, true, true);
  wide.log_prob();
  if (small_grids_only()) return;
  Check<T> many(520, 1, 2, 6, false, false);
  many.sample(1, true, true, true);
  many.log_prob();
  Check<T> more_than_in_flight(8200, 1, 2, 2, false, false);
  more_than_in_flight.sample(1, true, true, true);
  more_than_in_flight.log_prob();
}

void body() {
  all<float>();
  all<double>();
}

DRPM_CUDA_DRIVER(body)
