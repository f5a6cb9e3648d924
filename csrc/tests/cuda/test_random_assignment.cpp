// Draws against those of the CPU, on the same noise; the steps of the gradient against their definition.
#include "random_assignment/random_assignment.h"
#include "tests/cuda/driver.h"

using namespace drpm_test;

template <class T>
struct Problem {
  int64_t rows, n, classes;
  bool noise;
  Buffer<T> log_scores, sizes;
  int64_t seed = 7;

  Problem(int64_t rows, int64_t n, int64_t classes, bool noise, bool ties, bool invalid)
      : rows(rows), n(n), classes(classes), noise(noise), sizes(rows * classes, 0) {
    Random random(rows * 3 + n * 7 + classes);
    log_scores = random.normals<T>(rows * classes * n, 2);
    if (ties)
      for (T& x : log_scores) x = std::round(x);
    for (int64_t at = 0; at < rows * n; ++at) sizes[at / n * classes + random.below(classes)] += 1;
    if (invalid) log_scores[n / 2] = NAN, sizes[rows * classes - 1] = INFINITY;
  }

  drpm::NoisyScores<T> scores() const { return {log_scores.data(), {&seed, rows, rows}, noise, n, classes}; }
};

// Labels of the CPU kernel, and the assignment.
template <class T>
void draw_on_host(const Problem<T>& problem, Buffer<T>& assignment, Buffer<int64_t>& labels) {
  const int64_t n = problem.n;
  std::vector<int64_t> order(problem.rows * n + 1);
  std::vector<drpm::SortItem> items(2 * n + 2);
  std::vector<uint64_t> keys(n + 1), candidates(n + 1);
  std::vector<T> noise(n + 64);
  std::vector<int32_t> left(n + 1), elements(n + 1);
  drpm::RandomAssignmentArgs<T> args{};
  args.scores = problem.scores();
  args.sizes = problem.sizes.data();
  args.assignment = assignment.data();
  args.order = order.data();
  args.labels = labels.data();
  args.items = items.data();
  args.keys = keys.data();
  args.candidates = candidates.data();
  args.noise = noise.data();
  args.elements = elements.data();
  args.left = left.data();
  drpm::random_assignment_rows(args, 0, problem.rows);
}

template <class T>
void check(int64_t rows, int64_t n, int64_t classes, bool noise, bool ties, bool invalid) {
  const Problem<T> problem(rows, n, classes, noise, ties, invalid);
  const int64_t size = rows * classes * n;
  auto assignment = poisoned<T>(size), want_assignment = poisoned<T>(size), own = poisoned<T>(rows * n);
  auto labels = poisoned<int64_t>(rows * n), want_labels = poisoned<int64_t>(rows * n);
  drpm::RandomAssignmentCudaArgs<T> draw{};
  draw.scores = problem.scores();
  draw.rows = rows;
  draw.sizes = problem.sizes.data();
  draw.labels = labels.data();
  draw.own = own.data();
  draw.assignment = assignment.data();
  expect_launched("labels", drpm::random_assignment_labels_cuda(draw, nullptr));
  draw_on_host(problem, want_assignment, want_labels);
  expect_close("labels", labels, want_labels, 0);
  expect_close("assignment", assignment, want_assignment, 0);
  if (noise || invalid) return;

  // without noise a step can be told from the scores
  Random random(n);
  const auto grad = random.normals<T>(size, 1), grad_ranked = random.normals<T>(rows * n, 1),
             grad_plane_sizes = random.normals<T>(2 * rows, 1);
  auto grad_scores = poisoned<T>(size), grad_sizes = poisoned<T>(rows * classes), ranked = poisoned<T>(rows * n);
  auto grad_planes = poisoned<T>(2 * rows * n), plane_sizes = poisoned<T>(2 * rows);
  auto grad_rest = unset(rows * n), least = unset(rows);
  Buffer<T> bad(rows, static_cast<T>(NAN)), origin(rows, static_cast<T>(NAN));
  drpm::RandomAssignmentStepCudaArgs<T> step{};
  step.scores = problem.scores();
  step.rows = rows;
  step.tau = 0.5;
  step.sizes = problem.sizes.data();
  step.grad = grad.data();
  step.labels = labels.data();
  step.grad_scores = grad_scores.data();
  step.grad_sizes = grad_sizes.data();
  step.ranked = ranked.data();
  step.grad_planes = grad_planes.data();
  step.plane_sizes = plane_sizes.data();
  step.grad_ranked = grad_ranked.data();
  step.grad_plane_sizes = grad_plane_sizes.data();
  step.grad_rest = grad_rest.data();
  step.origin = origin.data();
  step.least = least.data();
  step.invalid = bad.data();
  expect_launched("begin", drpm::random_assignment_begin_cuda(step, nullptr));
  Buffer<double> want_rest(rows * n);
  Buffer<T> want_scores(size, 0), want_sizes(rows * classes, 0);
  for (int64_t at = 0; at < rows * n; ++at)
    want_rest[at] = static_cast<double>(grad[(at / n * classes + classes - 1) * n + at % n]);
  expect_close("rest of the last", grad_rest, want_rest, 0);
  for (step.step = classes - 2; step.step >= 0; --step.step) {
    const int64_t k = step.step;
    Buffer<T> want_planes(2 * rows * n, 0), want_plane_sizes(2 * rows);
    expect_launched("prepare", drpm::random_assignment_prepare_cuda(step, nullptr));
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t* label = labels.data() + row * n;
      const T* score = problem.log_scores.data() + (row * classes + k) * n;
      double lowest = INFINITY, smallest = INFINITY, taken = 0;
      for (int64_t i = 0; i < n; ++i) {
        if (label[i] < k) continue;
        lowest = std::min(lowest, static_cast<double>(score[i]));
        want_planes[2 * row * n + i] =
            static_cast<T>(static_cast<double>(grad[(row * classes + k) * n + i]) - want_rest[row * n + i]);
        if (label[i] > k) continue;
        smallest = std::min(smallest, static_cast<double>(score[i]));
        taken += 1;
      }
      want_plane_sizes[2 * row] = static_cast<T>(taken);
      want_plane_sizes[2 * row + 1] = static_cast<T>(static_cast<double>(n) - taken);
      double before = lowest == INFINITY ? 0 : lowest;
      for (int64_t i = 0; i < n; ++i) {
        const double got = static_cast<double>(ranked[row * n + i]);
        if (label[i] >= k) {
          if (got != static_cast<double>(score[i])) fail("a score that remains");
        } else {
          if (!(before - got >= 32)) fail("the distance of an element that is gone");
          before = got;
        }
        const int64_t plane = (row * classes + k) * n + i;
        want_scores[plane] = label[i] >= k ? grad_ranked[row * n + i] : T(0);
        const bool chosen = label[i] >= k ? label[i] == k : static_cast<double>(score[i]) > smallest;
        if (chosen)
          want_rest[row * n + i] = static_cast<double>(grad[plane]) - static_cast<double>(grad_plane_sizes[2 * row]);
      }
      want_sizes[row * classes + k] = grad_plane_sizes[2 * row];
    }
    expect_close("planes", grad_planes, want_planes, 0);
    expect_close("plane sizes", plane_sizes, want_plane_sizes, 0);
    expect_launched("settle", drpm::random_assignment_settle_cuda(step, nullptr));
    expect_close("rest", grad_rest, want_rest, 0);
  }
  expect_close("gradient of scores", grad_scores, want_scores, 0);
  expect_close("gradient of sizes", grad_sizes, want_sizes, 0);
}

template <class T>
void all() {
  check<T>(3, 40, 4, true, false, false);
  check<T>(3, 40, 4, false, true, false);
  check<T>(2, 7, 9, false, false, false);
  check<T>(3, 20, 3, true, false, true);
  check<T>(2, 5, 1, false, false, false);
  if (small_grids_only()) return;
  check<T>(2, 700, 3, true, false, false);
  check<T>(1, 900, 4, false, true, false);
}

void body() {
  all<float>();
  all<double>();
}

DRPM_CUDA_DRIVER(body)
