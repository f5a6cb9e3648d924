// The chain of exact conditionals along one row, for a team of the CPU or the device (docs/math/mvhg.md, sections 2
// and 5).
#pragma once

#include "mvhg/chain.h"
#include "mvhg/tables/exact.h"

namespace drpm {
namespace DRPM_ISA {

// `draw(p, remaining, k)` draws from one conditional, the same for every member of the team.
template <class Team, class T, class Draw>
DRPM_DEVICE inline void sample_exact_row(const Team& team, const MvhgSampleExactArgs<T>& args, const MvhgRow& group,
                                         int64_t row, const Draw& draw) {
  const int64_t at = row * group.classes;
  const ChainOutput<T> out{args.sizes + at, args.statistics == nullptr ? nullptr : args.statistics + 3 * at, 3,
                           args.common.hard, args.common.tau};
  const bool point = is_point(group);
  const T* log_omega = args.common.log_omega + row % args.common.counts.batch * group.classes;
  sample_chain(team, group, out, [&](int64_t p, int64_t remaining, int64_t k) {
    if (!point) return draw(p, remaining, k);
    const int64_t x = group.n == 0 ? 0 : possible_items(group.m, log_omega, k);
    return RelaxedOutcome{x, static_cast<double>(x), 0, 0};
  });
}

// Goes back along one row's chain: calls seed(p, k, r_p, A_p) for p = K - 2 .. 0, where r_p is what was left for
// position p and k its class.
template <class T, class Seed>
DRPM_HD inline void reverse_exact_row(const MvhgSampleExactBackwardArgs<T>& args, const MvhgRow& group, int64_t row,
                                      const Seed& seed) {
  const int64_t classes = group.classes;
  const double* statistics = args.statistics + row * classes * 3;
  int64_t remaining = static_cast<int64_t>(statistics[3 * class_at(group, classes - 1) + 2]);
  reverse_chain(group, args.grad_sizes + row * classes, statistics, 3,
                [&](int64_t p, int64_t k, double a, const double* of_class) {
                  remaining += static_cast<int64_t>(of_class[2]);
                  seed(p, k, remaining, a);
                });
}

}  // namespace DRPM_ISA
}  // namespace drpm
