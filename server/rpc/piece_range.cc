#include "server/rpc/piece_range.h"

#include <algorithm>

#include "common/limits.h"

namespace ckpt {
namespace {

// Row-major number of the element at `offset` (in the leaf's coordinates) within the shard.
uint64_t ElementNumber(const Box& shard, const Extents& offset) {
  uint64_t number = 0;
  for (size_t d = 0; d < offset.size(); ++d) {
    number = number * shard.extent[d] + (offset[d] - shard.offset[d]);
  }
  return number;
}

}  // namespace

void Need::Add(const std::vector<Box>* more) {
  if (more == nullptr) {
    whole = true;
    return;
  }
  for (const Box& box : *more) {
    if (std::find(boxes.begin(), boxes.end(), box) == boxes.end()) boxes.push_back(box);
  }
}

uint64_t Need::Bytes(uint64_t element_bytes, uint64_t whole_bytes) const {
  if (whole) return whole_bytes;
  uint64_t bytes = 0;
  for (const Box& box : boxes) bytes += box.volume() * element_bytes;
  return bytes;
}

std::optional<BlockRange> NeededBlocks(const Need& need, const Box& shard,
                                       uint64_t element_bytes, uint64_t length) {
  if (length == 0) return std::nullopt;
  if (need.whole) return BlockRange{0, (length + kHashBlockBytes - 1) / kHashBlockBytes};
  uint64_t begin = length;
  uint64_t end = 0;
  for (const Box& box : need.boxes) {
    const std::optional<Box> common = Intersect(box, shard);
    if (!common) continue;
    Extents last = common->offset;
    for (size_t d = 0; d < last.size(); ++d) last[d] += common->extent[d] - 1;
    begin = std::min(begin, ElementNumber(shard, common->offset) * element_bytes);
    end = std::max(end, (ElementNumber(shard, last) + 1) * element_bytes);
  }
  if (begin >= end) return std::nullopt;
  const uint64_t first = begin / kHashBlockBytes;
  return BlockRange{first, (end + kHashBlockBytes - 1) / kHashBlockBytes - first};
}

}  // namespace ckpt
