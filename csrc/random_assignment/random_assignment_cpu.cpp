#include "noise/noise_tile.h"
#include "partition/partition_math.h"
#include "random_assignment/random_assignment.h"
#include "sort/sort_math.h"
#include "special/score_rows.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

// noise[j] = the variate of element left[j] in class k, of increasing elements; packs run over the end of `noise`.
template <class T>
void noise_of(const NoisyScores<T>& scores, int64_t row, int64_t k, const int32_t* left, int64_t count, T* noise) {
  using V = Pack<T>;
  constexpr int64_t kTile = kNoiseTile<T>;
  const NoiseRow at = noise_row(scores.seeds, row);
  T tile[kTile];
  for (int64_t j = 0; j < count;) {
    const int64_t first = left[j] / kTile * kTile;
    uniform_tile<T>(at, kStreamAssignment, static_cast<uint32_t>(k), static_cast<uint64_t>(first), tile);
    for (; j < count && left[j] < first + kTile; ++j) noise[j] = tile[left[j] - first];
  }
  for (int64_t j = count; j % Lane<V>::kWidth != 0; ++j) noise[j] = T(0.5);
  for (int64_t j = 0; j < count; j += Lane<V>::kWidth) store<V>(noise + j, gumbel_of_uniform<V>(load<V>(noise + j)));
}

template <class T>
const T* scores_of(const NoisyScores<T>& scores, int64_t row, int64_t k) {
  return scores.log_scores + (row * scores.classes + k) * scores.n;
}

// Whether what a row is drawn from are numbers; the last row of scores orders its subset and nothing else.
template <class T>
bool row_is_finite(const NoisyScores<T>& scores, const T* sizes, int64_t row) {
  for (int64_t k = 0; k < scores.classes; ++k)
    if (!is_finite(sizes[k])) return false;
  for (int64_t k = 0; k + 1 < scores.classes; ++k) {
    const double largest = finite_largest<Pack<T>>(scores_of(scores, row, k), scores.n);
    if (largest != largest) return false;
  }
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

// Moves the `taken` of `count` remaining elements with the smallest keys (ties by index) to `out`; the others stay.
template <class T>
void take_smallest(const RandomAssignmentArgs<T>& args, int64_t count, int64_t taken, SortItem* out) {
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
    out[in] = {key, static_cast<uint64_t>(element)};
    args.left[stay] = element;
    in += take;
    stay += !take;
  }
}

// A drawn size as a count of what remains.
template <class T>
int64_t whole_size(T size, int64_t left) {
  if (!(size > 0)) return 0;
  return size >= static_cast<T>(left) ? left : static_cast<int64_t>(static_cast<double>(size) + 0.5);
}

// The n_k best of the remaining elements go to subset k, by a selection; only they are sorted.         (Eq. 1)
template <class T>
void draw_row(const RandomAssignmentArgs<T>& args, int64_t row) {
  const int64_t n = args.scores.n, classes = args.scores.classes;
  int64_t *order = args.order + row * n, *labels = args.labels + row * n;
  const T* sizes = args.sizes + row * classes;
  int64_t count = n;
  for (int64_t i = 0; i < n; ++i) args.left[i] = static_cast<int32_t>(i);
  for (int64_t k = 0; k < classes && count > 0; ++k) {
    const bool last = k + 1 == classes;
    const int64_t taken = last ? count : whole_size(sizes[k], count);
    if (taken == 0) continue;
    const T* scores = scores_of(args.scores, row, k);
    if (args.scores.noise) {
      noise_of(args.scores, row, k, args.left, count, args.noise);
      for (int64_t j = 0; j < count; ++j) args.keys[j] = decreasing_key(scores[args.left[j]] + args.noise[j]);
    } else {
      for (int64_t j = 0; j < count; ++j) args.keys[j] = decreasing_key(scores[args.left[j]]);
    }
    if (taken < count)
      take_smallest(args, count, taken, args.items);
    else
      for (int64_t j = 0; j < count; ++j) args.items[j] = {args.keys[j], static_cast<uint64_t>(args.left[j])};
    const SortItem* mine = sort_items<T>(args.items, args.items + n, taken);
    for (int64_t i = 0; i < taken; ++i) {
      const int64_t element = static_cast<int64_t>(mine[i].index);
      *order++ = element;
      labels[element] = k;
    }
    count -= taken;
  }
  T* planes = args.assignment + row * classes * n;
  const T fill = row_is_finite(args.scores, sizes, row) ? T(0) : static_cast<T>(__builtin_nan(""));
  for (int64_t i = 0; i < classes * n; ++i) planes[i] = fill;
  if (fill != 0) return;
  for (int64_t i = 0; i < n; ++i) planes[labels[i] * n + i] = 1;
}

template <class T>
void begin_backward(const RandomAssignmentBackwardArgs<T>& args) {
  const int64_t n = args.scores.n, classes = args.scores.classes;
  *args.finite = row_is_finite(args.scores, args.sizes, args.row);
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
  for (int64_t i = 0; i < n; ++i) args.noisy[i] = scores[i];
  if (args.scores.noise) {
    constexpr int64_t kTile = kNoiseTile<T>;
    T tile[kTile];
    for (int64_t first = 0; first < n; first += kTile) {
      const int64_t end = first + kTile < n ? first + kTile : n;
      gumbel_tile<T>(noise_row(args.scores.seeds, args.row), kStreamAssignment, static_cast<uint32_t>(k),
                     static_cast<uint64_t>(first), n - first, tile);
      for (int64_t i = first; i < end; ++i) args.noisy[i] += tile[i - first];
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
