// The subset weights alpha of the rows in flight, a pack of positions at a time, as the forward and the backward loops
// on the CPU take them.
#pragma once

#include "band/band_visit.h"
#include "band/short_rows.h"
#include "partition/partition.h"
#include "partition/partition_math.h"

namespace drpm {
namespace DRPM_ISA {

template <class T>
inline SubsetWeights subset_weights(const PartitionArgs<T>& args, int64_t slot) {
  return {args.boundary + slot * args.classes,
          args.rest + slot * args.classes,
          args.cut + slot * args.classes,
          args.band.n,
          args.classes,
          args.band.tau,
          args.eps,
          boundary_reach<T>(args.band.tau),
          args.hard};
}

// Whether scores and sizes of a row are finite.
template <class T>
inline bool row_is_finite(const PartitionArgs<T>& args, int64_t row) {
  const T* sizes = args.sizes + row * args.classes;
  T check = 0;
  for (int64_t k = 0; k < args.classes; ++k) check += sizes[k] - sizes[k];
  return check == 0 && scores_are_finite(args.band, row);
}

template <class T>
inline void set_boundaries(const PartitionArgs<T>& args, int64_t slot, int64_t row) {
  const int64_t at = slot * args.classes;
  subset_boundaries(args.sizes + row * args.classes, args.band.n, args.classes, args.eps, args.boundary + at,
                    args.cut + at, args.rest + at);
}

// a_q = alpha at the positions of a pack; slope[q + 1] = derivative of the boundary that ends class low + q, slope[0]
// of the one that begins class low
inline void soft_weights(const SubsetWeights& w, int64_t low, int64_t classes, VecD position, VecD* a, VecD* slope) {
  BoundaryValue<VecD> before = boundary_value<VecD>(w, low - 1, position);
  slope[0] = before.slope;
  for (int64_t q = 0; q < classes; ++q) {
    const BoundaryValue<VecD> f = boundary_value<VecD>(w, low + q, position);
    a[q] = f.value - before.value;
    slope[q + 1] = f.slope;
    before = f;
  }
}

inline void hard_weights(const SubsetWeights& w, int64_t low, int64_t classes, VecD position, VecD* a) {
  for (int64_t q = 0; q < classes; ++q) {
    const double from = low + q > 0 ? static_cast<double>(w.cut[low + q - 1]) : 0;
    const double to = static_cast<double>(w.cut[low + q]);
    const VecD started = position >= splat<VecD>(from) ? splat<VecD>(1) : splat<VecD>(0);
    a[q] = position < splat<VecD>(to) ? started : splat<VecD>(0);
  }
}

inline VecD positions(int64_t first) {
  double part[Lane<VecD>::kWidth];
  for (int l = 0; l < Lane<VecD>::kWidth; ++l) part[l] = static_cast<double>(first + l);
  return load<VecD>(part);
}

// alpha of a short row, by class and position, and the derivatives of the boundaries.
struct ShortAlpha {
  double alpha[kBandClasses][kShortRow], slope[kBandClasses + 1][kShortRow];
};

inline void short_alpha(const SubsetWeights& w, int64_t n, ShortAlpha* out) {
  VecD a[kBandClasses], slope[kBandClasses + 1];
  for (int64_t first = 0; first < n; first += kShortLane) {
    if (w.hard)
      hard_weights(w, 0, w.classes, positions(first), a);
    else
      soft_weights(w, 0, w.classes, positions(first), a, slope);
    for (int64_t k = 0; k < w.classes; ++k) store<VecD>(out->alpha[k] + first, a[k]);
    if (!w.hard)
      for (int64_t k = 0; k <= w.classes; ++k) store<VecD>(out->slope[k] + first, slope[k]);
  }
}

// Takes the row as a short one and sets its boundaries and alpha; false where it is not short.
template <class T>
inline bool plan_short(const PartitionArgs<T>& args, const RowPlan& p, int64_t slot, int64_t row, ShortRow* r,
                       ShortAlpha* alpha) {
  const int64_t at = row * args.band.n;
  if (!row_is_finite(args, row)) return false;
  if (!short_row(p, args.band.scores + at, args.band.order + at, args.classes, r)) return false;
  set_boundaries(args, slot, row);
  short_alpha(subset_weights(args, slot), args.band.n, alpha);
  return true;
}

}  // namespace DRPM_ISA
}  // namespace drpm
