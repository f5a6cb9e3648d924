// Numerics of the two-class conditional (docs/math/mvhg.md, section 1).
#pragma once

#include "lanes/lane.h"
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
  return m_left >= 0 && m_right >= 0 && n >= 0 && n <= m_left + m_right;
}

DRPM_HD inline bool hypergeometric_weights_are_valid(double log_omega_left, double log_omega_right) {
  return is_finite(log_omega_left) && is_finite(log_omega_right);
}

// log w(x) = x log omega_L + (n - x) log omega_R
//            - log x! - log (m_L - x)! - log (n - x)! - log (m_R - n + x)!         (thesis Eq. 5.18, 5.19)
DRPM_HD inline double hypergeometric_log_weight(double x, double log_omega_left, double log_omega_right, double m_left,
                                                double m_right, double n, const LogFactorialTable& table) {
  const double weight = x * log_omega_left + (n - x) * log_omega_right;
  return weight - ((log_factorial(x, table) + log_factorial(m_left - x, table)) +
                   (log_factorial(n - x, table) + log_factorial(m_right - n + x, table)));
}

}  // namespace DRPM_ISA
}  // namespace drpm
