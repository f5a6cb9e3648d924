#include "special/log_factorial.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <mutex>
#include <vector>

namespace drpm {

LogFactorialTable log_factorial_table(int64_t count) {
  static std::mutex mutex;
  static std::vector<std::unique_ptr<double[]>> tables;  // every size ever handed out: doubling bounds the waste by 2
  static std::atomic<const double*> current{nullptr};
  static std::atomic<int64_t> size{0};

  count = std::min(std::max<int64_t>(count, 1024), kLogFactorialTableMax);
  if (size.load(std::memory_order_acquire) < count) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (size.load() < count) {
      int64_t grown = std::max<int64_t>(size.load(), 1024);
      while (grown < count) grown *= 2;
      auto table = std::make_unique<double[]>(grown);
      long double sum = 0;
      for (int64_t x = 0; x < grown; ++x) {
        if (x > 1) sum += std::log(static_cast<long double>(x));
        table[x] = static_cast<double>(sum);
      }
      current.store(table.get(), std::memory_order_release);
      tables.push_back(std::move(table));
      size.store(grown, std::memory_order_release);
    }
  }
  // `current` is stored before `size`: whoever sees the size sees a table at least that large.
  const int64_t n = size.load(std::memory_order_acquire);
  return {current.load(std::memory_order_acquire), n};
}

}  // namespace drpm
