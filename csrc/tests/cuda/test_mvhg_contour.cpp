#include "mvhg/contour/contour.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

// The CPU adds the nodes in packs, a warp by lanes: sums differ by rounding, relative to the terms they cancel.
template <class T>
constexpr double kAllowed = sizeof(T) == 4 ? 2e-7 : 2e-12;

template <class T>
class Check {
 public:
  // Row 1 asks for more than there is, row 2 draws nothing, row 3 everything; `shared`: one m and n for all rows.
  Check(int64_t rows, int64_t classes, int64_t most, bool shared)
      : rows_(rows), classes_(classes), random_(rows * 7 + classes * 131 + most) {
    for (int64_t row = 0; row < (shared ? 1 : rows); ++row) {
      int64_t total = 0;
      for (int64_t k = 0; k < classes; ++k) {
        m_.push_back(row == 0 ? most : random_.below(most + 1));
        total += m_.back();
      }
      n_.push_back(row == 1 ? total + 1 : row == 2 ? 0 : row == 3 ? total : random_.below(total + 1));
    }
    log_omega_ = random_.template normals<T>(rows * classes, 2);
    other_ = random_.template normals<T>(rows * classes, 2);
    third_ = random_.template normals<T>(rows * classes, 1);
    if (rows > 4) log_omega_[4 * classes] = static_cast<T>(NAN);
    counts_ = {m_.data(), n_.data(), nullptr, rows, classes, shared ? 0 : classes, shared ? 0 : 1, 0};
  }

  void normaliser() {
    auto value = poisoned<T>(rows_);
    both("normaliser without mean", drpm::contour_scratch(classes_),
         drpm::MvhgNormalizerArgs<T>{counts_, log_omega_.data(), value.data(), nullptr, nullptr},
         drpm::mvhg_contour_rows, {&value}, {});
  }

  void all(bool shared) {
    normaliser();
    const int64_t elements = rows_ * classes_;
    auto value = poisoned<T>(rows_), mean = poisoned<T>(elements);
    both("normaliser", drpm::contour_scratch(classes_),
         drpm::MvhgNormalizerArgs<T>{counts_, log_omega_.data(), value.data(), mean.data(), nullptr},
         drpm::mvhg_contour_rows, {&value}, {&mean});
    const auto sizes = possible_sizes(shared);
    both("log_prob", drpm::contour_scratch(classes_),
         drpm::MvhgLogProbArgs<T>{counts_, sizes.data(), log_omega_.data(), value.data(), mean.data(), nullptr},
         drpm::mvhg_contour_rows, {&value}, {&mean});
    const int64_t scratch = drpm::contour_scratch(classes_) + classes_;
    both("covariance product", scratch,
         drpm::MvhgCumulantArgs<T>{counts_, log_omega_.data(), other_.data(), nullptr, nullptr, mean.data(), nullptr},
         drpm::mvhg_contour_rows, {&mean}, {});
    both("third cumulant", scratch,
         drpm::MvhgCumulantArgs<T>{counts_, log_omega_.data(), other_.data(), sizes.data(), nullptr, mean.data(),
                                   nullptr},
         drpm::mvhg_contour_rows, {&mean}, {});
    both("fourth cumulant", scratch,
         drpm::MvhgCumulantArgs<T>{counts_, log_omega_.data(), other_.data(), sizes.data(), third_.data(), mean.data(),
                                   nullptr},
         drpm::mvhg_contour_rows, {&mean}, {}, 1e3);  // what is left of squared variances
    auto mean_p = poisoned<T>(elements);
    both("kl", 2 * drpm::contour_scratch(classes_),
         drpm::MvhgKlArgs<T>{counts_, log_omega_.data(), other_.data(), value.data(), mean.data(), mean_p.data(),
                             nullptr},
         drpm::mvhg_contour_rows, {&value}, {&mean, &mean_p});
  }

 private:
  // Runs both kernels into the same outputs, one after the other, and compares.
  template <class Args>
  void both(const char* what, int64_t doubles, Args args, void (*cpu)(const Args&, int64_t, int64_t),
            std::vector<Buffer<T>*> outputs, std::vector<Buffer<T>*> more, double looser = 1) {
    outputs.insert(outputs.end(), more.begin(), more.end());
    Buffer<double> scratch(doubles, NAN);
    args.scratch = scratch.data();
    cpu(args, 0, rows_);
    std::vector<Buffer<T>> want;
    for (Buffer<T>* out : outputs) {
      want.push_back(*out);
      std::fill(out->begin(), out->end(), static_cast<T>(-12345.678));
    }
    Buffer<double> device_scratch(doubles * drpm::contour_rows_in_flight(rows_), NAN);
    args.scratch = device_scratch.data();
    expect_launched(what, drpm::mvhg_contour_cuda(args, rows_, doubles, nullptr));
    for (size_t i = 0; i < outputs.size(); ++i) expect_close(what, *outputs[i], want[i], looser * kAllowed<T>);
  }

  Buffer<T> possible_sizes(bool shared) {
    Buffer<T> sizes(rows_ * classes_);
    for (int64_t row = 0; row < rows_; ++row) {
      const int64_t* m = m_.data() + (shared ? 0 : row * classes_);
      int64_t left = n_[shared ? 0 : row], later = 0;
      for (int64_t k = 0; k < classes_; ++k) later += m[k];
      for (int64_t k = 0; k < classes_; ++k) {
        later -= m[k];
        const int64_t least = std::max<int64_t>(0, left - later), most = std::max(least, std::min(left, m[k]));
        const int64_t x = least + random_.below(most - least + 1);
        sizes[row * classes_ + k] = static_cast<T>(x);
        left -= x;
      }
      if (row == 5) sizes[row * classes_] += 1;  // impossible
      if (row == 6 && classes_ > 1 && sizes[row * classes_] > 1) {
        sizes[row * classes_] -= T(0.5);
        sizes[row * classes_ + 1] += T(0.5);
      }
    }
    return sizes;
  }

  int64_t rows_, classes_;
  Random random_;
  Buffer<int64_t> m_, n_;
  Buffer<T> log_omega_, other_, third_;
  drpm::MvhgCounts counts_;
};

template <class T>
void check(int64_t rows, int64_t classes, int64_t most, bool shared) {
  Check<T>(rows, classes, most, shared).all(shared);
}

template <class T>
void all() {
  check<T>(9, 3, 20, false);
  check<T>(7, 1, 5, false);
  check<T>(2, 40, 300, true);  // more classes than lanes
  check<T>(1, 2, 100000, true);
  if (small_grids_only()) return;
  check<T>(33, 2, 6, false);
  Check<T>(4300, 2, 1, false).normaliser();  // more rows than in flight, blocks of four warps
}

void body() {
  all<float>();
  all<double>();
}

DRPM_CUDA_DRIVER(body)
