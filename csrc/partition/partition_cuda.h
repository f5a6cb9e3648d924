// Subset weights on a CUDA device: what the partition needs beside the band's sums (band/band_cuda.h).
// All arrays are row-major, contiguous device memory; B rows, K classes, n elements or sorted positions.
#pragma once

#include <cstdint>

namespace drpm {

template <class T>
struct PartitionCudaArgs {
  int64_t rows, n, classes;
  double tau, eps;
  const T* sizes;           // (B, K)
  const int64_t* order;     // (B, n)
  double* boundary;         // (B, K) nu_k
  double* rest;             // (B, K) what their rounding left
  int64_t* cut;             // (B, K) positions before it have f_k = 1
  int64_t* position_label;  // (B, n) subset of each sorted position
  int64_t* labels;          // (B, n) subset of each element
  T* assignment;            // (B, K, n) one-hot
  T* alpha;                 // (B, K, n) relaxed weight of each sorted position
  const T* grad_alpha;      // (B, K, n)
  T* grad_sizes;            // (B, K)
};

#define DRPM_DECLARE_PARTITION_LAUNCHER(Name)                   \
  int Name(const PartitionCudaArgs<float>& args, void* stream); \
  int Name(const PartitionCudaArgs<double>& args, void* stream);

DRPM_DECLARE_PARTITION_LAUNCHER(partition_labels_cuda)          // sizes, order -> boundary, cut, position_label, labels
DRPM_DECLARE_PARTITION_LAUNCHER(partition_assignment_cuda)      // labels -> assignment
DRPM_DECLARE_PARTITION_LAUNCHER(partition_alpha_cuda)           // boundary -> alpha
DRPM_DECLARE_PARTITION_LAUNCHER(partition_sizes_gradient_cuda)  // boundary, grad_alpha -> grad_sizes
#undef DRPM_DECLARE_PARTITION_LAUNCHER

}  // namespace drpm
