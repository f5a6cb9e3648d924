// Stable order of one row, largest first: insertion for short rows, else least-significant-digit radix sort.
#pragma once

#include "lanes/lane.h"
#include "sort/sort.h"

namespace drpm {
namespace DRPM_ISA {

// A number whose unsigned order is the decreasing order of x; -0 counts as 0, equal scores get equal keys.
DRPM_HD inline uint64_t decreasing_key(float x) {
  const uint32_t bits = bits_as<uint32_t>(x + 0.0f);
  return static_cast<uint32_t>(bits >> 31 ? bits : ~(bits | 0x80000000u));
}

DRPM_HD inline uint64_t decreasing_key(double x) {
  const uint64_t bits = bits_as<uint64_t>(x + 0.0);
  return bits >> 63 ? bits : ~(bits | 0x8000000000000000ull);
}

inline void insertion_sort(SortItem* items, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const SortItem item = items[i];
    int64_t j = i;
    for (; j > 0 && items[j - 1].key > item.key; --j) items[j] = items[j - 1];
    items[j] = item;
  }
}

// kPasses digits of kDigitBits; digits that are the same in all keys are skipped. Returns where the result lies.
template <int kDigitBits, int kPasses>
inline SortItem* radix_sort(SortItem* items, SortItem* other, int64_t n) {
  constexpr int kBuckets = 1 << kDigitBits;
  uint32_t count[kPasses][kBuckets];
  memset(count, 0, sizeof(count));
  for (int64_t i = 0; i < n; ++i)
    for (int pass = 0; pass < kPasses; ++pass) ++count[pass][(items[i].key >> (pass * kDigitBits)) & (kBuckets - 1)];
  for (int pass = 0; pass < kPasses; ++pass) {
    const int shift = pass * kDigitBits;
    uint32_t* at = count[pass];
    if (at[(items[0].key >> shift) & (kBuckets - 1)] == n) continue;
    uint32_t sum = 0;
    for (int b = 0; b < kBuckets; ++b) {
      const uint32_t here = at[b];
      at[b] = sum;
      sum += here;
    }
    for (int64_t i = 0; i < n; ++i) other[at[(items[i].key >> shift) & (kBuckets - 1)]++] = items[i];
    SortItem* swap = items;
    items = other;
    other = swap;
  }
  return items;
}

constexpr int64_t kInsertionSize = 40;
constexpr int64_t kSmallDigitSize = 3000;

// Items by increasing key, equal ones in their order; `other` is scratch of as many. Returns where the result lies.
template <class T>
inline SortItem* sort_items(SortItem* items, SortItem* other, int64_t n) {
  constexpr int kKeyBits = 8 * sizeof(T);
  if (n > kSmallDigitSize) return radix_sort<11, (kKeyBits + 10) / 11>(items, other, n);
  if (n > kInsertionSize) return radix_sort<8, kKeyBits / 8>(items, other, n);
  insertion_sort(items, n);
  return items;
}

// order[i] = index of the i-th largest score, ties by index. items: 2 n of scratch; n < 2^32.
template <class T>
inline void sort_order(const T* scores, int64_t n, SortItem* items, int64_t* order) {
  for (int64_t i = 0; i < n; ++i) items[i] = {decreasing_key(scores[i]), static_cast<uint64_t>(i)};
  items = sort_items<T>(items, items + n, n);
  for (int64_t i = 0; i < n; ++i) order[i] = static_cast<int64_t>(items[i].index);
}

}  // namespace DRPM_ISA
}  // namespace drpm
