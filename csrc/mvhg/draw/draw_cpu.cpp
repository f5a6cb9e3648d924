#include "mvhg/draw/draw_rows.h"
#include "mvhg/tables/size_tables_cpu.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// By inversion of the weights f_p(x) b_p(r - x).
int64_t invert(const SizeTables& t, int64_t p, int64_t r, double u, double* weights) {
  const OutcomeWindow support = conditional_support(t, p, r);
  if (support.low > support.high) return negligible_outcome(t, p, r);
  const double *f = t.f + t.f_at[p] + (support.low - t.f_low[p]), *b = t.b + t.b_at[p] + (r - support.low - t.b_low[p]);
  return support.low + invert_product(f, b, support.high - support.low + 1, u, weights);
}

// What a task keeps between work items: what belongs to the parameter row that it last saw.
struct Group {
  int64_t parameters = -1;
  MvhgRow row{};
  SizeTables tables{};
  double tilt = 0;
};

template <class T>
void draw_item(const MvhgDrawArgs<T>& args, int64_t item, Group* group) {
  const MvhgExactArgs<T>& common = args.common;
  const MvhgCounts& counts = common.counts;
  const int64_t parameters = item / common.samples, row = item % common.samples * counts.batch + parameters;
  const T* log_omega = common.log_omega + parameters * counts.classes;
  if (group->parameters != parameters) {
    group->parameters = parameters;
    group->row = mvhg_row(counts, row, log_omega);
    if (group->row.valid && !is_point(group->row)) {
      if (group->row.n <= args.largest_table)
        group->tables = build_tables(common, group->row, log_omega);
      else
        group->tilt = solve_tilt(Alone(), group->row, log_omega);
    }
  }
  draw_row<VD>(Alone(), args, group->row, group->tilt, log_omega, row, [&](int64_t k, int64_t remaining, double u) {
    return invert(group->tables, k, remaining, u, common.scratch.work);
  });
}

}  // namespace

void mvhg_draw_rows(const MvhgDrawArgs<float>& args, int64_t begin, int64_t end) {
  Group group;
  for (int64_t item = begin; item < end; ++item) draw_item(args, item, &group);
}

void mvhg_draw_rows(const MvhgDrawArgs<double>& args, int64_t begin, int64_t end) {
  Group group;
  for (int64_t item = begin; item < end; ++item) draw_item(args, item, &group);
}

}  // namespace DRPM_ISA
}  // namespace drpm
