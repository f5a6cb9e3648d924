#include "mvhg/contour/entropy_rows.h"
#include "mvhg/tables/size_tables_cpu.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// f and phi of one class, in arrays.
struct StoredOutcomes {
  int64_t low, size, mode;
  double mass;
  const double *f, *phi;
  int64_t start;

  void enter(int64_t i) { start = i; }
  double at(int64_t t) const { return f[start + t] * phi[start + t]; }
};

template <class T>
void entropy_item(const MvhgEntropyArgs<T>& args, int64_t parameters) {
  double *f = args.f, *phi = args.log_f;
  entropy_row<VD>(Alone(), args, parameters, [&](int64_t, int64_t m, double a) {
    const TableWindow w = class_table(m, a, m, kPlainCut, args.widest, args.log_factorials, 0, phi);
    exp_table(phi, w.size, f);
    StoredOutcomes out{w.low, w.size, w.low, 0, f, phi, 0};
    for (int64_t i = 0; i < w.size; ++i) {
      out.mass += f[i];
      out.mode = phi[i] > phi[out.mode - w.low] ? w.low + i : out.mode;
    }
    return out;
  });
}

}  // namespace

void mvhg_entropy_rows(const MvhgEntropyArgs<float>& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) entropy_item(args, row);
}

void mvhg_entropy_rows(const MvhgEntropyArgs<double>& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) entropy_item(args, row);
}

}  // namespace DRPM_ISA
}  // namespace drpm
