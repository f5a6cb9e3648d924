#include "mvhg/relaxed_outcome.h"
#include "mvhg/tables/exact_rows.h"
#include "mvhg/tables/size_tables_cpu.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

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
  const OutcomeWindow support = conditional_support(t, p, r);
  if (support.low > support.high) {
    const int64_t x = negligible_outcome(t, p, r);
    return {x, 1, {x, static_cast<double>(x), 0, 0}};
  }
  need_log_b(t, p, r - support.high - 1, r - support.low + 1);  // slopes look one further
  const ConditionalLogits c = conditional_logits(t, p, r, support, outcome_cut(args));
  const int64_t mode = c.mode;
  const double top = c.top;
  Outcomes out{c.low, c.high - c.low + 1, {mode, static_cast<double>(mode), 0, 0}};
  const int64_t count = out.count;
  T *logits = args.outcomes, *other = args.outcomes + args.outcome_width;
  if (count == 1) {
    logits[0] = 0;
    return out;
  }
  const double *own = c.log_f + out.low, *rest = c.log_b + (r - out.low);
  for (int64_t i = 0; i < count; ++i) logits[i] = static_cast<T>((own[i] + rest[-i]) - top);
  if (args.noise) add_gumbel(noise_row(args.seeds, row), klass, out.low, count, logits, other);
  T best = logits[mode - out.low];
  int64_t centre = mode - out.low;
  if (args.noise) centre = first_maximum(logits, count, &best);
  out.outcome.hard = out.low + centre;
  if (!relaxed) return out;
  for (int64_t i = 0; i < count; ++i) other[i] = static_cast<T>(c.slope(out.low + i));
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
struct Group {
  int64_t parameters = -1, order_row = -1;
  MvhgRow row{};
  SizeTables tables{};
};

template <class T>
void enter_group(const MvhgExactArgs<T>& args, int64_t parameters, int64_t row, Group* group) {
  const int64_t order_row = args.counts.order_stride == 0 ? 0 : row;
  if (group->parameters == parameters && group->order_row == order_row) return;
  group->parameters = parameters;
  group->order_row = order_row;
  const T* log_omega = args.log_omega + parameters * args.counts.classes;
  group->row = mvhg_row(args.counts, row, log_omega);
  if (group->row.valid && !is_point(group->row)) group->tables = build_tables(args, group->row, log_omega);
}

template <class T>
void sample_item(const MvhgSampleExactArgs<T>& args, int64_t item, Group* group) {
  const MvhgExactArgs<T>& common = args.common;
  const int64_t parameters = item / common.samples, row = item % common.samples * common.counts.batch + parameters;
  enter_group(common, parameters, row, group);
  sample_exact_row(Alone(), args, group->row, row, [&](int64_t p, int64_t remaining, int64_t k) {
    return draw_exact(common, group->tables, p, remaining, row, k).outcome;
  });
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
void backward_item(const MvhgSampleExactBackwardArgs<T>& args, int64_t item, Group* group) {
  const MvhgExactArgs<T>& common = args.common;
  const int64_t classes = common.counts.classes, parameters = item / args.chunks, chunk = item % args.chunks;
  double* grad = args.grad_log_omega + item * classes;
  const int64_t begin = chunk * args.group;
  const int64_t end = begin + args.group < common.samples ? begin + args.group : common.samples;
  for (int64_t k = 0; k < classes; ++k) grad[k] = 0;
  for (int64_t sample = begin; sample < end; ++sample) {
    const int64_t row = sample * common.counts.batch + parameters;
    const bool fresh = sample == begin || common.counts.order_stride != 0;
    enter_group(common, parameters, row, group);
    if (!group->row.valid) {
      for (int64_t k = 0; k < classes; ++k) grad[k] = kNaN;
      return;
    }
    if (is_point(group->row)) continue;
    const SizeTables& t = group->tables;
    double* h = common.scratch.h;
    const int64_t used = t.b_at[0] + t.b_size[0];
    if (fresh)
      for (int64_t i = 0; i < used; ++i) h[i] = 0;

    const double* statistics = args.statistics + row * classes * 3;
    reverse_exact_row(args, group->row, row, [&](int64_t p, int64_t k, int64_t remaining, double a) {
      grad[k] += a * statistics[3 * k];
      seed_tables(common, t, p, remaining, row, k, a, h);
    });
    if (sample == end - 1 || common.counts.order_stride != 0) reverse_tables(common, t, group->row, h, grad);
  }
}

}  // namespace

void mvhg_table_bounds(const MvhgTableBoundsArgs<float>& args, int64_t, int64_t) { set_table_bounds(args); }
void mvhg_table_bounds(const MvhgTableBoundsArgs<double>& args, int64_t, int64_t) { set_table_bounds(args); }

void mvhg_sample_exact_rows(const MvhgSampleExactArgs<float>& args, int64_t begin, int64_t end) {
  Group group;
  for (int64_t item = begin; item < end; ++item) sample_item(args, item, &group);
}

void mvhg_sample_exact_rows(const MvhgSampleExactArgs<double>& args, int64_t begin, int64_t end) {
  Group group;
  for (int64_t item = begin; item < end; ++item) sample_item(args, item, &group);
}

void mvhg_sample_exact_backward_groups(const MvhgSampleExactBackwardArgs<float>& args, int64_t begin, int64_t end) {
  Group group;
  for (int64_t item = begin; item < end; ++item) backward_item(args, item, &group);
}

void mvhg_sample_exact_backward_groups(const MvhgSampleExactBackwardArgs<double>& args, int64_t begin, int64_t end) {
  Group group;
  for (int64_t item = begin; item < end; ++item) backward_item(args, item, &group);
}

}  // namespace DRPM_ISA
}  // namespace drpm
