// The merged chain along one row, for a team of the CPU or the device (docs/math/mvhg.md, sections 2 and 3).
#pragma once

#include "lanes/team.h"
#include "mvhg/support.h"
#include "mvhg/two_class/merged_math.h"

namespace drpm {
namespace DRPM_ISA {

// `draw(c, row, k, relaxed)` draws from one two-class conditional, the same for every member of the team.
template <class Team, class T, class Draw>
DRPM_DEVICE inline void sample_row(const Team& team, const MvhgSampleMergedArgs<T>& args, int64_t row,
                                   const Draw& draw) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row % args.counts.batch * classes;
  double* statistics = args.statistics == nullptr ? nullptr : args.statistics + row * classes * 2;
  const MvhgRow parameters = mvhg_row(args.counts, row, log_omega);
  double *log_mass = args.classes, *log_later = args.classes + classes;
  team.sync();  // the scratch may still be read for the previous row
  if (team.first() && parameters.valid) merged_masses(parameters, log_omega, log_mass, log_later);
  team.sync();
  int64_t m_right = parameters.total;
  sample_chain(team, parameters, ChainOutput<T>{args.sizes + row * classes, statistics, 2, args.hard, args.tau},
               [&](int64_t p, int64_t remaining, int64_t k) {
                 const int64_t m = possible_items(parameters.m, log_omega, k);
                 m_right -= m;
                 const TwoClass c = make_two_class(log_weight(parameters, log_omega, k),
                                                   merged_log_omega(parameters, log_later[p], m_right), m, m_right,
                                                   static_cast<double>(remaining));
                 return draw(c, row, k, !args.hard || statistics != nullptr);
               });
}

// `sum(c)` gives the TwoClassSums of one two-class conditional, the same for every member of the team.
template <class Team, class T, class Sum>
DRPM_DEVICE inline void log_prob_row(const Team& team, const MvhgLogProbMergedArgs<T>& args, int64_t row,
                                     const Sum& sum) {
  const int64_t classes = args.counts.classes;
  const T* log_omega = args.log_omega + row * classes;
  const T* sizes = args.sizes + row * classes;
  double* statistics = args.statistics + row * classes * 2;
  const MvhgRow parameters = mvhg_row(args.counts, row, log_omega);
  const double support = parameters.valid ? log_support(parameters, log_omega, sizes) : kNaN;
  team_fill(team, statistics, 2 * classes, 0);
  if (!(support == 0)) {
    if (team.first()) args.log_prob[row] = static_cast<T>(support);
    return;
  }
  double *log_mass = args.classes, *log_later = args.classes + classes;
  team.sync();  // the scratch may still be read for the previous row; the statistics are written again below
  if (team.first()) merged_masses(parameters, log_omega, log_mass, log_later);
  team.sync();
  int64_t m_right = parameters.total;
  double remaining = static_cast<double>(parameters.n), log_prob = 0;
  for (int64_t k = 0; k < classes - 1; ++k) {
    const int64_t m = possible_items(parameters.m, log_omega, k);
    m_right -= m;
    const TwoClass c = make_two_class(log_weight(parameters, log_omega, k),
                                      merged_log_omega(parameters, log_later[k], m_right), m, m_right, remaining);
    const TwoClassSums sums = sum(c);
    const double x = sizes[k];
    log_prob -= two_class_drop_at_size(c, sums.window, x, args.log_factorials) + sums.log_sum;
    if (team.first()) {
      statistics[2 * k] = static_cast<double>(sums.window.mode) + sums.mean;
      statistics[2 * k + 1] = remainder_slope(c, static_cast<double>(sums.window.low)) + sums.slope;
    }
    remaining -= x;
  }
  if (team.first()) args.log_prob[row] = static_cast<T>(log_prob);
}

}  // namespace DRPM_ISA
}  // namespace drpm
