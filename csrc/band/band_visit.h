// Visits the rows of a block where products with its lines become products with its rows, and the rows' left factors
// become factors of the lines; docs/math/relaxed_sort.md, Sections 4 and 5.
#pragma once

#include "band/band_products.h"

namespace drpm {
namespace DRPM_ISA {

// Coefficient r of the Chebyshev series through the values at the nodes (Eq. 11).
inline void chebyshev_series(const BandTables& tables, const double* value, int64_t stride, double* series) {
  for (int64_t r = 0; r < tables.nodes; ++r) series[r] = 0;
  for (int64_t m = 0; m < tables.nodes; ++m)
    for (int64_t r = 0; r < tables.nodes; ++r) series[r] += tables.transform[m * tables.nodes + r] * value[m * stride];
}

// The transpose: weights of the nodes from the moments of the rows against T_r.
template <class T>
inline void chebyshev_nodes(const BandTables& tables, const double* moment, T* node, int64_t stride) {
  for (int64_t m = 0; m < tables.nodes; ++m) {
    double sum = 0;
    for (int64_t r = 0; r < tables.nodes; ++r) sum += tables.transform[m * tables.nodes + r] * moment[r];
    node[m * stride] = static_cast<T>(sum);
  }
}

inline VecD chebyshev_value(const double* series, const VecD* basis, int64_t nodes) {
  VecD sum = VecD{};
  for (int64_t r = 0; r < nodes; ++r) sum += series[r] * basis[r];
  return sum;
}

// visit_rows() where U has a line for each row.
template <class T, class Visit>
inline void visit_direct_rows(const BlockWeights<T>& w, int64_t classes, const double* product, const Visit& visit,
                              LineFactors<T>* f) {
  using V = VecD;
  constexpr int kWidth = Lane<V>::kWidth;
  const BandBlock& block = w.block;
  V a[kBandClasses], n[kBandClasses], center = V{};
  for (int64_t start = 0; start < block.rows; start += kWidth) {
    const int64_t count = block.rows - start < kWidth ? block.rows - start : kWidth;
    double part[kWidth];
    for (int l = 0; l < kWidth; ++l) part[l] = l < count ? 1 / w.sum[start + l] : 0;
    const V inverse = load<V>(part);
    if (product != nullptr)
      for (int64_t q = 0; q < classes; ++q) {
        for (int l = 0; l < kWidth; ++l) part[l] = l < count ? product[(start + l) * kBandClasses + q] : 0;
        n[q] = load<V>(part) * inverse;
      }
    visit(block.first + start, count, n, a, &center);
    if (f == nullptr) continue;
    for (int64_t q = 0; q < classes; ++q) {
      store<V>(part, a[q] * inverse);
      for (int l = 0; l < count; ++l) f->left[(start + l) * kBandClasses + q] = static_cast<T>(part[l]);
    }
    if (product == nullptr) continue;
    store<V>(part, center * inverse);
    for (int l = 0; l < count; ++l) f->center[start + l] = static_cast<T>(part[l]);
  }
}

// visit_rows() where U has a line for each Chebyshev node: the rows' values come from the series through the nodes, and
// the nodes' factors from the moments of the rows' factors against T_r (Eq. 11).
template <class T, class Visit>
inline void visit_interpolated_rows(const BlockWeights<T>& w, const BandTables& tables, int64_t classes,
                                    const double* product, const Visit& visit, LineFactors<T>* f) {
  using V = VecD;
  constexpr int kWidth = Lane<V>::kWidth;
  const BandBlock& block = w.block;
  V a[kBandClasses], n[kBandClasses], center = V{};
  const int64_t nodes = tables.nodes;
  double z_series[kMaxBandNodes], n_series[kBandClasses][kMaxBandNodes];
  chebyshev_series(tables, w.sum, 1, z_series);
  if (product != nullptr)
    for (int64_t q = 0; q < classes; ++q) chebyshev_series(tables, product + q, kBandClasses, n_series[q]);
  // moments of a_q / Z, offset a_q / Z, c / Z and offset c / Z
  const int64_t quantities = f == nullptr ? 0 : (product == nullptr ? classes : 2 * classes + 2);
  V moment[kMaxBandNodes][2 * kBandClasses + 2];
  for (int64_t r = 0; r < nodes; ++r)
    for (int64_t x = 0; x < quantities; ++x) moment[r][x] = V{};
  const double half = 0.5 * (block.rows - 1);
  const double first_offset = static_cast<double>(block.first - block.frame);
  for (int64_t start = 0; start < block.rows; start += kWidth) {
    const int64_t count = block.rows - start < kWidth ? block.rows - start : kWidth;
    double part[kWidth], valid[kWidth];
    for (int l = 0; l < kWidth; ++l) {
      const int64_t row = l < count ? start + l : start;
      part[l] = static_cast<double>(row);
      valid[l] = l < count ? 1 : 0;
    }
    const V row = load<V>(part);
    const V x = (row - half) * (1 / half);
    V basis[kMaxBandNodes];
    basis[0] = splat<V>(1);
    basis[1] = x;
    for (int64_t r = 2; r < nodes; ++r) basis[r] = (x + x) * basis[r - 1] - basis[r - 2];
    const V inverse = splat<V>(1) / chebyshev_value(z_series, basis, nodes);
    if (product != nullptr)
      for (int64_t q = 0; q < classes; ++q)
        n[q] = chebyshev_value(n_series[q], basis, nodes) * inverse * load<V>(valid);
    visit(block.first + start, count, n, a, &center);
    if (f == nullptr) continue;
    const V weight = inverse * load<V>(valid);
    const V offset = row + first_offset;
    V quantity[2 * kBandClasses + 2];
    for (int64_t q = 0; q < classes; ++q) quantity[q] = a[q] * weight;
    if (product != nullptr) {
      for (int64_t q = 0; q < classes; ++q) quantity[classes + q] = quantity[q] * offset;
      quantity[2 * classes] = center * weight;
      quantity[2 * classes + 1] = quantity[2 * classes] * offset;
    }
    for (int64_t r = 0; r < nodes; ++r)
      for (int64_t k = 0; k < quantities; ++k) moment[r][k] += quantity[k] * basis[r];
  }
  double sums[kMaxBandNodes];
  for (int64_t k = 0; k < quantities; ++k) {
    for (int64_t r = 0; r < nodes; ++r) sums[r] = sum_lanes<V>(moment[r][k]);
    if (k < classes)
      chebyshev_nodes(tables, sums, f->left + k, kBandClasses);
    else if (k < 2 * classes)
      chebyshev_nodes(tables, sums, f->left_moved + (k - classes), kBandClasses);
    else
      chebyshev_nodes(tables, sums, k == 2 * classes ? f->center : f->center_moved, 1);
  }
}

// Visits the rows of a block, a pack of doubles at a time: visit(first, rows, n, a, center) gets N_q = P G_q of these
// rows in n (where `product` is given, and relative to the peaks where contract() was) and sets their left factors a_q
// and, for a product, center = sum_q a_q n_q. Lanes beyond `rows` are 0 in n and do not count. f, where given, receives
// a_q / Z and center / Z carried to the lines of U.
template <class T, class Visit>
inline void visit_rows(const BlockWeights<T>& w, const BandTables& tables, int64_t classes, const double* product,
                       const Visit& visit, LineFactors<T>* f) {
  if (w.block.nodes == 0)
    visit_direct_rows(w, classes, product, visit, f);
  else
    visit_interpolated_rows(w, tables, classes, product, visit, f);
}

}  // namespace DRPM_ISA
}  // namespace drpm
