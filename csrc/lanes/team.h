// Who works on a row. Row functions that both backends share are templates over a pack type V and a team: on the CPU
// one thread alone, whose packs run along the row; on the device the lanes of a warp (device/cuda_launch.h), each with
// its own elements; or all threads of a block. Where a team works along an array, member `rank` takes the packs rank,
// rank + size, ...
#pragma once

#include "lanes/host_device.h"
#include "lanes/lane.h"

namespace drpm {
namespace DRPM_ISA {

struct Alone {
  static constexpr int kSize = 1;
  int rank() const { return 0; }
  int size() const { return 1; }
  bool first() const { return true; }
  // Collective: the same result for every member.
  template <class T>
  T sum(T x) const {
    return x;
  }
  template <class T>
  T largest(T x) const {
    return x;
  }
  // The members' sums up to and with their own; *total gets that of all.
  template <class T>
  T running_sum(T x, T* total) const {
    *total = x;
    return x;
  }
  // Likewise their largest, of numbers >= 0.
  int64_t running_largest(int64_t x, int64_t* total) const {
    *total = x;
    return x;
  }
  // The largest value, and the smallest position that has it.
  void first_largest(double*, int64_t*) const {}
  void sync() const {}  // what members wrote before can be read by all of them after
};

template <class Team, class T>
DRPM_DEVICE inline void team_fill(const Team& team, T* x, int64_t count, double value) {
  for (int64_t i = team.rank(); i < count; i += team.size()) x[i] = static_cast<T>(value);
}

}  // namespace DRPM_ISA
}  // namespace drpm
