// The seeds of a call. One call may stand for several with a seed each (a dimension that torch.vmap maps over): of its
// B parameter rows the first `group` go with the first seed, the next ones with the second. Each group draws the noise
// that a call of its own would draw.
#pragma once

#include <cstdint>

namespace drpm {

struct Seeds {
  const int64_t* values;  // (batch / group)
  int64_t batch, group;   // parameter rows, and how many of them share a seed
};

}  // namespace drpm
