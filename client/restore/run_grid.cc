#include "client/restore/run_grid.h"

#include <algorithm>

namespace ckpt {

RunGrid::RunGrid(const Box& region, const Box& source, const Box& destination,
                 uint64_t element_bytes) {
  const size_t rank = region.rank();
  uint64_t source_stride = element_bytes;
  uint64_t destination_stride = element_bytes;
  run_bytes_ = element_bytes;
  bool whole_within = true;  // every dimension further in is taken whole, on both sides
  for (size_t d = rank; d-- > 0;) {
    const uint64_t extent = region.extent[d];
    source_begin_ += (region.offset[d] - source.offset[d]) * source_stride;
    destination_begin_ += (region.offset[d] - destination.offset[d]) * destination_stride;
    if (whole_within) {
      run_bytes_ *= extent;
    } else if (extent > 1) {
      outer_.insert(outer_.begin(), {extent, source_stride, destination_stride});
      count_ *= extent;
    }
    whole_within = whole_within && extent == source.extent[d] && extent == destination.extent[d];
    source_stride *= source.extent[d];
    destination_stride *= destination.extent[d];
  }
}

uint64_t RunGrid::SourceAt(uint64_t run) const {
  uint64_t at = source_begin_;
  for (size_t d = outer_.size(); d-- > 0; run /= outer_[d].extent) {
    at += run % outer_[d].extent * outer_[d].source_stride;
  }
  return at;
}

uint64_t RunGrid::DestinationAt(uint64_t run) const {
  uint64_t at = destination_begin_;
  for (size_t d = outer_.size(); d-- > 0; run /= outer_[d].extent) {
    at += run % outer_[d].extent * outer_[d].destination_stride;
  }
  return at;
}

uint64_t RunGrid::FirstEndingAfter(uint64_t source_offset) const {
  uint64_t low = 0;
  uint64_t high = count_;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (SourceAt(middle) + run_bytes_ > source_offset) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

void RunGrid::ForEachWithin(
    uint64_t begin, uint64_t end,
    absl::FunctionRef<void(uint64_t source, uint64_t destination, uint64_t bytes)> move) const {
  for (uint64_t run = FirstEndingAfter(begin); run < count_;) {
    // The innermost outer dimension steps by addition; the others are computed anew.
    uint64_t source = SourceAt(run);
    uint64_t destination = DestinationAt(run);
    const uint64_t in_row = outer_.empty() ? 1 : outer_.back().extent - run % outer_.back().extent;
    for (uint64_t i = 0; i < in_row; ++i, ++run) {
      if (source >= end) return;
      const uint64_t from = std::max(source, begin);
      const uint64_t to = std::min(source + run_bytes_, end);
      move(from, destination + (from - source), to - from);
      if (outer_.empty()) continue;
      source += outer_.back().source_stride;
      destination += outer_.back().destination_stride;
    }
  }
}

}  // namespace ckpt
