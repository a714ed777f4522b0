#include "common/layout.h"

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/key.h"
#include "common/layout_wire.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/safetensors.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

// Of the header region of a file, beside its shards: length prefix, braces, the fixed metadata, and
// padding. Together with HeaderBytesBound this decides where files are cut, and so is part of the
// format: never to be changed.
constexpr uint64_t kHeaderReserveBytes = 65536;
static_assert(kHeaderReserveBytes >= 16 * kRunBytesMax + 2 * kDataAlignmentBytes);

}  // namespace

absl::StatusOr<std::shared_ptr<const PartLayout>> PartLayout::FromBytes(std::string serialized,
                                                                        std::string digest) {
  internal::LayoutCounts counts;
  CKPT_RETURN_IF_ERROR(internal::CountLayout(serialized, counts));
  std::shared_ptr<PartLayout> layout(new PartLayout(LeafTable(std::move(serialized)), {}));
  LeafTable& leaves = layout->leaves_;
  ShardTable& shards = layout->shard_boxes_;
  leaves.Reserve(counts.leaves, counts.leaf_bytes / 2);
  shards.Reserve(counts.shards);
  internal::WireShard wire;
  absl::string_view replicated_digest;
  CKPT_RETURN_IF_ERROR(internal::ForEachOfLayout(
      leaves.text(), [&](size_t begin, size_t bytes) { return leaves.Read(begin, bytes); },
      [&](absl::string_view message) -> absl::Status {
        CKPT_RETURN_IF_ERROR(internal::ReadShard(shards.size(), message, wire));
        return shards.Add(leaves, wire.leaf, {wire.offset, wire.offsets},
                          {wire.extent, wire.extents});
      },
      replicated_digest));
  layout->replicated_digest_ = leaves.ReplicatedDigest();
  layout->digest_ = std::move(digest);
  CKPT_RETURN_IF_ERROR(layout->Finish());
  if (replicated_digest != layout->replicated_digest_) {
    return absl::InvalidArgumentError(
        "bad layout: replicated_digest is not the digest of its replicated leaves");
  }
  return layout;
}

absl::StatusOr<std::shared_ptr<const PartLayout>> PartLayout::FromProto(const v1::Layout& proto) {
  LayoutBuilder builder;
  builder.Reserve(static_cast<size_t>(proto.leaves_size()));
  for (const v1::Leaf& leaf : proto.leaves()) CKPT_RETURN_IF_ERROR(builder.AddLeaf(leaf));
  for (const v1::Shard& shard : proto.shards()) {
    CKPT_RETURN_IF_ERROR(builder.AddShard(shard.leaf(), Box::FromProto(shard.box())));
  }
  return builder.Build();
}

v1::Layout PartLayout::ToProto() const {
  v1::Layout proto;
  proto.ParseFromString(serialized());
  return proto;
}

absl::Status LayoutBuilder::AddLeaf(const v1::Leaf& leaf) {
  return leaves_.Add(
      {.key = Key(leaf.key()).serialized(),
       .kind = leaf.kind(),
       .placement = leaf.placement(),
       .dtype = leaf.dtype(),
       .shape = absl::MakeConstSpan(leaf.shape().data(), static_cast<size_t>(leaf.shape_size())),
       .alias_of_plus_one = leaf.alias_of_plus_one()});
}

void LayoutBuilder::Reserve(size_t leaves) {
  leaves_.Reserve(leaves, 0);
  shards_.Reserve(leaves);
}

absl::StatusOr<std::shared_ptr<const PartLayout>> LayoutBuilder::Build() {
  shards_.Sort(leaves_);
  const std::string replicated_digest = leaves_.ReplicatedDigest();
  std::string& text = leaves_.text();
  for (size_t i = 0; i < shards_.size(); ++i) {
    const ShardView shard = shards_[i];
    internal::AppendShard(shard.leaf, shard.offset, shard.extent, text);
  }
  internal::AppendReplicatedDigest(replicated_digest, text);
  if (text.size() > kLayoutBytesMax) return internal::TooLarge(text.size());
  std::shared_ptr<PartLayout> layout(new PartLayout(std::move(leaves_), std::move(shards_)));
  layout->replicated_digest_ = replicated_digest;
  CKPT_RETURN_IF_ERROR(layout->Finish());
  return layout;
}

uint64_t PartLayout::MemoryBytes() const {
  return sizeof(*this) + leaves_.MemoryBytes() + shard_boxes_.MemoryBytes() +
         shards_.capacity() * sizeof(ShardPlace) + files_.capacity() * sizeof(FilePlace);
}

absl::Status PartLayout::Finish() {
  const absl::Status in_order = shard_boxes_.CheckOrderAndOverlap(leaves_);
  if (!in_order.ok() || !shard_boxes_.ShowLeavesDistinct(leaves_)) {
    CKPT_RETURN_IF_ERROR(leaves_.CheckDistinct());
  }
  CKPT_RETURN_IF_ERROR(in_order);
  CKPT_RETURN_IF_ERROR(PlaceShards());
  if (digest_.empty()) digest_ = Sha256(serialized());
  return absl::OkStatus();
}

absl::Status PartLayout::PlaceShards() {
  shards_.reserve(shard_boxes_.size());
  uint64_t header_bytes = 0;
  for (size_t i = 0; i < shard_boxes_.size(); ++i) {
    const ShardView shard = shard_boxes_[i];
    const LeafView leaf = leaves_[shard.leaf];
    const uint64_t header_bytes_more = HeaderBytesBound(leaf.shape, leaf.printed_key);
    if (files_.empty() ||
        header_bytes + header_bytes_more > kHeaderBytesMax - kHeaderReserveBytes) {
      part_bytes_ +=
          (kDataAlignmentBytes - part_bytes_ % kDataAlignmentBytes) % kDataAlignmentBytes;
      files_.push_back({part_bytes_, 0, static_cast<uint32_t>(i), 0});
      header_bytes = 0;
    }
    header_bytes += header_bytes_more;
    uint64_t length = DTypeBytes(leaf.dtype);
    for (const uint64_t extent : shard.extent) length *= extent;
    if (length > kPartBytesMax || part_bytes_ > kPartBytesMax - length) {
      return absl::InvalidArgumentError(
          absl::StrCat("bad layout: the part has more than ", kPartBytesMax, " bytes"));
    }
    shards_.push_back(
        {part_bytes_, length, static_cast<uint32_t>(files_.size() - 1), block_count_});
    part_bytes_ += length;
    data_bytes_ += length;
    block_count_ += (length + kHashBlockBytes - 1) / kHashBlockBytes;
    files_.back().length += length;
    ++files_.back().shard_count;
  }
  return absl::OkStatus();
}

}  // namespace ckpt
