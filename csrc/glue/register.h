// Registers the ops of a file for every device of this build:
//   DRPM_OPS(m, Backend) { m.impl("x", TORCH_BOX(&drpm::x<Backend>)); }
// with drpm::Cpu and, where there are CUDA kernels, drpm::Cuda for Backend. Both are templates or classes of inline
// functions in the file itself, so that a build without CUDA leaves no trace of the second.
#pragma once

#include "glue/tensors_cuda.h"

#if defined(DRPM_EMULATED)  // test-only: the CUDA kernels, compiled for the CPU, under another name
#define DRPM_REGISTRATIONS \
  STABLE_TORCH_LIBRARY_IMPL(drpm_emulated, CPU, m) { drpm_register_ops<drpm::Cuda>(m); }
#elif defined(DRPM_WITH_CUDA)
#define DRPM_REGISTRATIONS                                                     \
  STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) { drpm_register_ops<drpm::Cpu>(m); } \
  STABLE_TORCH_LIBRARY_IMPL(drpm, CUDA, m) { drpm_register_ops<drpm::Cuda>(m); }
#else
#define DRPM_REGISTRATIONS \
  STABLE_TORCH_LIBRARY_IMPL(drpm, CPU, m) { drpm_register_ops<drpm::Cpu>(m); }
#endif

#define DRPM_OPS(m, Backend)                                              \
  template <class Backend>                                                \
  static void drpm_register_ops(torch::stable::detail::StableLibrary& m); \
  DRPM_REGISTRATIONS                                                      \
  template <class Backend>                                                \
  static void drpm_register_ops(torch::stable::detail::StableLibrary& m)
