// A part's layout, checked and indexed: which leaves there are, which shards this part stores, and
// at which byte each lies.
//
// Part offsets: the data regions of the part's data files, one after another; each file's region
// starts on a 4096-byte boundary. Within a region the shards lie without holes in Layout.shards
// order. So the offset of every shard follows from the layout alone, and client and daemon compute
// the same. There is nearly always one file; a layout whose safetensors header would pass
// LIMIT_HEADER_BYTES_MAX is cut into several.
#ifndef CKPT_COMMON_LAYOUT_H_
#define CKPT_COMMON_LAYOUT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/box.h"
#include "common/leaf_table.h"
#include "common/shard_table.h"

namespace ckpt {

// Immutable and shared between threads once made.
class PartLayout {
 public:
  struct ShardPlace {
    uint64_t part_offset = 0;  // bytes
    uint64_t length = 0;       // bytes, > 0
    uint32_t file = 0;         // index into files()
    uint64_t first_block = 0;  // index of its first block in PartManifest.block_hashes
  };
  struct FilePlace {
    uint64_t part_offset = 0;  // of its data region
    uint64_t length = 0;       // bytes of its data region
    uint32_t first_shard = 0;
    uint32_t shard_count = 0;
  };

  // Everything that a hostile client could get wrong is checked here: the wire's form
  // (common/layout_wire.h), leaves (LeafTable), keys (distinct in print), shards (ShardTable, in
  // canonical order, no two of one leaf overlapping), limits, replicated_digest. INVALID_ARGUMENT
  // says which and where. O(n log n) in leaves and shards.
  // `digest`: what digest() will be, where the caller has hashed the bytes already.
  static absl::StatusOr<std::shared_ptr<const PartLayout>> FromBytes(std::string serialized,
                                                                     std::string digest = "");
  // Sorts the shards into canonical order and fills in replicated_digest first.
  static absl::StatusOr<std::shared_ptr<const PartLayout>> FromProto(const v1::Layout& proto);

  const LeafTable& leaves() const { return leaves_; }
  const ShardTable& shard_boxes() const { return shard_boxes_; }
  absl::string_view replicated_digest() const { return replicated_digest_; }
  const std::string& serialized() const { return leaves_.text(); }
  const std::string& digest() const { return digest_; }  // SHA-256 of serialized(), 32 raw bytes
  v1::Layout ToProto() const;  // many small messages: slow for a large one
  absl::Span<const ShardPlace> shards() const { return shards_; }
  absl::Span<const FilePlace> files() const { return files_; }  // empty when there are no shards
  uint64_t part_bytes() const {
    return part_bytes_;
  }  // end of the last region; what staging must hold
  uint64_t data_bytes() const { return data_bytes_; }    // sum of shard lengths
  uint64_t block_count() const { return block_count_; }  // length of PartManifest.block_hashes
  uint64_t MemoryBytes() const;                          // that it takes, all of it

 private:
  friend class LayoutBuilder;
  PartLayout(LeafTable leaves, ShardTable shards)
      : leaves_(std::move(leaves)), shard_boxes_(std::move(shards)) {}
  absl::Status Finish();  // all but the order of what was added is checked
  absl::Status PlaceShards();

  LeafTable leaves_;
  ShardTable shard_boxes_;
  std::string replicated_digest_;
  std::string digest_;
  std::vector<ShardPlace> shards_;
  std::vector<FilePlace> files_;
  uint64_t part_bytes_ = 0;
  uint64_t data_bytes_ = 0;
  uint64_t block_count_ = 0;
};

// Makes a layout leaf by leaf, without a message for each.
class LayoutBuilder {
 public:
  void Reserve(size_t leaves);
  // The next leaf. INVALID_ARGUMENT as PartLayout::FromBytes.
  absl::Status AddLeaf(const LeafDeclaration& leaf) { return leaves_.Add(leaf); }
  absl::Status AddLeaf(const v1::Leaf& leaf);
  const LeafTable& leaves() const { return leaves_; }
  // After all leaves; in any order.
  absl::Status AddShard(uint32_t leaf, const Box& box) {
    return shards_.Add(leaves_, leaf, box.offset, box.extent);
  }
  // Takes what was added.
  absl::StatusOr<std::shared_ptr<const PartLayout>> Build();

 private:
  LeafTable leaves_;
  ShardTable shards_;
};

}  // namespace ckpt

#endif  // CKPT_COMMON_LAYOUT_H_
