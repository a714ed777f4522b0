#include "client/save/part_bytes.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/copy_kernel.h"

namespace ckpt {

PartBytes::PartBytes(Part part, std::shared_ptr<const PartStructure> structure, bool snapshot_early)
    : part_(std::move(part)), structure_(std::move(structure)) {
  if (!snapshot_early) return;
  for (size_t i = 0; i < structure_->sources.size(); ++i) {
    if (!part_.leaves[structure_->sources[i].leaf].copy_early) continue;
    const uint64_t length = layout().shards()[i].length;
    Snapshot snapshot{static_cast<uint32_t>(i),
                      std::unique_ptr<std::byte[]>(new std::byte[length])};
    CopyShard(i, 0, length, snapshot.bytes.get(), false);
    snapshots_.push_back(std::move(snapshot));
  }
  if (snapshots_.empty()) return;
  snapshot_of_.resize(structure_->sources.size(), nullptr);
  for (const Snapshot& snapshot : snapshots_) snapshot_of_[snapshot.shard] = snapshot.bytes.get();
}

void PartBytes::CopyShard(size_t shard, uint64_t begin, uint64_t bytes, std::byte* out,
                          bool streaming) const {
  const PartPlan::ShardSource& source = structure_->sources[shard];
  const PartLeaf& leaf = part_.leaves[source.leaf];
  const std::byte* from = nullptr;
  if (!snapshot_of_.empty() && snapshot_of_[shard] != nullptr) {
    from = snapshot_of_[shard] + begin;
  } else if (leaf.data != nullptr) {
    from = leaf.data + source.source_offset + begin;
  } else {
    leaf.copy(source.source_offset + begin, bytes, out);
    return;
  }
  if (streaming) {
    CopyStreaming(out, from, bytes);
  } else {
    std::memcpy(out, from, bytes);
  }
}

void PartBytes::CopyRange(uint64_t begin, uint64_t bytes, std::byte* out, bool streaming) const {
  const absl::Span<const PartLayout::ShardPlace> shards = layout().shards();
  const uint64_t end = begin + bytes;
  auto place = std::upper_bound(shards.begin(), shards.end(), begin,
                                [](uint64_t offset, const PartLayout::ShardPlace& shard) {
                                  return offset < shard.part_offset;
                                });
  if (place != shards.begin()) --place;  // the shard that `begin` may lie in
  uint64_t at = begin;
  for (; place != shards.end() && place->part_offset < end; ++place) {
    const uint64_t from = std::max(begin, place->part_offset);
    const uint64_t to = std::min(end, place->part_offset + place->length);
    if (from >= to) continue;
    if (from > at) std::memset(out + (at - begin), 0, from - at);
    CopyShard(static_cast<size_t>(place - shards.begin()), from - place->part_offset, to - from,
              out + (from - begin), streaming);
    at = to;
  }
  if (at < end) std::memset(out + (at - begin), 0, end - at);
}

}  // namespace ckpt
