#include <initializer_list>
#include <tuple>

#include "glue/register.h"
#include "glue/scratch.h"
#include "partition/partition_ops.h"
#include "random_assignment/random_assignment.h"

namespace drpm {
namespace {

constexpr const char* kOp = "random_assignment";
constexpr int64_t kDrawCost = 20, kBackwardCost = 90;  // of an element and class
constexpr int64_t kNoisePad = 64;                      // a tile
constexpr double kEps = 0.5;

template <class T>
NoisyScores<T> noisy_scores(const Tensor& log_scores, const Tensor& seed, bool noise) {
  NoisyScores<T> scores{};
  scores.log_scores = checked_data<T>(kOp, "log_scores", log_scores, log_scores.numel());
  scores.seeds = checked_seeds(kOp, seed, log_scores.size(0));
  scores.noise = noise;
  scores.n = log_scores.size(2);
  scores.classes = log_scores.size(1);
  return scores;
}

void check_arguments(const Tensor& log_scores, const Tensor& sizes) {
  check_score_matrices(kOp, "log_scores", log_scores);
  DRPM_CHECK(sizes.dim() == 2 && sizes.size(0) == log_scores.size(0) && sizes.size(1) == log_scores.size(1), kOp,
             "sizes", "have a size for each row of log_scores", sizes.dim());
}

// The scratch of one row's steps, and that of the partition of one step (partition_ops.cpp) of up to n elements.
template <class T>
void take_steps(Carver& c, RandomAssignmentBackwardArgs<T>& args, PartitionArgs<T>& step) {
  const int64_t n = args.scores.n;
  args.largest = c.take<double>(args.scores.classes);
  args.items = c.take<SortItem>(2 * n);
  args.noisy = c.take<T>(n);
  args.grad_rest = c.take<double>(n);
  args.element = c.take<int32_t>(n);
  args.ranked = c.take<T>(n);
  args.rank = c.take<int64_t>(n);
  args.grad_planes = c.take<T>(2 * n);
  args.grad_ranked = c.take<T>(n);
  args.plane_sizes = c.take<T>(2);
  args.grad_plane_sizes = c.take<T>(2);
  args.used = c.take<int64_t>(1);
  args.finite = c.take<bool>(1);
  step.band.n = n;
  step.band.grad_scores = args.grad_ranked;
  take_band(c, step.band, 1, 2);
  step.grad = args.grad_planes;
  take_partition(c, step, 1);
  step.band.block_stride = DRPM_ISA::block_storage<T>(n);
  step.band.block = c.take<T>(step.band.block_stride);
}

template <class T>
void backward_row(RandomAssignmentBackwardArgs<T>& args, PartitionArgs<T>& step) {
  random_assignment_begin(args, 0, 1);
  if (!*args.finite) return;
  for (int64_t k = args.scores.classes - 2; k >= 0; --k) {
    random_assignment_rank(args, k, k + 1);
    step.band.n = *args.used;
    if (step.band.n > 0) partition_backward_tasks(step, 0, 1);
    random_assignment_settle(args, k, k + 1);
  }
}

struct Cpu {
  template <class T>
  static void draw(const NoisyScores<T>& scores, const Tensor& sizes, const Tensor& assignment, const Tensor& order,
                   const Tensor& labels) {
    const int64_t rows = sizes.size(0), n = scores.n;
    RandomAssignmentArgs<T> args{};
    args.scores = scores;
    args.sizes = checked_data<T>(kOp, "sizes", sizes, rows * scores.classes);
    args.assignment = assignment.mutable_data_ptr<T>();
    args.order = order.mutable_data_ptr<int64_t>();
    args.labels = labels.mutable_data_ptr<int64_t>();
    for_rows(rows, kDrawCost * n * scores.classes, [&](int64_t begin, int64_t end) {
      RandomAssignmentArgs<T> task = args;
      const TaskScratch scratch([&](Carver& c) {
        task.items = c.take<SortItem>(2 * n);
        task.keys = c.take<uint64_t>(n);
        task.candidates = c.take<uint64_t>(n);
        task.noise = c.take<T>(n + kNoisePad);
        task.elements = c.take<int32_t>(n);
        task.left = c.take<int32_t>(n);
      });
      random_assignment_rows(task, begin, end);
    });
  }

  template <class T>
  static void backward(const Tensor& grad, const NoisyScores<T>& scores, const Tensor& sizes, const Tensor& labels,
                       double tau, const Tensor& grad_scores, const Tensor& grad_sizes) {
    const int64_t rows = sizes.size(0), n = scores.n, classes = scores.classes;
    RandomAssignmentBackwardArgs<T> args{};
    args.scores = scores;
    args.tau = tau;
    args.sizes = checked_data<T>(kOp, "sizes", sizes, rows * classes);
    args.grad = checked_data<T>(kOp, "grad", grad, rows * classes * n);
    args.labels = checked_data<int64_t>(kOp, "labels", labels, rows * n);
    args.grad_scores = grad_scores.mutable_data_ptr<T>();
    args.grad_sizes = grad_sizes.mutable_data_ptr<T>();
    for_rows(rows, kBackwardCost * n * classes, [&](int64_t begin, int64_t end) {
      PartitionArgs<T> step{};
      step.band.rows = step.band.tasks = 1;
      step.band.tau = tau;
      step.band.tables = band_tables<T>();
      step.classes = 2;
      step.eps = kEps;
      step.hard = true;
      RandomAssignmentBackwardArgs<T> task = args;
      const TaskScratch scratch([&](Carver& c) { take_steps(c, task, step); });
      step.band.scores = task.ranked;
      step.band.order = task.rank;
      step.sizes = task.plane_sizes;
      step.grad_sizes = task.grad_plane_sizes;
      for (task.row = begin; task.row < end; ++task.row) {
        const int64_t at = task.row * classes;
        task.sizes = args.sizes + at;
        task.grad = args.grad + at * n;
        task.labels = args.labels + task.row * n;
        task.grad_scores = args.grad_scores + at * n;
        task.grad_sizes = args.grad_sizes + at;
        backward_row(task, step);
      }
    });
  }
};

struct Cuda {
  // Labels by the kernel; the order by two stable sorts, by score and then by label.
  template <class T>
  static void draw(const NoisyScores<T>& scores, const Tensor& sizes, const Tensor& assignment, const Tensor& order,
                   const Tensor& labels) {
    const int64_t rows = sizes.size(0), n = scores.n;
    const Tensor own = new_tensor(sizes, {rows, n});
    RandomAssignmentCudaArgs<T> args{};
    args.scores = scores;
    args.rows = rows;
    args.sizes = checked_data<T>(kOp, "sizes", sizes, rows * scores.classes);
    args.labels = labels.mutable_data_ptr<int64_t>();
    args.own = own.mutable_data_ptr<T>();
    args.assignment = assignment.mutable_data_ptr<T>();
    launch_on(kOp, sizes, [&](void* stream) { return random_assignment_labels_cuda(args, stream); });
    const Tensor by_score = std::get<1>(stable_sort(own, true));
    const Tensor label_of = new_tensor(labels, {rows, n});
    gather(labels, by_score, label_of);
    gather(by_score, std::get<1>(stable_sort(label_of, false)), order);
  }

  static void gather(const Tensor& table, const Tensor& index, const Tensor& value) {
    const int64_t rows = table.size(0), n = table.size(1);
    launch_on(kOp, table, [&](void* stream) {
      return gather_rows_cuda(table.const_data_ptr<int64_t>(), index.const_data_ptr<int64_t>(), rows, n,
                              value.mutable_data_ptr<int64_t>(), stream);
    });
  }

  template <class T>
  static void backward(const Tensor& grad, const NoisyScores<T>& scores, const Tensor& sizes, const Tensor& labels,
                       double tau, const Tensor& grad_scores, const Tensor& grad_sizes) {
    const int64_t rows = sizes.size(0), n = scores.n, classes = scores.classes;
    const auto empty = [&](std::initializer_list<int64_t> shape) { return new_tensor(sizes, shape); };
    const Tensor ranked = empty({rows, n}), planes = empty({rows, 2, n}), plane_sizes = empty({rows, 2});
    const Tensor grad_ranked = empty({rows, n}), grad_plane_sizes = empty({rows, 2});
    RandomAssignmentStepCudaArgs<T> args{};
    args.scores = scores;
    args.rows = rows;
    args.tau = tau;
    args.sizes = checked_data<T>(kOp, "sizes", sizes, rows * classes);
    args.grad = checked_data<T>(kOp, "grad", grad, rows * classes * n);
    args.labels = checked_data<int64_t>(kOp, "labels", labels, rows * n);
    args.grad_scores = grad_scores.mutable_data_ptr<T>();
    args.grad_sizes = grad_sizes.mutable_data_ptr<T>();
    args.ranked = ranked.mutable_data_ptr<T>();
    args.grad_planes = planes.mutable_data_ptr<T>();
    args.plane_sizes = plane_sizes.mutable_data_ptr<T>();
    args.grad_ranked = grad_ranked.const_data_ptr<T>();
    args.grad_plane_sizes = grad_plane_sizes.const_data_ptr<T>();
    const Tensor scratch = carve(sizes, [&](Carver& c) {
      args.grad_rest = c.take<double>(rows * n);
      args.origin = c.take<T>(rows);
      args.least = c.take<double>(rows);
      args.invalid = c.take<T>(rows);
    });
    launch_on(kOp, sizes, [&](void* stream) { return random_assignment_begin_cuda(args, stream); });
    for (args.step = classes - 2; args.step >= 0; --args.step) {
      launch_on(kOp, sizes, [&](void* stream) { return random_assignment_prepare_cuda(args, stream); });
      PartitionCuda::backward<T>(planes, ranked, plane_sizes, PartitionCuda::order(ranked), tau, true, kEps,
                                 grad_ranked, grad_plane_sizes);
      launch_on(kOp, sizes, [&](void* stream) { return random_assignment_settle_cuda(args, stream); });
    }
  }
};

template <class Backend>
std::tuple<Tensor, Tensor, Tensor> random_assignment(const Tensor& log_scores, const Tensor& sizes, const Tensor& seed,
                                                     double, bool noise) {
  check_arguments(log_scores, sizes);
  const int64_t rows = log_scores.size(0), classes = log_scores.size(1), n = log_scores.size(2);
  Tensor assignment = new_tensor(log_scores, {rows, classes, n});
  Tensor order = new_tensor(log_scores, {rows, n}, ScalarType::Long);
  Tensor labels = new_tensor(log_scores, {rows, n}, ScalarType::Long);
  if (rows == 0 || n == 0) return {assignment, order, labels};
  by_dtype(log_scores, [&](auto zero) {
    Backend::draw(noisy_scores<decltype(zero)>(log_scores, seed, noise), sizes, assignment, order, labels);
  });
  return {assignment, order, labels};
}

template <class Backend>
std::tuple<Tensor, Tensor> random_assignment_backward(const Tensor& grad, const Tensor& log_scores, const Tensor& sizes,
                                                      const Tensor& labels, const Tensor& seed, double tau,
                                                      bool noise) {
  check_arguments(log_scores, sizes);
  const int64_t rows = log_scores.size(0), classes = log_scores.size(1), n = log_scores.size(2);
  Tensor grad_scores = new_tensor(log_scores, {rows, classes, n});
  Tensor grad_sizes = new_tensor(sizes, {rows, classes});
  if (rows == 0 || n == 0) {
    torch::stable::zero_(grad_sizes);
    return {grad_scores, grad_sizes};
  }
  by_dtype(log_scores, [&](auto zero) {
    const auto scores = noisy_scores<decltype(zero)>(log_scores, seed, noise);
    Backend::backward(grad, scores, sizes, labels, tau, grad_scores, grad_sizes);
  });
  return {grad_scores, grad_sizes};
}

}  // namespace
}  // namespace drpm

DRPM_OPS(m, Backend) {
  m.impl("random_assignment", TORCH_BOX(&drpm::random_assignment<Backend>));
  m.impl("random_assignment_backward", TORCH_BOX(&drpm::random_assignment_backward<Backend>));
}
