// Sizes, order and subsets of a random partition in one call, and one back (docs/math/partition.md).
#include <optional>
#include <tuple>

#include "glue/register.h"
#include "glue/sum_rows.h"
#include "mvhg/tables/exact_ops.h"
#include "mvhg/two_class/merged_ops.h"
#include "partition/partition_ops.h"
#include "random_partition/random_partition.h"

namespace drpm {
namespace {

constexpr const char* kOp = "random_partition";
constexpr double kEps = 0.5;  // a boundary lies between two positions

struct Cpu {
  using Exact = ExactCpu;
  using Merged = MergedCpu;
  using Partition = PartitionCpu;

  template <class T>
  static void perturb(const PerturbArgs<T>& args, const Tensor&) {
    for_rows(args.rows, 8 * args.n, [&](int64_t begin, int64_t end) { perturb_rows(args, begin, end); });
  }

  template <class T>
  static void mask(const MaskArgs<T>& args, const Tensor&) {
    for_rows(args.rows, args.planes * args.n, [&](int64_t begin, int64_t end) { mask_rows(args, begin, end); });
  }

  static Tensor hard_sizes(const Tensor& statistics, const Tensor& like) {
    const int64_t rows = statistics.size(0), classes = statistics.size(1);
    const Tensor sizes = new_tensor(like, {rows, classes});
    const double* from = statistics.const_data_ptr<double>();
    by_dtype(like, [&](auto zero) {
      using T = decltype(zero);
      T* to = sizes.mutable_data_ptr<T>();
      for (int64_t i = 0; i < rows * classes; ++i) to[i] = static_cast<T>(from[3 * i + 2]);
    });
    return sizes;
  }
};

struct Cuda {
  using Exact = ExactCuda;
  using Merged = MergedCuda;
  using Partition = PartitionCuda;

  template <class T>
  static void perturb(const PerturbArgs<T>& args, const Tensor& like) {
    launch_on(kOp, like, [&](void* stream) { return perturb_rows_cuda(args, stream); });
  }

  template <class T>
  static void mask(const MaskArgs<T>& args, const Tensor& like) {
    launch_on(kOp, like, [&](void* stream) { return mask_rows_cuda(args, stream); });
  }

  static Tensor hard_sizes(const Tensor& statistics, const Tensor& like) {
    return torch::stable::contiguous(torch::stable::to(torch::stable::select(statistics, -1, 2), like.scalar_type()));
  }
};

// The arguments of a call that its backward shares; schema in library.cpp.
struct Call {
  const Tensor &log_omega, &log_scores;
  const std::optional<Tensor>& lengths;
  const std::optional<Tensor>& seed;
  double tau;
  int64_t samples;
  bool exact;

  int64_t batch() const { return log_scores.size(0); }
  int64_t rows() const { return samples * batch(); }
  int64_t n() const { return log_scores.size(1); }
  int64_t classes() const { return log_omega.size(1); }

  // What order and subsets are computed in. Each kind of noise is drawn in the dtype of its own weights.
  ScalarType dtype() const {
    return is_float64(log_omega) || is_float64(log_scores) ? ScalarType::Double : ScalarType::Float;
  }

  RowLengths row_lengths() const {
    if (!lengths) return {nullptr, 0};
    const bool shared = lengths->numel() == 1;
    return {checked_data<int64_t>(kOp, "lengths", *lengths, shared ? 1 : batch()), shared ? 0 : 1};
  }

  void check() const {
    check_float(kOp, "log_omega", log_omega);
    check_score_rows(kOp, "log_scores", log_scores);
    DRPM_CHECK(log_omega.dim() == 2 && log_omega.size(0) == batch(), kOp, "log_omega", "have the rows of log_scores",
               log_omega.dim());
  }
};

Tensor as_dtype(const Tensor& t, ScalarType dtype) {
  return t.scalar_type() == dtype ? t : torch::stable::to(t, dtype);
}

// (R, n), what is sorted: scores with their noise, those that do not count below all others.
template <class Backend>
Tensor perturbed_scores(const Call& call) {
  if (!call.seed && !call.lengths && call.samples == 1) return as_dtype(call.log_scores, call.dtype());
  const int64_t batch = call.batch();
  const Tensor perturbed = new_tensor(call.log_scores, {call.rows(), call.n()});
  by_dtype(call.log_scores, [&](auto zero) {
    using T = decltype(zero);
    const Seeds seeds = call.seed ? checked_seeds(kOp, *call.seed, batch) : Seeds{nullptr, batch, batch};
    const PerturbArgs<T> args{call.log_scores.const_data_ptr<T>(),
                              seeds,
                              call.row_lengths(),
                              kSortSpacing * call.tau,
                              batch,
                              call.rows(),
                              call.n(),
                              perturbed.mutable_data_ptr<T>()};
    Backend::perturb(args, call.log_scores);
  });
  return as_dtype(perturbed, call.dtype());
}

// Of (R, planes, n), what does not count becomes 0, and labels -1.
template <class Backend>
void mask(const Call& call, int64_t planes, const Tensor& from, const Tensor& to, const Tensor* labels) {
  by_dtype(from, [&](auto zero) {
    using T = decltype(zero);
    const MaskArgs<T> args{call.row_lengths(),
                           call.batch(),
                           call.rows(),
                           planes,
                           call.n(),
                           from.const_data_ptr<T>(),
                           to.mutable_data_ptr<T>(),
                           labels != nullptr ? labels->mutable_data_ptr<int64_t>() : nullptr};
    Backend::mask(args, from);
  });
}

template <class Backend>
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> random_partition(const Tensor& log_omega, const Tensor& log_scores,
                                                                    const std::optional<Tensor>& m,
                                                                    const std::optional<Tensor>& lengths,
                                                                    const std::optional<Tensor>& seed, double tau,
                                                                    int64_t samples, bool hard, bool exact,
                                                                    bool with_statistics, int64_t capacity) {
  using Partition = typename Backend::Partition;
  const Call call{log_omega, log_scores, lengths, seed, tau, samples, exact};
  call.check();
  const int64_t rows = call.rows(), n = call.n(), classes = call.classes(), columns = exact ? 3 : 2;
  const CallCounts counts(kOp, log_omega, m, lengths, std::nullopt, rows, capacity, n);
  const SizesCall drawing = sizes_call(log_omega, counts, seed, tau, samples, n);
  Tensor sizes = new_tensor(log_omega, {rows, classes});
  const auto new_statistics = [&](int64_t kept) {
    return new_tensor(log_omega, {kept, classes, columns}, ScalarType::Double);
  };
  Tensor statistics = new_statistics(with_statistics ? rows : 0), hard_sizes = sizes;
  const Tensor* kept = with_statistics ? &statistics : nullptr;
  if (exact) {
    const Tensor own = hard || with_statistics ? statistics : new_statistics(rows);
    if (!hard) kept = &own;
    exact_sizes<typename Backend::Exact>(drawing, hard, sizes, kept);
    if (!hard) hard_sizes = Backend::hard_sizes(own, log_omega);
  } else {
    merged_sizes<typename Backend::Merged>(drawing, hard, sizes, kept);
    if (!hard) {
      hard_sizes = new_tensor(log_omega, {rows, classes});
      merged_sizes<typename Backend::Merged>(drawing, true, hard_sizes, nullptr);
    }
  }
  const Tensor scores = perturbed_scores<Backend>(call);
  Tensor order = Partition::order(scores);
  Tensor assignment = new_tensor(scores, {rows, classes, n});
  Tensor labels = new_tensor(order, {rows, n});
  by_dtype(scores, [&](auto zero) {
    using T = decltype(zero);
    Partition::template forward<T>(scores, as_dtype(sizes, call.dtype()), order, tau, hard, kEps, assignment, labels);
    if (!hard) Partition::template labels<T>(scores, as_dtype(hard_sizes, call.dtype()), order, kEps, labels);
  });
  if (lengths) mask<Backend>(call, classes, assignment, assignment, &labels);
  return {assignment, sizes, order, labels, statistics};
}

// Gradients of log_omega, where it is wanted, and of log_scores; without grad_assignment or grad_sizes these are zero.
template <class Backend>
std::tuple<Tensor, Tensor> random_partition_backward(
    const std::optional<Tensor>& grad_assignment, const std::optional<Tensor>& grad_sizes, const Tensor& log_omega,
    const Tensor& log_scores, const std::optional<Tensor>& m, const std::optional<Tensor>& lengths,
    const std::optional<Tensor>& seed, const Tensor& sizes, const Tensor& order, const Tensor& statistics, double tau,
    int64_t samples, bool hard, bool exact, bool with_log_omega, int64_t capacity) {
  using Partition = typename Backend::Partition;
  const Call call{log_omega, log_scores, lengths, seed, tau, samples, exact};
  call.check();
  const int64_t batch = call.batch(), rows = call.rows(), n = call.n(), classes = call.classes();
  Tensor grad_log_omega, grad_log_scores;
  std::optional<Tensor> of_sizes = grad_sizes;
  const bool whole = grad_assignment.has_value() && rows > 0 && n > 0;
  if (whole) {
    Tensor grad = *grad_assignment;
    if (lengths) {
      const Tensor masked = new_tensor(grad, {rows, classes, n});
      mask<Backend>(call, classes, grad, masked, nullptr);
      grad = masked;
    }
    const Tensor scores = perturbed_scores<Backend>(call);
    Tensor by_row = new_tensor(scores, {rows, n});
    const Tensor through = new_tensor(scores, {rows, classes});
    by_dtype(scores, [&](auto zero) {
      Partition::template backward<decltype(zero)>(grad, scores, as_dtype(sizes, call.dtype()), order, tau, hard, kEps,
                                                   by_row, through);
    });
    if (lengths) mask<Backend>(call, 1, by_row, by_row, nullptr);
    grad_log_scores = samples == 1 ? as_dtype(by_row, log_scores.scalar_type())
                                   : sum_rows(by_row, batch, samples, n, batch * n, n, log_scores);
    const Tensor added = as_dtype(through, log_omega.scalar_type());
    of_sizes = grad_sizes ? torch::stable::subtract(*grad_sizes, added, -1) : added;
  } else {
    grad_log_scores = torch::stable::new_zeros(log_scores, {batch, n});
  }
  if (!with_log_omega || !of_sizes || rows == 0) {
    grad_log_omega = torch::stable::new_zeros(log_omega, {batch, classes});
    return {grad_log_omega, grad_log_scores};
  }
  const CallCounts counts(kOp, log_omega, m, lengths, std::nullopt, rows, capacity, n);
  const SizesCall drawing = sizes_call(log_omega, counts, seed, tau, samples, n);
  grad_log_omega =
      exact ? exact_sizes_backward<typename Backend::Exact>(drawing, *of_sizes, statistics)
            : merged_sizes_backward<typename Backend::Merged>(kOp, counts.get(), log_omega, *of_sizes, statistics);
  return {grad_log_omega, grad_log_scores};
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("random_partition", TORCH_BOX(&drpm::random_partition<Backend>));
  m.impl("random_partition_backward", TORCH_BOX(&drpm::random_partition_backward<Backend>));
}
