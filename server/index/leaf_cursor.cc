#include "server/index/leaf_cursor.h"

#include <algorithm>

#include "common/limits.h"
#include "common/status_macros.h"
#include "server/index/record.h"
#include "common/varint.h"

namespace ckpt {

absl::Status LeafCursor::Seek(absl::string_view key) {
  // Where the row at hand may have it, its leaves are read on rather than the row sought again.
  const bool here = valid_ && row_first_ <= key && printed_key() <= key;
  if (!here) {
    valid_ = false;
    CKPT_RETURN_IF_ERROR(rows_->Seek(key));
    CKPT_RETURN_IF_ERROR(EnterRow());
  }
  bool sought = !here;
  while (valid_ && key_ < key) {
    if (rest_.empty() && !sought) {
      sought = true;
      valid_ = false;
      CKPT_RETURN_IF_ERROR(rows_->Seek(key));
      CKPT_RETURN_IF_ERROR(EnterRow());
      continue;
    }
    CKPT_RETURN_IF_ERROR(Next());
  }
  return absl::OkStatus();
}

absl::Status LeafCursor::Next() {
  if (!rest_.empty()) return ReadEntry();
  valid_ = false;
  CKPT_RETURN_IF_ERROR(rows_->Next());
  return EnterRow();
}

absl::Status LeafCursor::EnterRow() {
  if (!rows_->valid()) return absl::OkStatus();
  rest_ = rows_->row();
  key_.clear();
  CKPT_RETURN_IF_ERROR(ReadEntry());
  row_first_ = key_;
  return absl::OkStatus();
}

absl::Status LeafCursor::ReadEntry() {
  valid_ = false;
  VarintReader reader(rest_);
  const uint64_t shared = reader.Varint();
  const absl::string_view suffix = reader.Text();
  if (shared > key_.size()) return index_records::Damaged("a row of leaves");
  key_.resize(shared);
  key_.append(suffix.data(), suffix.size());
  position_ = static_cast<uint32_t>(reader.Varint());
  const uint64_t flags = reader.Varint();
  placement_ = static_cast<v1::Placement>(flags & 3);
  tied_ = (flags & 4) != 0;
  tensor_ = (flags & 8) != 0;
  top_level_bytes_ = static_cast<uint32_t>(reader.Varint());
  dtype_ = tensor_ ? static_cast<v1::DType>(reader.Varint()) : v1::DTYPE_UNSPECIFIED;
  data_bytes_ = tensor_ ? reader.Varint() : 0;
  leaf_ = reader.Text();
  const absl::string_view target = reader.Text();
  alias_target_.reset();
  if ((flags & 16) != 0 || !target.empty()) alias_target_ = target;  // rows of before lack the flag
  shards_ = reader.Text();
  if (!reader.ok() || top_level_bytes_ > key_.size()) {
    return index_records::Damaged("a row of leaves");
  }
  rest_ = reader.rest();
  valid_ = true;
  return absl::OkStatus();
}

LeafFacts LeafCursor::Facts(uint32_t rank) const {
  LeafFacts facts;
  facts.printed_key = key_;
  facts.top_level = facts.printed_key.substr(0, top_level_bytes_);
  facts.dtype = dtype_;
  if (tensor_) facts.bytes = data_bytes_;
  if (placement_ == v1::PLACEMENT_PER_RANK) facts.rank = rank;
  return facts;
}

absl::Status LeafCursor::ReadLeaf(v1::Leaf& leaf) const {
  if (leaf.ParseFromArray(leaf_.data(), static_cast<int>(leaf_.size()))) return absl::OkStatus();
  return index_records::Damaged("a leaf");
}

absl::Status LeafCursor::ReadShards(std::vector<LeafShard>& shards) const {
  shards.clear();
  if (shards_.empty()) return absl::OkStatus();
  VarintReader reader(shards_);
  while (reader.ok() && !reader.rest().empty()) {
    LeafShard& shard = shards.emplace_back();
    const uint64_t form = reader.Varint();
    const uint64_t dimensions = form >> 1;
    if (dimensions > kDimensionsMax) return index_records::Damaged("a shard");
    if ((form & 1) != 0) {  // whole tensors are stored without their box
      v1::Leaf leaf;
      CKPT_RETURN_IF_ERROR(ReadLeaf(leaf));
      shard.box = Box::Whole({leaf.shape().data(), static_cast<size_t>(leaf.shape_size())});
    } else {
      for (uint64_t d = 0; d < dimensions; ++d) shard.box.offset.push_back(reader.Varint());
      for (uint64_t d = 0; d < dimensions; ++d) shard.box.extent.push_back(reader.Varint());
    }
    shard.length = reader.Varint();
    shard.part_offset = reader.Varint();
    shard.region_offset = reader.Varint();
    shard.file = static_cast<uint32_t>(reader.Varint());
    shard.first_block = reader.Varint();
  }
  return reader.ok() ? absl::OkStatus() : index_records::Damaged("a shard");
}

}  // namespace ckpt
