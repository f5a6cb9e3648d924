// The one list of noise streams: a stream is one use of a seed, and no two uses within a call share one. It takes four
// bits of the counter (philox.h), so there are sixteen. drpm._C hands the list to Python (library.cpp).
#pragma once

#include <cstdint>

namespace drpm {

constexpr uint32_t kStreamSizes = 0;       // Gumbel noise of the subset sizes (class, outcome)
constexpr uint32_t kStreamOrder = 1;       // Gumbel noise of the order (element)
constexpr uint32_t kStreamClassOrder = 2;  // Gumbel keys that order the classes of mvhg_sample at random (class)
constexpr uint32_t kStreamDraw = 2;        // uniforms of mvhg_draw (class, trial), which orders no classes
constexpr uint32_t kStreamTree = 3;        // uniforms of draws by a tree (level, node)
constexpr uint32_t kStreamAssignment = 4;  // Gumbel noise of assignments by a matrix of scores (class, element)

}  // namespace drpm
