// Scratch memory of a call on the device of `like`: named arrays in one allocation, aligned to 64 bytes. The layout
// function runs twice, first to measure, then to hand out pointers:
//   Tensor memory = carve(like, [&](Carver& c) { a = c.take<float>(n); b = c.take<int64_t>(m); });
// The tensor may go as soon as the launches that use it are queued: torch frees memory in the order of the stream.
#pragma once

#include <memory>

#include "glue/tensors.h"
#include "lanes/carver.h"

namespace drpm {

template <class Layout>
Tensor carve(const Tensor& like, const Layout& layout) {
  Carver measure(nullptr);
  layout(measure);
  Tensor memory = new_tensor(like, {measure.size() + 64}, ScalarType::Byte);
  char* base = static_cast<char*>(memory.mutable_data_ptr());
  base += (64 - reinterpret_cast<uintptr_t>(base) % 64) % 64;
  Carver hand_out(base);
  layout(hand_out);
  return memory;
}

// The same in host memory, for a task of a CPU kernel: no call into torch.
class TaskScratch {
 public:
  template <class Layout>
  explicit TaskScratch(const Layout& layout) {
    Carver measure(nullptr);
    layout(measure);
    memory_.reset(new char[measure.size() + 64]);
    char* base = memory_.get();
    Carver hand_out(base + (64 - reinterpret_cast<uintptr_t>(base) % 64) % 64);
    layout(hand_out);
  }

 private:
  std::unique_ptr<char[]> memory_;
};

}  // namespace drpm
