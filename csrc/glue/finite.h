// Whether values are finite: the argument check of every op, which must not cost more than the op.
#pragma once

#include "lanes/simd.h"

namespace drpm {

template <class T>
struct AllFiniteArgs {
  const T* values;
  bool* finite;  // one flag; set to false, never to true
};

// A work item is one value.
DRPM_DECLARE_KERNEL(all_finite, AllFiniteArgs<float>)
DRPM_DECLARE_KERNEL(all_finite, AllFiniteArgs<double>)

}  // namespace drpm
