#include "mvhg/contour/contour_rows.h"

namespace drpm {
namespace DRPM_ISA {

#define DRPM_CONTOUR_KERNEL(Args, row_function)                                                 \
  void mvhg_contour_rows(const Args<float>& args, int64_t begin, int64_t end) {                 \
    for (int64_t row = begin; row < end; ++row) row_function<Pack<double>>(Alone(), args, row); \
  }                                                                                             \
  void mvhg_contour_rows(const Args<double>& args, int64_t begin, int64_t end) {                \
    for (int64_t row = begin; row < end; ++row) row_function<Pack<double>>(Alone(), args, row); \
  }

DRPM_CONTOUR_KERNEL(MvhgNormalizerArgs, normalizer_row)
DRPM_CONTOUR_KERNEL(MvhgLogProbArgs, log_prob_row)
DRPM_CONTOUR_KERNEL(MvhgCumulantArgs, cumulant_row)
DRPM_CONTOUR_KERNEL(MvhgKlArgs, kl_row)

}  // namespace DRPM_ISA
}  // namespace drpm
