#include "noise/noise_tile.h"
#include "partition/partition_math.h"
#include "random_assignment/random_assignment_math.h"
#include "sort/sort_math.h"
#include "special/score_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// The variates of class k, of the tiles that hold an element of `left`; `noise` has room for whole tiles. A variate
// that is not wanted costs less than leaving it out.
template <class T>
void noise_of(const NoisyScores<T>& scores, int64_t row, int64_t k, const int32_t* left, int64_t count, T* noise) {
  constexpr int64_t kTile = kNoiseTile<T>;
  const NoiseRow at = noise_row(scores.seeds, row);
  const auto fill = [&](int64_t first) {
    gumbel_tile<T>(at, kStreamAssignment, static_cast<uint32_t>(k), static_cast<uint64_t>(first), scores.n - first,
                   noise + first);
  };
  if (count * kTile >= scores.n) {
    for (int64_t first = 0; first < scores.n; first += kTile) fill(first);
    return;
  }
  for (int64_t j = 0; j < count;) {
    const int64_t first = left[j] / kTile * kTile;
    fill(first);
    while (j < count && left[j] < first + kTile) ++j;
  }
}

template <class T>
bool sizes_are_finite(const T* sizes, int64_t classes) {
  for (int64_t k = 0; k < classes; ++k)
    if (!is_finite(sizes[k])) return false;
  return true;
}

// How many keys there are of each value of the digit at `shift`, and the digit of the key at *position of the sorted
// keys; *position becomes that among the keys of this digit.
template <int kDigitBits>
uint64_t digit_at(const uint64_t* keys, int64_t n, int shift, int64_t* position, int64_t* equal) {
  constexpr int kBuckets = 1 << kDigitBits;
  uint32_t count[kBuckets];
  memset(count, 0, sizeof(count));
  for (int64_t i = 0; i < n; ++i) ++count[(keys[i] >> shift) & (kBuckets - 1)];
  uint64_t digit = 0;
  for (; *position >= count[digit]; ++digit) *position -= count[digit];
  *equal = count[digit];
  return digit;
}

// The key at `position` of the sorted keys; *ties gets how many positions up to this one hold it. Most significant
// digit first: only the keys that have it are looked at again.
template <int kKeyBits, int kDigitBits>
uint64_t key_at(const uint64_t* keys, int64_t n, int64_t position, uint64_t* candidates, int64_t* ties) {
  for (int above = kKeyBits; above > 0; above -= kDigitBits) {
    const int shift = above > kDigitBits ? above - kDigitBits : 0;
    int64_t equal;
    const uint64_t digit = digit_at<kDigitBits>(keys, n, shift, &position, &equal);
    if (equal == n) continue;
    int64_t kept = 0;
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t key = keys[i];
      candidates[kept] = key;
      kept += ((key >> shift) & ((1u << kDigitBits) - 1)) == digit;
    }
    keys = candidates;
    n = kept;
    if (n == 1) break;
  }
  *ties = position + 1;
  return keys[0];
}

// Moves the `taken` of `count` remaining elements with the smallest keys (ties by index) to `elements`, their keys to
// `candidates`; the others stay.
template <class T>
void take_smallest(const RandomAssignmentArgs<T>& args, int64_t count, int64_t taken) {
  constexpr int64_t kFew = 1024;  // whose digits are shorter: counting them costs more than looking twice
  constexpr int kKeyBits = 8 * sizeof(T);
  int64_t ties;
  const uint64_t last = count <= kFew ? key_at<kKeyBits, 8>(args.keys, count, taken - 1, args.candidates, &ties)
                                      : key_at<kKeyBits, 11>(args.keys, count, taken - 1, args.candidates, &ties);
  int64_t in = 0, stay = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t key = args.keys[i];
    const int32_t element = args.left[i];
    const bool take = key < last || (key == last && ties > 0);
    ties -= key == last;
    args.candidates[in] = key;
    args.elements[in] = element;
    args.left[stay] = element;
    in += take;
    stay += !take;
  }
}

constexpr int64_t kFewKeys = 128;  // of which each is compared with all others, in lanes

// order[r] = the element whose key is the r-th smallest, equal ones in their order; at most kFewKeys.
template <class T>
void order_of_few(const uint64_t* keys, const int32_t* elements, int64_t count, int64_t* order) {
  using V = Pack<T>;
  using Key = IntOf<T>;
  constexpr int kWidth = Lane<V>::kWidth, kTogether = 4;
  constexpr uint64_t kSign = uint64_t{1} << (8 * sizeof(T) - 1);
  Key key[kFewKeys + kWidth];  // whose signed order is that of the keys
  uint8_t equal[kFewKeys + 1] = {};
  for (int64_t i = 0; i < count; ++i) key[i] = static_cast<Key>(keys[i] ^ kSign);
  for (int64_t i = count; i < count + kWidth; ++i) key[i] = static_cast<Key>(kSign - 1);  // below none
  for (int64_t i = 0; i < count; i += kTogether) {
    IntOf<V> own[kTogether], smaller[kTogether];
    for (int t = 0; t < kTogether; ++t) {
      own[t] = IntOf<V>{} + key[i + t < count ? i + t : count - 1];
      smaller[t] = IntOf<V>{};
    }
    for (int64_t j = 0; j < count; j += kWidth) {
      IntOf<V> other;
      memcpy(&other, key + j, sizeof(other));
      for (int t = 0; t < kTogether; ++t) smaller[t] -= other < own[t];
    }
    for (int t = 0; t < kTogether && i + t < count; ++t) {
      Key part[kWidth];
      memcpy(part, &smaller[t], sizeof(part));
      int64_t rank = 0;
      for (int lane = 0; lane < kWidth; ++lane) rank += part[lane];
      order[rank + equal[rank]++] = elements[i + t];
    }
  }
}

template <class T>
void order_by_key(const uint64_t* keys, const int32_t* elements, int64_t count, SortItem* items, int64_t* order) {
  if (count <= kFewKeys) return order_of_few<T>(keys, elements, count, order);
  for (int64_t i = 0; i < count; ++i) items[i] = {keys[i], static_cast<uint64_t>(elements[i])};
  const SortItem* sorted = sort_items<T>(items, items + count, count);
  for (int64_t i = 0; i < count; ++i) order[i] = static_cast<int64_t>(sorted[i].index);
}

// The n_k best of the remaining elements go to subset k, by a selection; only they are sorted.         (Eq. 1)
template <class T>
void draw_row(const RandomAssignmentArgs<T>& args, int64_t row) {
  const int64_t n = args.scores.n, classes = args.scores.classes;
  int64_t *order = args.order + row * n, *labels = args.labels + row * n;
  const T* sizes = args.sizes + row * classes;
  int64_t count = n;
  bool finite = sizes_are_finite(sizes, classes);
  for (int64_t i = 0; i < n; ++i) args.left[i] = static_cast<int32_t>(i);
  for (int64_t k = 0; k < classes; ++k) {
    const bool last = k + 1 == classes;
    const double largest = finite_largest<Pack<T>>(scores_of(args.scores, row, k), n);
    finite = finite && (last || largest == largest);
    const int64_t taken = last ? count : whole_size(sizes[k], count);
    if (taken == 0) continue;
    const T* scores = scores_of(args.scores, row, k);
    if (args.scores.noise) {
      const T origin = noise_origin<T>(largest);
      noise_of(args.scores, row, k, args.left, count, args.noise);
      for (int64_t j = 0; j < count; ++j) {
        const int32_t i = args.left[j];
        args.keys[j] = decreasing_key((scores[i] - origin) + args.noise[i]);
      }
    } else {
      for (int64_t j = 0; j < count; ++j) args.keys[j] = decreasing_key(scores[args.left[j]]);
    }
    if (taken < count) {
      take_smallest(args, count, taken);
      order_by_key<T>(args.candidates, args.elements, taken, args.items, order);
    } else {
      order_by_key<T>(args.keys, args.left, taken, args.items, order);
    }
    for (int64_t i = 0; i < taken; ++i) labels[order[i]] = k;
    order += taken;
    count -= taken;
  }
  T* planes = args.assignment + row * classes * n;
  const T fill = finite ? T(0) : static_cast<T>(__builtin_nan(""));
  for (int64_t i = 0; i < classes * n; ++i) planes[i] = fill;
  if (fill != 0) return;
  for (int64_t i = 0; i < n; ++i) planes[labels[i] * n + i] = 1;
}

template <class T>
void begin_backward(const RandomAssignmentBackwardArgs<T>& args) {
  const int64_t n = args.scores.n, classes = args.scores.classes;
  *args.finite = sizes_are_finite(args.sizes, classes);
  for (int64_t k = 0; k + 1 < classes; ++k) {
    const double largest = args.largest[k] = finite_largest<Pack<T>>(scores_of(args.scores, args.row, k), n);
    *args.finite = *args.finite && largest == largest;
  }
  const T fill = *args.finite ? T(0) : static_cast<T>(__builtin_nan(""));
  for (int64_t i = 0; i < classes * n; ++i) args.grad_scores[i] = fill;
  for (int64_t k = 0; k < classes; ++k) args.grad_sizes[k] = fill;
  const T* grad = args.grad + (classes - 1) * n;
  for (int64_t i = 0; i < n; ++i) {
    args.grad_rest[i] = static_cast<double>(grad[i]);
    args.rank[i] = i;
  }
}

// How many of the first ranks the gradient of a plane of `taken` elements can reach: the columns of its rows' bands,
// and the positions around its boundary.
template <class T>
int64_t ranks_reached(const T* ranked, int64_t n, int64_t taken, double tau) {
  const double boundary = static_cast<double>(taken) + boundary_reach<T>(tau) * tau + 4;
  if (!(boundary < static_cast<double>(n))) return n;
  int64_t reached = static_cast<int64_t>(boundary);
  if (taken == 0) return reached;
  double drop = 0;
  for (int64_t j = taken; j < n; ++j) {
    drop += row_step(j - taken + 1, static_cast<double>(ranked[j - 1]) - static_cast<double>(ranked[j]));
    if (drop > (BandConstants<T>::kDrop + 10) * tau) return j > reached ? j : reached;
  }
  return n;
}

template <class T>
void rank_step(const RandomAssignmentBackwardArgs<T>& args, int64_t k) {
  const int64_t n = args.scores.n;
  const T *scores = scores_of(args.scores, args.row, k), *grad = args.grad + k * n;
  if (!args.scores.noise) {
    for (int64_t i = 0; i < n; ++i) args.noisy[i] = scores[i];
  } else {
    const T origin = noise_origin<T>(args.largest[k]);
    constexpr int64_t kTile = kNoiseTile<T>;
    T tile[kTile];
    for (int64_t first = 0; first < n; first += kTile) {
      const int64_t end = first + kTile < n ? first + kTile : n;
      gumbel_tile<T>(noise_row(args.scores.seeds, args.row), kStreamAssignment, static_cast<uint32_t>(k),
                     static_cast<uint64_t>(first), n - first, tile);
      for (int64_t i = first; i < end; ++i) args.noisy[i] = (scores[i] - origin) + tile[i - first];
    }
  }
  int64_t count = 0, taken = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (args.labels[i] < k) continue;
    taken += args.labels[i] == k;
    args.items[count++] = {decreasing_key(args.noisy[i]), static_cast<uint64_t>(i)};
  }
  *args.used = 0;
  if (count == 0) return;
  const SortItem* items = sort_items<T>(args.items, args.items + n, count);
  for (int64_t j = 0; j < count; ++j) {
    args.element[j] = static_cast<int32_t>(items[j].index);
    args.ranked[j] = args.noisy[args.element[j]];
  }
  const int64_t used = *args.used = ranks_reached(args.ranked, count, taken, args.tau);
  for (int64_t j = 0; j < used; ++j) {
    const int32_t i = args.element[j];
    args.grad_planes[j] = static_cast<T>(static_cast<double>(grad[i]) - args.grad_rest[i]);
    args.grad_planes[used + j] = 0;
  }
  args.plane_sizes[0] = static_cast<T>(taken);
  args.plane_sizes[1] = static_cast<T>(used - taken);
}

// The gradient of rho_k: u (G_k - d/dn_k) + (1 - u) that of rho_{k+1}.                                 (Eq. 9)
template <class T>
void settle_step(const RandomAssignmentBackwardArgs<T>& args, int64_t k) {
  const int64_t n = args.scores.n, used = *args.used;
  const T* grad = args.grad + k * n;
  if (used == 0) return;
  for (int64_t j = 0; j < used; ++j) args.grad_scores[k * n + args.element[j]] = args.grad_ranked[j];
  args.grad_sizes[k] = args.grad_plane_sizes[0];
  const int64_t taken = static_cast<int64_t>(args.plane_sizes[0]);
  if (taken == 0) return;
  const T least = args.ranked[taken - 1];
  const double by_size = static_cast<double>(args.grad_plane_sizes[0]);
  for (int64_t i = 0; i < n; ++i) {
    const bool chosen = args.labels[i] >= k ? args.labels[i] == k : args.noisy[i] > least;
    if (chosen) args.grad_rest[i] = static_cast<double>(grad[i]) - by_size;
  }
}

}  // namespace

DRPM_DEFINE_KERNELS(random_assignment_rows, RandomAssignmentArgs, draw_row(args, item))
DRPM_DEFINE_KERNELS(random_assignment_begin, RandomAssignmentBackwardArgs, begin_backward(args))
DRPM_DEFINE_KERNELS(random_assignment_rank, RandomAssignmentBackwardArgs, rank_step(args, item))
DRPM_DEFINE_KERNELS(random_assignment_settle, RandomAssignmentBackwardArgs, settle_step(args, item))

}  // namespace DRPM_ISA
}  // namespace drpm
