// Named arrays in one block of memory, each aligned to 64 bytes. A layout runs twice: from null, to measure, then from
// the block's begin, to hand out pointers.
#pragma once

#include <cstdint>

#include "lanes/host_device.h"

namespace drpm {

class Carver {
 public:
  DRPM_HD explicit Carver(void* base) : base_(reinterpret_cast<uintptr_t>(base)) {}

  template <class T>
  DRPM_HD T* take(int64_t count) {
    T* result = reinterpret_cast<T*>(base_ + size_);
    size_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return result;
  }

  DRPM_HD int64_t size() const { return size_; }

 private:
  uintptr_t base_;  // a number: measuring from null is no pointer arithmetic
  int64_t size_ = 0;
};

}  // namespace drpm
