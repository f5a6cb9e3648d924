// Scratch memory of a call: named arrays in one allocation, aligned to 64 bytes. The layout function runs twice, first
// to measure, then to hand out pointers:
//   Tensor memory = carve(like, [&](Carver& c) { a = c.take<float>(n); b = c.take<int64_t>(m); });
#pragma once

#include "glue/tensors.h"

namespace drpm {

class Carver {
 public:
  explicit Carver(char* base) : base_(base) {}

  template <class T>
  T* take(int64_t count) {
    T* result = reinterpret_cast<T*>(base_ + size_);
    size_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return result;
  }

  int64_t size() const { return size_; }

 private:
  char* base_;
  int64_t size_ = 0;
};

template <class Layout>
Tensor carve(const Tensor& like, const Layout& layout) {
  Carver measure(nullptr);
  layout(measure);
  Tensor memory = torch::stable::new_empty(like, {measure.size() + 64}, ScalarType::Byte);
  char* base = static_cast<char*>(memory.mutable_data_ptr());
  base += (64 - reinterpret_cast<uintptr_t>(base) % 64) % 64;
  Carver hand_out(base);
  layout(hand_out);
  return memory;
}

}  // namespace drpm
