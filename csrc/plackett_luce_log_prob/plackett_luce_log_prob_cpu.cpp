#include "lanes/team.h"
#include "plackett_luce_log_prob/plackett_luce_log_prob.h"
#include "plackett_luce_log_prob/plackett_luce_log_prob_math.h"
#include "special/score_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// Log-scores in rank order, less the largest; false where the row is not a permutation, or a score not finite. `seen`
// is scratch, of n values.
template <class T>
bool gather(const int64_t* order, const T* log_scores, int64_t n, double* seen, double* ranked) {
  const double largest = finite_largest(Alone(), log_scores, n);
  if (largest != largest) return false;
  if (order == nullptr) {
    for (int64_t i = 0; i < n; ++i) ranked[i] = reduced(log_scores[i], largest);
    return true;
  }
  for (int64_t i = 0; i < n; ++i) seen[i] = 0;
  bool valid = true;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t j = order[i];
    if (static_cast<uint64_t>(j) >= static_cast<uint64_t>(n)) return false;
    valid = valid && seen[j] == 0;
    seen[j] = 1;
    ranked[i] = reduced(log_scores[j], largest);
  }
  return valid;
}

double log_prob(const double* ranked, double* d, int64_t n) {
  if (n == 0) return 0;
  double reference = ranked[n - 1], total = 0;
  d[n - 1] = reference;
  for (int64_t end = n - 1; end > 0;) {
    int64_t begin = plackett_luce_block_begin(ranked, end, reference);
    if (begin == end) {  // one score that dwarfs everything after it: d_i = x_i
      begin = end - 1;
      reference = d[begin] = ranked[begin];
    } else {
      total += plackett_luce_block_forward<VecD>(ranked + begin, d + begin, static_cast<int>(end - begin), &reference);
    }
    end = begin;
  }
  return total;
}

void gradient(const double* ranked, double* d, int64_t n) {
  double carry = 0, previous = n > 0 ? d[0] : 0;
  for (int64_t begin = 0; begin < n;) {
    const int64_t end = plackett_luce_block_end(d, begin, n);
    const double first = d[begin];
    carry = plackett_luce_block_gradient<VecD>(ranked + begin, d + begin, static_cast<int>(end - begin),
                                               carry * exp_lane<double>(first - previous));
    previous = first;
    begin = end;
  }
}

template <class T>
void plackett_luce_row(const PlackettLuceArgs<T>& args, int64_t row) {
  const int64_t n = args.n;
  const int64_t* order = args.order == nullptr ? nullptr : args.order + row * n;
  double* ranked = args.ranked;
  double* d = args.log_suffix_sum;
  const bool valid = gather(order, args.log_scores + row * n, n, d, ranked);
  args.log_prob[row] = static_cast<T>(valid ? log_prob(ranked, d, n) : __builtin_nan(""));
  if (args.grad_log_scores == nullptr) return;
  T* grad = args.grad_log_scores + row * n;
  if (!valid) {
    for (int64_t i = 0; i < n; ++i) grad[i] = static_cast<T>(__builtin_nan(""));
    return;
  }
  gradient(ranked, d, n);
  if (order == nullptr) {
    for (int64_t i = 0; i < n; ++i) grad[i] = static_cast<T>(d[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) grad[order[i]] = static_cast<T>(d[i]);
  }
}

}  // namespace

void plackett_luce_rows(const PlackettLuceArgs<float>& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) plackett_luce_row(args, row);
}

void plackett_luce_rows(const PlackettLuceArgs<double>& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) plackett_luce_row(args, row);
}

}  // namespace DRPM_ISA
}  // namespace drpm
