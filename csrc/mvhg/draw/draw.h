// Sizes without a relaxation: by inversion of the tables, or by rejection. Shapes as in mvhg/tables/tables.h.
#pragma once

#include "mvhg/contour/contour.h"
#include "mvhg/tables/tables.h"

namespace drpm {

// A work item is b * S + s.
template <class T>
struct MvhgDrawArgs {
  MvhgExactArgs<T> common;
  T* sizes;               // (R, K)
  double* contours;       // scratch of one task: contour_scratch(K)
  int64_t largest_table;  // up to this n by inversion of the tables, above by rejection with contour probabilities
};

DRPM_DECLARE_KERNEL(mvhg_draw_rows, MvhgDrawArgs<float>)
DRPM_DECLARE_KERNEL(mvhg_draw_rows, MvhgDrawArgs<double>)

// On the device.
template <class T>
struct MvhgDrawCuda {
  MvhgDrawArgs<T> args;
  ExactLayout layout;  // extra: a contour for each warp of the block
  char* scratch;
  int64_t chunks, group;
};

int mvhg_draw_cuda(const MvhgDrawCuda<float>& call, void* stream);
int mvhg_draw_cuda(const MvhgDrawCuda<double>& call, void* stream);

}  // namespace drpm
