// One draw from a conditional and the moments of its relaxation.
#pragma once

#include <cstdint>

#include "noise/philox.h"

namespace drpm {

constexpr int64_t kOutcomePadding = 256;  // whole noise tiles and packs beyond the last outcome

namespace DRPM_ISA {

// Logits further below the best one than this times tau have no weight at the working precision.
template <class T>
constexpr double kKeep = sizeof(T) == 4 ? 18 : 38;

// Outcomes that matter lie within this of the likeliest one: what noise can lift, and what the softmax weighs.
template <class T>
DRPM_HD inline double outcome_cut(bool noise, bool relaxed, double tau) {
  return (noise ? GumbelRange<T>::kSpan : 0) + (relaxed ? kKeep<T> * tau : 0);
}

struct RelaxedOutcome {
  int64_t hard;     // argmax of the perturbed logits
  double mean;      // E x under softmax(logits / tau)
  double variance;  // Var x
  double slope;     // Cov(x, d), d the x-dependent part of d logit / d r
};

}  // namespace DRPM_ISA
}  // namespace drpm
