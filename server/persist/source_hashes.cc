#include "server/persist/source_hashes.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/limits.h"

namespace ckpt {

absl::Status CompareSourceHashes(const PartLayout& layout, absl::Span<const uint64_t> source,
                                 absl::Span<const uint64_t> persisted) {
  if (source.size() != persisted.size() || source.size() != layout.block_count()) {
    return absl::InvalidArgumentError(absl::StrCat(source.size(), " source hashes for ",
                                                   layout.block_count(), " blocks"));
  }
  size_t first = source.size();
  size_t differing = 0;
  for (size_t i = source.size(); i-- > 0;) {
    if (source[i] == persisted[i]) continue;
    first = i;
    ++differing;
  }
  if (differing == 0) return absl::OkStatus();
  const absl::Span<const PartLayout::ShardPlace> shards = layout.shards();
  const auto after = std::upper_bound(
      shards.begin(), shards.end(), first,
      [](uint64_t block, const auto& shard) { return block < shard.first_block; });
  const auto shard = after - 1;
  const ShardView view = layout.shard_boxes()[static_cast<size_t>(shard - shards.begin())];
  return absl::DataLossError(absl::StrCat(
      "bytes changed between the trainer's memory and the disk: key ",
      layout.leaves().printed_key(view.leaf), " ", view.box().ToString(), ", block ",
      first - shard->first_block, " (of ", kHashBlockBytes, " bytes): the trainer's hash is ",
      absl::Hex(source[first], absl::kZeroPad16), ", what was persisted has ",
      absl::Hex(persisted[first], absl::kZeroPad16), "; ", differing, " of ", source.size(),
      " blocks differ"));
}

}  // namespace ckpt
