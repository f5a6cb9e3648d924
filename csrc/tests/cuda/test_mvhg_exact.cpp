#include "mvhg/contour/entropy.h"
#include "mvhg/draw/draw.h"
#include "mvhg/tables/exact.h"
#include "special/log_factorial_cuda.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

// The CPU's kernels on memory of one task, and the same on the device.
template <class T>
class Check {
 public:
  // Row 1 asks for more than there is, row 2 draws nothing, row 3 everything. `order`: 0 natural, 1 one for all rows,
  // 2 one by row.
  Check(int64_t batch, int64_t samples, int64_t classes, int64_t most, int order, double spread = 1.5)
      : batch_(batch), samples_(samples), rows_(batch * samples), classes_(classes), random_(batch * 7 + most) {
    for (int64_t b = 0; b < batch; ++b) {
      int64_t total = 0;
      for (int64_t k = 0; k < classes; ++k) {
        m_.push_back(b == 0 ? most : random_.below(most + 1));
        total += m_.back();
      }
      n_.push_back(b == 1 ? total + 1 : b == 2 ? 0 : b == 3 ? total : random_.below(total + 1));
      largest_ = std::max(largest_, n_.back());
    }
    for (int64_t row = 0; row < (order == 2 ? rows_ : 1); ++row)
      for (int64_t k = 0; k < classes; ++k) order_.push_back(row % 2 == 0 ? classes - 1 - k : (k + row) % classes);
    log_omega_ = random_.template normals<T>(batch * classes, spread);
    set_up(order);
  }

  // One row of these counts and log-weights.
  Check(Buffer<int64_t> m, int64_t n, Buffer<T> log_omega, int64_t samples)
      : batch_(1),
        samples_(samples),
        rows_(samples),
        classes_(static_cast<int64_t>(m.size())),
        largest_(n),
        random_(n),
        m_(m),
        n_{n},
        log_omega_(log_omega) {
    set_up(0);
  }

  void sample(double tau, bool hard, bool noise, bool gradient) {
    const int64_t size = rows_ * classes_;
    common_.tau = tau;
    common_.hard = hard;
    common_.noise = noise;
    common_.use = hard && !gradient ? drpm::TableUse::kSample : drpm::TableUse::kRelaxedSample;
    auto want = poisoned<T>(size), got = poisoned<T>(size);
    auto want_statistics = poisoned<double>(3 * size), got_statistics = poisoned<double>(3 * size);
    drpm::MvhgSampleExactArgs<T> args{on_host(), want.data(), gradient ? want_statistics.data() : nullptr};
    drpm::mvhg_sample_exact_rows(args, 0, rows_);
    drpm::MvhgSampleExactCuda<T> call{args, {}, nullptr, 0, 0, largest_};
    call.args.common = on_device();
    call.args.sizes = got.data();
    if (gradient) call.args.statistics = got_statistics.data();
    call.chunks = drpm::exact_chunks(batch_, samples_, common_.counts.order_stride != 0);
    call.group = (samples_ + call.chunks - 1) / call.chunks;
    place(&call, batch_ * call.chunks, false, 0);
    expect_launched("sample", drpm::mvhg_sample_exact_cuda(call, nullptr));
    expect_close("sizes", got, want, hard ? 0 : (sizeof(T) == 4 ? 2e-5 : 1e-10));
    if (!gradient) return;
    expect_close("statistics", got_statistics, want_statistics, sizeof(T) == 4 ? 2e-4 : 1e-9);

    const auto grad_sizes = random_.template normals<T>(size, 1);
    constexpr int64_t kGroup = 3;
    const int64_t chunks = (samples_ + kGroup - 1) / kGroup;
    auto want_grad = poisoned<double>(batch_ * chunks * classes_), got_grad = want_grad;
    drpm::MvhgSampleExactBackwardArgs<T> back{
        on_host(), grad_sizes.data(), want_statistics.data(), want_grad.data(), chunks, kGroup};
    drpm::mvhg_sample_exact_backward_groups(back, 0, batch_ * chunks);
    drpm::MvhgSampleExactBackwardCuda<T> back_call{back, {}, nullptr, largest_};
    back_call.args.common = on_device();
    back_call.args.grad_log_omega = got_grad.data();
    place(&back_call, batch_ * chunks, true, 2 * kGroup * classes_);
    expect_launched("backward", drpm::mvhg_sample_exact_backward_cuda(back_call, nullptr));
    expect_close("gradient", got_grad, want_grad, sizeof(T) == 4 ? 2e-5 : 1e-10);
  }

  // The host may know a smaller bound on n than the rows keep to: those rows are NaN, the others as before.
  void beyond_the_bound() {
    const int64_t size = rows_ * classes_, known = largest_, bound = n_[0] - 1;  // row 0 asks for one more
    common_.tau = 1;
    common_.hard = common_.noise = true;
    common_.use = drpm::TableUse::kRelaxedSample;
    auto want = poisoned<T>(size), got = want;
    auto statistics = poisoned<double>(3 * size);
    drpm::MvhgSampleExactArgs<T> args{on_host(), want.data(), statistics.data()};
    drpm::mvhg_sample_exact_rows(args, 0, rows_);
    largest_ = bound;
    for (int64_t row = 0; row < rows_; ++row)
      if (n_[row % batch_] > largest_)
        for (int64_t k = 0; k < classes_; ++k) want[row * classes_ + k] = static_cast<T>(NAN);
    drpm::MvhgSampleExactCuda<T> call{args, {}, nullptr, 1, samples_, largest_};
    call.args.common = on_device();
    call.args.sizes = got.data();
    place(&call, batch_, false, 0);
    expect_launched("beyond the bound", drpm::mvhg_sample_exact_cuda(call, nullptr));
    expect_close("beyond the bound", got, want, 0);
    const Buffer<T> ones(size, T(1));
    auto grad = poisoned<double>(batch_ * classes_), expected = grad;
    drpm::MvhgSampleExactBackwardCuda<T> back{
        {on_device(), ones.data(), statistics.data(), grad.data(), 1, samples_}, {}, nullptr, largest_};
    place(&back, batch_, true, 2 * samples_ * classes_);
    expect_launched("beyond the bound, backward", drpm::mvhg_sample_exact_backward_cuda(back, nullptr));
    for (int64_t b = 0; b < batch_; ++b)  // the sum of sizes does not depend on the weights
      for (int64_t k = 0; k < classes_; ++k) expected[b * classes_ + k] = n_[b] > largest_ || b == 1 ? NAN : 0;
    expect_close("beyond the bound, gradient", grad, expected, 1e-6);
    largest_ = known;
  }

  // An order that names a class that is not there makes NaN of its rows.
  void with_order_entry(int64_t position, int64_t klass) {
    const int64_t before = order_[position];
    order_[position] = klass;
    sample(1, true, true, true);
    order_[position] = before;
  }

  void draw(int64_t largest_table) {
    common_.use = drpm::TableUse::kPlain;
    common_.counts.order = nullptr;
    common_.counts.order_stride = 0;
    auto want = poisoned<T>(rows_ * classes_), got = want;
    drpm::MvhgDrawArgs<T> args{on_host(), want.data(), contours_.data(), largest_table};
    contours_.assign(drpm::contour_scratch(classes_), NAN);
    args.contours = contours_.data();
    drpm::mvhg_draw_rows(args, 0, rows_);
    drpm::MvhgDrawCuda<T> call{args, {}, nullptr, 0, 0};
    call.args.common = on_device();
    call.args.sizes = got.data();
    call.chunks = drpm::exact_chunks(batch_, samples_, false);
    call.group = (samples_ + call.chunks - 1) / call.chunks;
    place(&call, batch_ * call.chunks, false, drpm::kExactWarps * drpm::contour_scratch(classes_), largest_table);
    expect_launched("draw", drpm::mvhg_draw_cuda(call, nullptr));
    expect_close("draw", got, want, 0);
  }

  void entropy() {
    common_.counts.order = nullptr;
    common_.counts.order_stride = 0;
    const drpm::MvhgExactArgs<T> host = on_host();
    Buffer<double> outcomes(2 * drpm::kEntropyOutcomes);
    const auto v = random_.template normals<T>(batch_ * classes_, 1);
    for (const bool hessian : {false, true}) {
      auto want = poisoned<T>(batch_), got = want, want_class = poisoned<T>(batch_ * classes_), got_class = want_class;
      contours_.assign(drpm::entropy_scratch(classes_), NAN);
      drpm::MvhgEntropyArgs<T> args{host.counts,
                                    log_omega_.data(),
                                    hessian ? v.data() : nullptr,
                                    hessian ? nullptr : want.data(),
                                    want_class.data(),
                                    drpm::log_factorials_below(host.log_factorials, drpm::kEntropyFactorials),
                                    contours_.data(),
                                    outcomes.data(),
                                    outcomes.data() + drpm::kEntropyOutcomes};
      drpm::mvhg_entropy_rows(args, 0, batch_);
      if (!hessian) args.entropy = got.data();
      args.by_class = got_class.data();
      args.log_factorials = {table_.data(), drpm::kEntropyFactorials};
      args.f = args.phi = nullptr;
      scratch_.assign(drpm::entropy_rows_in_flight(batch_) * drpm::entropy_scratch(classes_), NAN);
      args.contours = scratch_.data();
      expect_launched("entropy", drpm::mvhg_entropy_cuda(args, nullptr));
      expect_close("entropy", got, want, sizeof(T) == 4 ? 4e-7 : 1e-12);
      expect_close("entropy by class", got_class, want_class, sizeof(T) == 4 ? 4e-7 : 1e-10);
    }
  }

 private:
  void set_up(int order) {
    const int64_t batch = batch_, samples = samples_, classes = classes_;
    table_ = poisoned<double>(drpm::kExactTableSize);
    expect_launched("table", drpm::fill_log_factorials_cuda(table_.data(), drpm::kExactTableSize, nullptr));
    common_.counts = {m_.data(),
                      n_.data(),
                      order == 0 ? nullptr : order_.data(),
                      batch,
                      classes,
                      classes,
                      1,
                      order == 2 ? classes : 0};
    common_.samples = samples;
    common_.log_omega = log_omega_.data();
    common_.seeds = {seed_.data(), batch, batch % 2 == 0 ? batch / 2 : batch};
  }

  drpm::MvhgExactArgs<T> on_host() {
    drpm::MvhgExactArgs<T> args = common_;
    drpm::TableBounds bounds{};
    drpm::mvhg_table_bounds(drpm::MvhgTableBoundsArgs<T>{args, INT64_MAX, &bounds}, 0, 1);
    drpm::Carver measure(nullptr);
    drpm::place_tables(&measure, bounds, true, &args);
    tables_.assign(measure.size() / sizeof(double), NAN);
    drpm::Carver carver(tables_.data());
    drpm::place_tables(&carver, bounds, true, &args);
    args.log_factorials = drpm::log_factorial_table(bounds.counts.max_m + 1);
    return args;
  }

  drpm::MvhgExactArgs<T> on_device() {
    drpm::MvhgExactArgs<T> args = common_;
    args.log_factorials = {table_.data(), drpm::kExactTableSize};
    return args;
  }

  template <class Call>
  void place(Call* call, int64_t items, bool backward, int64_t extra, int64_t largest_n = -2) {
    call->layout =
        drpm::exact_layout_cuda(call->args.common, items, largest_n == -2 ? largest_ : largest_n, backward, extra);
    if (items > 3 && items < 100) call->layout.blocks = 2;  // blocks go on from group to group
    scratch_.assign(call->layout.blocks * drpm::block_bytes(call->layout) / sizeof(double), NAN);
    call->scratch = reinterpret_cast<char*>(scratch_.data());
  }

  int64_t batch_, samples_, rows_, classes_, largest_ = 0;
  Random random_;
  Buffer<int64_t> m_, n_, order_, seed_{42, -7};
  Buffer<T> log_omega_;
  Buffer<double> table_, tables_, contours_, scratch_;
  drpm::MvhgExactArgs<T> common_{};
};

template <class T>
void all() {
  for (const int order : {0, 1, 2}) {
    Check<T> check(7, 4, 3, 12, order);
    check.sample(1, true, true, true);
    check.sample(0.5, false, true, true);
    check.sample(1, true, true, false);
    check.sample(0.1, true, false, true);
    if (order > 0) {
      check.with_order_entry(0, -1);
      check.with_order_entry(2, 3);
      continue;
    }
    check.beyond_the_bound();
    check.draw(1000);
    check.draw(0);
    check.entropy();
  }
  Check<T> one_class(2, 2, 1, 9, 0);
  one_class.sample(1, true, true, true);
  one_class.draw(1000);
  one_class.entropy();
  Check<T> two_classes(1, 9, 2, 40, 0);
  two_classes.sample(1, true, true, true);
  two_classes.entropy();
  Check<T> wide(1, 2, 5, 300, 0);
  wide.sample(1, true, true, true);
  wide.draw(5000);
  wide.entropy();
  // Supports of 33 outcomes, one more than a warp; the last is likely, or the first.
  for (const T weight : {T(-3), T(8)}) {
    Check<T> edges({32, 64, 48}, 64, {weight, weight / 2, 0}, 8);
    edges.sample(0.7, true, true, true);
    edges.sample(0.7, false, true, true);
    edges.draw(1000);
    edges.draw(64);
    edges.draw(63);
    edges.entropy();
  }
  Check<T> logs(1, 2, 4, 60, 0, 12);  // weights that would underflow: tables hold logs only
  logs.sample(60, true, true, true);
  if (small_grids_only()) return;
  Check<T> many(700, 1, 2, 4, 0);
  many.sample(1, true, true, true);
}

// Without a bound on n the layout is that of the largest n that tables are made for.
void unknown_bound() {
  drpm::MvhgExactArgs<double> args{};
  args.counts.classes = 3;
  const auto stride = [&](int64_t n) { return drpm::exact_layout_cuda(args, 1, n, false, 0).stride; };
  if (stride(-1) <= stride(100000)) fail("layout without a bound");
}

void body() {
  unknown_bound();
  all<float>();
  all<double>();
}

DRPM_CUDA_DRIVER(body)
