// Marks functions that run on the host and, under nvcc, on the device; names the instruction-set namespace.
#pragma once

#if defined(__CUDACC__)
#define DRPM_HD __host__ __device__
#define DRPM_DEVICE __device__  // what a team of threads runs together: in a .cu file on the device only
// Calls, in kernels, of what stands at several places of one kernel and is long: inlined, it multiplies compile time.
#define DRPM_OUTLINED __noinline__
#else
#define DRPM_HD
#define DRPM_DEVICE
#define DRPM_OUTLINED
#endif

// Every kernel source is compiled once per instruction set. All code that its headers define lives in the
// namespace DRPM_ISA, so that the linker can never merge a function compiled for AVX-512 into the baseline path.
#ifndef DRPM_ISA
#define DRPM_ISA isa_baseline
#endif
