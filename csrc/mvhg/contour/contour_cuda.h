#pragma once

#include "mvhg/contour/contour.h"

namespace drpm {

// Rows in flight, one warp each: 32 warps on each of 132 multiprocessors; the rest comes by stride.
inline int64_t contour_rows_in_flight(int64_t rows) { return rows < 4224 ? rows : 4224; }

// Launchers over `rows` work items; `args.scratch` holds `doubles` doubles for each row in flight.
#define DRPM_DECLARE_CONTOUR(Args)                                                             \
  int mvhg_contour_cuda(const Args<float>& args, int64_t rows, int64_t doubles, void* stream); \
  int mvhg_contour_cuda(const Args<double>& args, int64_t rows, int64_t doubles, void* stream);
DRPM_DECLARE_CONTOUR(MvhgNormalizerArgs)
DRPM_DECLARE_CONTOUR(MvhgLogProbArgs)
DRPM_DECLARE_CONTOUR(MvhgCumulantArgs)
DRPM_DECLARE_CONTOUR(MvhgKlArgs)
#undef DRPM_DECLARE_CONTOUR

}  // namespace drpm
