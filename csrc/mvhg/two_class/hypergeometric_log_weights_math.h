// Numerics of the two-class conditional (docs/math/mvhg.md, section 1).
#pragma once

#include "mvhg/law.h"
#include "special/log_factorial.h"

namespace drpm {
namespace DRPM_ISA {

struct SupportRange {
  int64_t low, high;  // inclusive; empty where high < low
};

// max(0, n - m_R) <= x <= min(m_L, n)
DRPM_HD inline SupportRange hypergeometric_support(int64_t m_left, int64_t m_right, int64_t n) {
  return {n > m_right ? n - m_right : 0, m_left < n ? m_left : n};
}

DRPM_HD inline bool hypergeometric_counts_are_valid(int64_t m_left, int64_t m_right, int64_t n) {
  if (m_left < 0 || m_right < 0 || m_left > kLargestCount || m_right > kLargestCount) return false;
  return n >= 0 && n <= kLargestCount && n <= m_left + m_right;
}

// From a class of weight zero, log omega = -inf, nothing is drawn.
DRPM_HD inline double log_weight_of_drawn(double x, double log_omega) {
  return log_omega == -__builtin_huge_val() ? 0 : x * log_omega;
}

DRPM_HD inline bool hypergeometric_weights_are_valid(double log_omega_left, double log_omega_right) {
  return log_omega_left < __builtin_huge_val() && log_omega_right < __builtin_huge_val();
}

// log w(x) = x log omega_L + (n - x) log omega_R
//            - log x! - log (m_L - x)! - log (n - x)! - log (m_R - n + x)!         (thesis Eq. 5.18, 5.19)
DRPM_HD inline double hypergeometric_log_weight(double x, double log_omega_left, double log_omega_right, double m_left,
                                                double m_right, double n, const LogFactorialTable& table) {
  const double weight = log_weight_of_drawn(x, log_omega_left) + log_weight_of_drawn(n - x, log_omega_right);
  return weight - ((log_factorial(x, table) + log_factorial(m_left - x, table)) +
                   (log_factorial(n - x, table) + log_factorial(m_right - n + x, table)));
}

}  // namespace DRPM_ISA
}  // namespace drpm
