// One draw from a conditional and the moments of its relaxation.
#pragma once

#include <cstdint>

#include "lanes/host_device.h"

namespace drpm {
namespace DRPM_ISA {

// Logits further below the best one than this times tau have no weight at the working precision.
template <class T>
constexpr double kKeep = sizeof(T) == 4 ? 18 : 38;

struct RelaxedOutcome {
  int64_t hard;     // argmax of the perturbed logits
  double mean;      // E x under softmax(logits / tau)
  double variance;  // Var x
  double slope;     // Cov(x, d), d the x-dependent part of d logit / d r
};

}  // namespace DRPM_ISA
}  // namespace drpm
