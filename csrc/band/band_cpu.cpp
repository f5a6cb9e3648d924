#include "band/band_plan.h"

namespace drpm {
namespace DRPM_ISA {
namespace {

template <class T>
void gather(const BandArgs<T>& args, int64_t slot, int64_t segment) {
  const int64_t at = (args.first_row + slot) * args.n;
  gather_segment(row_plan(args, slot), args.scores + at, args.order + at, segment);
}

}  // namespace

DRPM_DEFINE_KERNELS(band_gather_segments, BandArgs,
                    gather(args, item / segment_count(args.n), item % segment_count(args.n)))
DRPM_DEFINE_KERNELS(band_scan_segments, BandArgs,
                    scan_segment(row_plan(args, item / segment_count(args.n)), item % segment_count(args.n)))
DRPM_DEFINE_KERNELS(band_block_segments, BandArgs,
                    block_segment(row_plan(args, item / segment_count(args.n)), item % segment_count(args.n)))
DRPM_DEFINE_KERNELS(band_chunk_slots, BandArgs, chunk_blocks(row_plan(args, item)))

}  // namespace DRPM_ISA
}  // namespace drpm
