#include "mvhg/contour/entropy_rows.h"
#include "mvhg/tables/size_tables_cpu.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// f and phi of one class, in arrays.
struct StoredOutcomes {
  int64_t low, stride, size, mode;
  double mass, centre;
  const double *f, *phi;
  int64_t start;

  void enter(int64_t i) { start = i; }
  double at(int64_t t) const { return f[start + t] * phi[start + t]; }
};

template <class T>
StoredOutcomes open_class(const MvhgEntropyArgs<T>& args, int64_t m, double a) {
  const ClassWeights w = class_weights(m, a, m, kPlainCut, m + 1, args.log_factorials);
  const int64_t stride = outcome_stride(w.high - w.low + 1);
  StoredOutcomes out{w.low, stride, (w.high - w.low) / stride + 1, w.mode, 0, 0, args.f, args.phi, 0};
  class_log_weights(w, stride, out.size, args.log_factorials, args.phi);
  exp_table(args.phi, out.size, args.f);
  double sum = 0;
  for (int64_t i = 0; i < out.size; ++i) {
    out.mass += args.f[i];
    sum += args.f[i] * static_cast<double>(w.low - w.mode + i * stride);
  }
  out.centre = sum / out.mass;
  return out;
}

template <class T>
void entropy_rows(const MvhgEntropyArgs<T>& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row)
    entropy_row<VD>(Alone(), args, row, [&](int64_t, int64_t m, double a) { return open_class(args, m, a); });
}

}  // namespace

void mvhg_entropy_rows(const MvhgEntropyArgs<float>& args, int64_t begin, int64_t end) {
  entropy_rows(args, begin, end);
}

void mvhg_entropy_rows(const MvhgEntropyArgs<double>& args, int64_t begin, int64_t end) {
  entropy_rows(args, begin, end);
}

}  // namespace DRPM_ISA
}  // namespace drpm
