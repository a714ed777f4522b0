#include "client/save/part_bytes.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/copy_kernel.h"
#include "common/digest.h"
#include "common/limits.h"

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

const std::byte* PartBytes::MemoryOf(size_t shard) const {
  if (!snapshot_of_.empty() && snapshot_of_[shard] != nullptr) return snapshot_of_[shard];
  const PartPlan::ShardSource& source = structure_->sources[shard];
  const std::byte* data = part_.leaves[source.leaf].data;
  return data == nullptr ? nullptr : data + source.source_offset;
}

size_t PartBytes::ShardAt(uint64_t offset) const {
  const absl::Span<const PartLayout::ShardPlace> shards = layout().shards();
  // By where they end: a shard of no bytes shares its offset with the one after it.
  return static_cast<size_t>(
      std::upper_bound(shards.begin(), shards.end(), offset,
                       [](uint64_t at, const PartLayout::ShardPlace& shard) {
                         return at < shard.part_offset + shard.length;
                       }) -
      shards.begin());
}

void PartBytes::CopyShard(size_t shard, uint64_t begin, uint64_t bytes, std::byte* out,
                          bool streaming) const {
  const std::byte* memory = MemoryOf(shard);
  if (memory == nullptr) {
    const PartPlan::ShardSource& source = structure_->sources[shard];
    part_.leaves[source.leaf].copy(source.source_offset + begin, bytes, out);
  } else if (streaming) {
    CopyStreaming(out, memory + begin, bytes);
  } else {
    std::memcpy(out, memory + begin, bytes);
  }
}

void PartBytes::CopyRange(uint64_t begin, uint64_t bytes, std::byte* out, bool streaming) const {
  const absl::Span<const PartLayout::ShardPlace> shards = layout().shards();
  const uint64_t end = begin + bytes;
  uint64_t at = begin;
  for (size_t i = ShardAt(begin); i < shards.size() && shards[i].part_offset < end; ++i) {
    const PartLayout::ShardPlace& place = shards[i];
    const uint64_t from = std::max(begin, place.part_offset);
    const uint64_t to = std::min(end, place.part_offset + place.length);
    if (from >= to) continue;
    if (from > at) std::memset(out + (at - begin), 0, from - at);
    CopyShard(i, from - place.part_offset, to - from, out + (from - begin), streaming);
    at = to;
  }
  if (at < end) std::memset(out + (at - begin), 0, end - at);
}

void PartBytes::HashBlocks(uint64_t begin, uint64_t bytes, uint64_t* hashes) const {
  const absl::Span<const PartLayout::ShardPlace> shards = layout().shards();
  const uint64_t end = begin + bytes;
  std::unique_ptr<std::byte[]> computed;  // of leaves that are not in memory
  for (size_t i = ShardAt(begin); i < shards.size() && shards[i].part_offset < end; ++i) {
    const PartLayout::ShardPlace& place = shards[i];
    const std::byte* memory = MemoryOf(i);
    const uint64_t passed = begin > place.part_offset ? begin - place.part_offset : 0;
    for (uint64_t block = (passed + kHashBlockBytes - 1) / kHashBlockBytes;
         block * kHashBlockBytes < place.length &&
         place.part_offset + block * kHashBlockBytes < end;
         ++block) {
      const uint64_t at = block * kHashBlockBytes;
      const uint64_t length = std::min(kHashBlockBytes, place.length - at);
      const std::byte* from = memory == nullptr ? nullptr : memory + at;
      if (from == nullptr) {
        if (computed == nullptr) computed = std::make_unique<std::byte[]>(kHashBlockBytes);
        CopyShard(i, at, length, computed.get(), false);
        from = computed.get();
      }
      hashes[place.first_block + block] = Xxh3(from, length);
    }
  }
}

DataSource::Piece PartBytes::PieceAt(uint64_t begin, uint64_t bytes) const {
  const absl::Span<const PartLayout::ShardPlace> shards = layout().shards();
  const size_t i = ShardAt(begin);
  if (i == shards.size()) return {nullptr, bytes};
  const PartLayout::ShardPlace& place = shards[i];
  if (place.part_offset > begin) return {nullptr, std::min(bytes, place.part_offset - begin)};
  const uint64_t inside = begin - place.part_offset;
  const std::byte* memory = MemoryOf(i);
  return {memory == nullptr ? nullptr : memory + inside, std::min(bytes, place.length - inside)};
}

}  // namespace ckpt
