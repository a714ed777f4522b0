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
#include "common/dtype.h"

namespace google::protobuf {
class Arena;
}  // namespace google::protobuf

namespace ckpt {

// A layout while it is made. Its many small messages lie together in one arena: that is made and
// freed several times faster than message by message.
struct LayoutDraft {
  LayoutDraft();
  LayoutDraft(LayoutDraft&&) noexcept = default;
  LayoutDraft& operator=(LayoutDraft&&) noexcept = default;
  ~LayoutDraft();
  std::unique_ptr<google::protobuf::Arena> arena;
  v1::Layout* proto;  // in the arena
};

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

  // Everything that a hostile client could get wrong is checked here: keys (valid, distinct in
  // print), kinds, dtypes, shapes, aliases (to an earlier tensor leaf of the same dtype and shape,
  // not itself an alias), shards (leaf is a tensor, box not empty and inside the shape, canonical
  // order, no two of one leaf overlapping), limits, replicated_digest. INVALID_ARGUMENT says which
  // and where.
  static absl::StatusOr<std::shared_ptr<const PartLayout>> FromBytes(std::string serialized);
  // Serializes deterministically; sorts the shards into canonical order and fills replicated_digest
  // first.
  static absl::StatusOr<std::shared_ptr<const PartLayout>> FromDraft(LayoutDraft draft);
  static absl::StatusOr<std::shared_ptr<const PartLayout>> FromProto(const v1::Layout& proto);

  const v1::Layout& proto() const { return *draft_.proto; }
  const std::string& serialized() const { return serialized_; }
  const std::string& digest() const { return digest_; }  // SHA-256 of serialized(), 32 raw bytes
  absl::Span<const ShardPlace> shards() const { return shards_; }
  absl::Span<const FilePlace> files() const { return files_; }  // empty when there are no shards
  absl::Span<const std::string> printed_keys() const { return printed_keys_; }  // by leaf
  uint64_t part_bytes() const {
    return part_bytes_;
  }  // end of the last region; what staging must hold
  uint64_t data_bytes() const { return data_bytes_; }    // sum of shard lengths
  uint64_t block_count() const { return block_count_; }  // length of PartManifest.block_hashes

 private:
  explicit PartLayout(LayoutDraft draft) : draft_(std::move(draft)) {}
  absl::Status Index();  // printed_keys_ are there; all indices of leaves in shards are valid
  absl::Status IndexShards();
  LayoutDraft draft_;
  std::string serialized_;
  std::string digest_;
  std::vector<ShardPlace> shards_;
  std::vector<FilePlace> files_;
  std::vector<std::string> printed_keys_;
  uint64_t part_bytes_ = 0;
  uint64_t data_bytes_ = 0;
  uint64_t block_count_ = 0;
};

// True for kinds whose bytes are stored in shards: TENSOR, STRING_BYTES, RAW_BYTES.
bool IsTensorKind(v1::LeafKind kind);

// Checks Values against a layout: each entry names a VALUE leaf, none twice, each with a kind.
// INVALID_ARGUMENT.
absl::Status ValidateValues(const v1::Values& values, const PartLayout& layout);

}  // namespace ckpt

#endif  // CKPT_COMMON_LAYOUT_H_
