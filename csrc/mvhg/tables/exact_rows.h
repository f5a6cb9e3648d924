// The chain of exact conditionals along one row, for a team of the CPU or the device (docs/math/mvhg.md, sections 2
// and 5).
#pragma once

#include "lanes/team.h"
#include "mvhg/outcome.h"
#include "mvhg/tables/exact.h"
#include "mvhg/tilt_math.h"

namespace drpm {
namespace DRPM_ISA {

// What a row of parameters and an order of classes say before any table is built.
struct ExactRow {
  MvhgRow parameters;
  const int64_t* order;  // null: natural class order
  bool point;            // one class, or all or nothing drawn: there is nothing to decide
};

DRPM_HD inline int64_t class_at(const ExactRow& row, int64_t position) {
  return row.order == nullptr ? position : row.order[position];
}

template <class T>
DRPM_HD inline ExactRow exact_row(const MvhgExactArgs<T>& args, int64_t parameters, int64_t row) {
  ExactRow out{mvhg_row(args.m + parameters * args.m_stride, args.n[parameters * args.n_stride], args.classes,
                        args.log_omega + parameters * args.classes),
               args.order == nullptr ? nullptr : args.order + row * args.order_stride, false};
  if (out.order != nullptr)
    for (int64_t p = 0; p < args.classes; ++p)
      if (out.order[p] < 0 || out.order[p] >= args.classes) out.parameters.valid = false;
  out.point = args.classes == 1 || out.parameters.n == 0 || out.parameters.n == out.parameters.total;
  return out;
}

// `draw(p, remaining, k)` draws from one conditional, the same for every member of the team.
template <class Team, class T, class Draw>
DRPM_DEVICE inline void sample_exact_row(const Team& team, const MvhgSampleExactArgs<T>& args, const ExactRow& group,
                                         int64_t row, const Draw& draw) {
  const MvhgExactArgs<T>& common = args.common;
  const int64_t classes = common.classes;
  T* sizes = args.sizes + row * classes;
  double* statistics = args.statistics == nullptr ? nullptr : args.statistics + row * classes * 3;
  if (!group.parameters.valid) {
    team_fill(team, sizes, classes, __builtin_nan(""));
    if (statistics != nullptr) team_fill(team, statistics, 3 * classes, __builtin_nan(""));
    return;
  }
  int64_t remaining = group.parameters.n;
  double relaxed_remaining = static_cast<double>(remaining);
  for (int64_t p = 0; p < classes; ++p) {
    const int64_t k = class_at(group, p);
    RelaxedOutcome outcome{remaining, relaxed_remaining, 0, 0};  // the last class takes what remains
    if (group.point && p < classes - 1) {
      outcome.hard = group.parameters.n == 0 ? 0 : group.parameters.m[k];
      outcome.mean = static_cast<double>(outcome.hard);
    } else if (p < classes - 1) {
      outcome = draw(p, remaining, k);
    }
    if (team.first()) {
      sizes[k] = common.hard ? static_cast<T>(outcome.hard) : static_cast<T>(outcome.mean);
      if (statistics != nullptr) {
        statistics[3 * k] = outcome.variance / common.tau;
        statistics[3 * k + 1] = outcome.slope / common.tau;
        statistics[3 * k + 2] = static_cast<double>(outcome.hard);
      }
    }
    remaining -= outcome.hard;
    relaxed_remaining -= outcome.mean;
  }
}

// Goes back along one row's chain: with A_p = dL/dn_p - dL/dr_{p+1}, calls seed(p, k, r_p, A_p) for p = K - 2 .. 0,
// where r_p is what was left for position p and k its class.                                        (Eq. 7)
template <class T, class Seed>
DRPM_HD inline void reverse_exact_row(const MvhgSampleExactBackwardArgs<T>& args, const ExactRow& group, int64_t row,
                                      const Seed& seed) {
  const int64_t classes = args.common.classes;
  const T* grad_sizes = args.grad_sizes + row * classes;
  const double* statistics = args.statistics + row * classes * 3;
  const int64_t last = class_at(group, classes - 1);
  int64_t remaining = static_cast<int64_t>(statistics[3 * last + 2]);
  double grad_remaining = grad_sizes[last];
  for (int64_t p = classes - 2; p >= 0; --p) {
    const int64_t k = class_at(group, p);
    remaining += static_cast<int64_t>(statistics[3 * k + 2]);
    const double a = grad_sizes[k] - grad_remaining;
    seed(p, k, remaining, a);
    grad_remaining += a * statistics[3 * k + 1];
  }
}

}  // namespace DRPM_ISA
}  // namespace drpm
