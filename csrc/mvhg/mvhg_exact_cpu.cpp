#include "mvhg/mvhg_exact.h"
#include "mvhg/relaxed_outcome.h"
#include "mvhg/size_tables.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

constexpr double kNaN = __builtin_nan("");

// The outcomes of the class at position p that matter at remainder r, left in args.outcomes: perturbed logits relative
// to the mode's, then the slopes in the remainder.
struct Outcomes {
  int64_t low, count;
  RelaxedOutcome outcome;
};

template <class T>
Outcomes draw_exact(const MvhgExactArgs<T>& args, const SizeTables& t, int64_t p, int64_t r, int64_t row,
                    int64_t klass) {
  const bool relaxed = args.use == TableUse::kRelaxedSample;
  const double *log_f = t.log_f + t.f_at[p] - t.f_low[p], *log_b = t.log_b + t.b_at[p] - t.b_low[p];
  const int64_t b_low = t.b_low[p], b_high = b_low + t.b_size[p] - 1, f_high = t.f_low[p] + t.f_size[p] - 1;
  int64_t low = r - b_high > t.f_low[p] ? r - b_high : t.f_low[p];
  int64_t high = r - b_low < f_high ? r - b_low : f_high;
  if (low > high) {  // a remainder of negligible probability: whichever keeps both counts nearest to their windows
    const int64_t x = r - b_high > f_high ? f_high : t.f_low[p];
    return {x, 1, {x, static_cast<double>(x), 0, 0}};
  }
  need_log_b(t, p, r - high - 1, r - low + 1);  // slopes look one further
  auto at = [&](int64_t x) { return log_f[x] + log_b[r - x]; };
  int64_t first = low, last = high;  // the smallest mode, as the logits are concave
  while (first < last) {
    const int64_t middle = first + (last - first) / 2;
    if (at(middle + 1) <= at(middle))
      last = middle;
    else
      first = middle + 1;
  }
  const int64_t mode = first;
  const double top = at(mode);
  const OutcomeWindow window =
      concave_window(mode, low, high, outcome_cut(args), [&](int64_t x) { return top - at(x); });
  Outcomes out{window.low, window.high - window.low + 1, {mode, static_cast<double>(mode), 0, 0}};
  const int64_t count = out.count;
  T *logits = args.outcomes, *other = args.outcomes + args.outcome_width;
  if (count == 1) {
    logits[0] = 0;
    return out;
  }
  const double *own = log_f + out.low, *rest = log_b + (r - out.low);
  for (int64_t i = 0; i < count; ++i) logits[i] = static_cast<T>((own[i] + rest[-i]) - top);
  if (args.noise) add_gumbel(static_cast<uint64_t>(args.seed[0]), row, klass, out.low, count, logits, other);
  T best = logits[mode - out.low];
  int64_t centre = mode - out.low;
  if (args.noise) centre = first_maximum(logits, count, &best);
  out.outcome.hard = out.low + centre;
  if (!relaxed) return out;
  // d log G(rho) / d rho = 1/2 [log b(rho + 1) - log b(rho - 1)], one-sided at the ends                     (Eq. 20)
  for (int64_t i = 0; i < count; ++i) {
    const int64_t rho = r - out.low - i;
    const int64_t up = rho < b_high ? rho + 1 : rho, down = rho > b_low ? rho - 1 : rho;
    const double rise = log_b[up] - log_b[down];
    other[i] = static_cast<T>(up - down == 2 ? 0.5 * rise : rise);
  }
  constexpr int64_t kWidth = Lane<Pack<T>>::kWidth;
  for (int64_t i = count; i % kWidth != 0; ++i) {
    logits[i] = static_cast<T>(-__builtin_huge_val());
    other[i] = 0;
  }
  softmax_moments(logits, other, count, centre, best, args.tau, &out.outcome);
  out.outcome.mean += static_cast<double>(out.outcome.hard);
  return out;
}

// What a task keeps between work items: the tables of the parameter row that it last saw.
template <class T>
struct Group {
  int64_t parameters = -1, order_row = -1;
  const int64_t* order = nullptr;
  MvhgRow row{};
  SizeTables tables{};
  bool point = false;  // one class, or all or nothing drawn: there is nothing to decide
};

template <class T>
void enter_group(const MvhgExactArgs<T>& args, int64_t parameters, int64_t row, Group<T>* group) {
  const int64_t order_row = args.order_stride == 0 ? 0 : row;
  if (group->parameters == parameters && group->order_row == order_row) return;
  group->parameters = parameters;
  group->order_row = order_row;
  group->order = args.order == nullptr ? nullptr : args.order + row * args.order_stride;
  const T* log_omega = args.log_omega + parameters * args.classes;
  group->row =
      mvhg_row(args.m + parameters * args.m_stride, args.n[parameters * args.n_stride], args.classes, log_omega);
  if (group->order != nullptr)
    for (int64_t p = 0; p < args.classes; ++p)
      if (group->order[p] < 0 || group->order[p] >= args.classes) group->row.valid = false;
  group->point = args.classes == 1 || group->row.n == 0 || group->row.n == group->row.total;
  if (group->row.valid && !group->point) group->tables = build_tables(args, group->row, log_omega, group->order);
}

template <class T>
void sample_item(const MvhgSampleExactArgs<T>& args, int64_t item, Group<T>* group) {
  const MvhgExactArgs<T>& common = args.common;
  const int64_t classes = common.classes, parameters = item / common.samples;
  const int64_t row = item % common.samples * common.batch + parameters;
  enter_group(common, parameters, row, group);
  T* sizes = args.sizes + row * classes;
  double* statistics = args.statistics == nullptr ? nullptr : args.statistics + row * classes * 3;
  for (int64_t k = 0; k < classes; ++k) sizes[k] = static_cast<T>(kNaN);
  if (statistics != nullptr)
    for (int64_t i = 0; i < 3 * classes; ++i) statistics[i] = kNaN;
  if (!group->row.valid) return;

  int64_t remaining = group->row.n;
  double relaxed_remaining = static_cast<double>(remaining);
  for (int64_t p = 0; p < classes; ++p) {
    const int64_t k = group->order == nullptr ? p : group->order[p];
    RelaxedOutcome outcome{remaining, relaxed_remaining, 0, 0};  // the last class takes what remains
    if (group->point && p < classes - 1) {
      outcome.hard = group->row.n == 0 ? 0 : group->row.m[k];
      outcome.mean = static_cast<double>(outcome.hard);
    } else if (p < classes - 1) {
      outcome = draw_exact(common, group->tables, p, remaining, row, k).outcome;
    }
    sizes[k] = common.hard ? static_cast<T>(outcome.hard) : static_cast<T>(outcome.mean);
    if (statistics != nullptr) {
      statistics[3 * k] = outcome.variance / common.tau;
      statistics[3 * k + 1] = outcome.slope / common.tau;
      statistics[3 * k + 2] = static_cast<double>(outcome.hard);
    }
    remaining -= outcome.hard;
    relaxed_remaining -= outcome.mean;
  }
}

// With A_p = dL/dn_p - dL/dr_{p+1} (Eq. 7), the softmax hands A_p pi(x) (x - E) / tau to logit x: x of it to the
// class's own log omega, one part to log b_p at r - x.
template <class T>
void seed_tables(const MvhgExactArgs<T>& args, const SizeTables& t, int64_t p, int64_t r, int64_t row, int64_t klass,
                 double a, double* h) {
  if (a == 0) return;
  const Outcomes drawn = draw_exact(args, t, p, r, row, klass);
  if (drawn.count == 1) return;
  const T* logits = args.outcomes;
  const T best = logits[drawn.outcome.hard - drawn.low];
  T* weights = args.outcomes + args.outcome_width;
  using V = Pack<T>;
  const T inverse_tau = static_cast<T>(1 / args.tau);
  double total = 0;
  for (int64_t i = 0; i < drawn.count; i += Lane<V>::kWidth) {
    const V w = exp_lane<V>((load<V>(logits + i) - best) * inverse_tau);
    store<V>(weights + i, w);
    total += sum_lanes<V>(w);
  }
  const double scale = a / (args.tau * total), mean = drawn.outcome.mean - static_cast<double>(drawn.low);
  double* here = h + t.b_at[p] + (r - drawn.low - t.b_low[p]);
  for (int64_t i = 0; i < drawn.count; ++i)
    here[-i] += scale * static_cast<double>(weights[i]) * (static_cast<double>(i) - mean);
}

template <class T>
void backward_item(const MvhgSampleExactBackwardArgs<T>& args, int64_t item, Group<T>* group) {
  const MvhgExactArgs<T>& common = args.common;
  const int64_t classes = common.classes, parameters = item / args.chunks, chunk = item % args.chunks;
  double* grad = args.grad_log_omega + item * classes;
  const int64_t begin = chunk * args.group;
  const int64_t end = begin + args.group < common.samples ? begin + args.group : common.samples;
  for (int64_t k = 0; k < classes; ++k) grad[k] = 0;
  for (int64_t sample = begin; sample < end; ++sample) {
    const int64_t row = sample * common.batch + parameters;
    const bool fresh = sample == begin || common.order_stride != 0;
    enter_group(common, parameters, row, group);
    if (!group->row.valid) {
      for (int64_t k = 0; k < classes; ++k) grad[k] = kNaN;
      return;
    }
    if (group->point) continue;
    const SizeTables& t = group->tables;
    double* h = common.scratch.h;
    const int64_t used = t.b_at[0] + t.b_size[0];
    if (fresh)
      for (int64_t i = 0; i < used; ++i) h[i] = 0;

    const T* grad_sizes = args.grad_sizes + row * classes;
    const double* statistics = args.statistics + row * classes * 3;
    auto class_of = [&](int64_t p) { return group->order == nullptr ? p : group->order[p]; };
    int64_t remaining = static_cast<int64_t>(statistics[3 * class_of(classes - 1) + 2]);
    double grad_remaining = grad_sizes[class_of(classes - 1)];
    for (int64_t p = classes - 2; p >= 0; --p) {
      const int64_t k = class_of(p);
      remaining += static_cast<int64_t>(statistics[3 * k + 2]);
      const double a = grad_sizes[k] - grad_remaining;
      grad[k] += a * statistics[3 * k];
      seed_tables(common, t, p, remaining, row, k, a, h);
      grad_remaining += a * statistics[3 * k + 1];
    }
    if (sample == end - 1 || common.order_stride != 0) reverse_tables(common, t, group->order, h, grad);
  }
}

}  // namespace

void mvhg_table_sizes(const MvhgTableSizesArgs<float>& args, int64_t begin, int64_t end) {
  add_table_sizes(args, begin, end);
}

void mvhg_table_sizes(const MvhgTableSizesArgs<double>& args, int64_t begin, int64_t end) {
  add_table_sizes(args, begin, end);
}

void mvhg_sample_exact_rows(const MvhgSampleExactArgs<float>& args, int64_t begin, int64_t end) {
  Group<float> group;
  for (int64_t item = begin; item < end; ++item) sample_item(args, item, &group);
}

void mvhg_sample_exact_rows(const MvhgSampleExactArgs<double>& args, int64_t begin, int64_t end) {
  Group<double> group;
  for (int64_t item = begin; item < end; ++item) sample_item(args, item, &group);
}

void mvhg_sample_exact_backward_groups(const MvhgSampleExactBackwardArgs<float>& args, int64_t begin, int64_t end) {
  Group<float> group;
  for (int64_t item = begin; item < end; ++item) backward_item(args, item, &group);
}

void mvhg_sample_exact_backward_groups(const MvhgSampleExactBackwardArgs<double>& args, int64_t begin, int64_t end) {
  Group<double> group;
  for (int64_t item = begin; item < end; ++item) backward_item(args, item, &group);
}

}  // namespace DRPM_ISA
}  // namespace drpm
