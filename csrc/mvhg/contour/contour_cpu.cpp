#include "mvhg/contour/contour_rows.h"

namespace drpm {
namespace DRPM_ISA {

#define DRPM_CONTOUR_KERNEL(Name, Args, row_function)                                           \
  void Name(const Args<float>& args, int64_t begin, int64_t end) {                              \
    for (int64_t row = begin; row < end; ++row) row_function<Pack<double>>(Alone(), args, row); \
  }                                                                                             \
  void Name(const Args<double>& args, int64_t begin, int64_t end) {                             \
    for (int64_t row = begin; row < end; ++row) row_function<Pack<double>>(Alone(), args, row); \
  }

DRPM_CONTOUR_KERNEL(mvhg_normalizer_rows, MvhgNormalizerArgs, normalizer_row)
DRPM_CONTOUR_KERNEL(mvhg_log_prob_rows, MvhgLogProbArgs, log_prob_row)
DRPM_CONTOUR_KERNEL(mvhg_cumulant_rows, MvhgCumulantArgs, cumulant_row)
DRPM_CONTOUR_KERNEL(mvhg_kl_rows, MvhgKlArgs, kl_row)

}  // namespace DRPM_ISA
}  // namespace drpm
