// The leaves of a layout, packed: a layout may have a million, and each as a message of its own
// would be a dozen allocations. The serialized messages stay as they are; beside them stand their
// numbers, and their keys as they print.
#ifndef CKPT_COMMON_LEAF_TABLE_H_
#define CKPT_COMMON_LEAF_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/dtype.h"

namespace ckpt {

// A leaf, as views into what holds it.
struct LeafView {
  absl::string_view printed_key;
  absl::string_view top_level;  // its first segment, as it prints
  v1::LeafKind kind = v1::LEAF_KIND_UNSPECIFIED;
  v1::Placement placement = v1::PLACEMENT_UNSPECIFIED;
  DType dtype = v1::DTYPE_UNSPECIFIED;
  absl::Span<const uint64_t> shape;  // elements; empty for what is no tensor
  uint32_t alias_of_plus_one = 0;
};

// A leaf, as views into what says what it is to be.
struct LeafDeclaration {
  absl::string_view key;  // serialized v1::Key, as Key::serialized()
  v1::LeafKind kind = v1::LEAF_KIND_UNSPECIFIED;
  v1::Placement placement = v1::PLACEMENT_UNSPECIFIED;
  DType dtype = v1::DTYPE_UNSPECIFIED;
  absl::Span<const uint64_t> shape;
  uint32_t alias_of_plus_one = 0;
};

// True for kinds whose bytes are stored in shards: TENSOR, STRING_BYTES, RAW_BYTES.
bool IsTensorKind(v1::LeafKind kind);

// Not for several threads while leaves are added.
class LeafTable {
 public:
  // `text`: where the serialized leaves are. The table keeps it.
  explicit LeafTable(std::string text = "") : text_(std::move(text)) {}
  void Reserve(size_t leaves, size_t key_bytes);

  // Reads the next leaf, which text() has at [begin, begin + bytes). Everything that a hostile
  // client could get wrong in one is checked: the wire's canonical form, key, kind, placement,
  // dtype, shape, alias (to an earlier tensor leaf of the same dtype and shape, not itself an
  // alias), limits. INVALID_ARGUMENT says which and where; the table is of no use then.
  absl::Status Read(size_t begin, size_t bytes);
  // Appends a leaf to text(), as a field of v1::Layout, and reads it.
  absl::Status Add(const LeafDeclaration& leaf);
  // INVALID_ARGUMENT: two keys print the same.
  absl::Status CheckDistinct() const;

  size_t size() const { return rows_.size(); }
  LeafView operator[](size_t leaf) const {
    const Row& row = rows_[leaf];
    LeafView view;
    view.printed_key = printed_key(leaf);
    view.top_level = view.printed_key.substr(0, row.top_level_bytes);
    view.kind = static_cast<v1::LeafKind>(row.kind);
    view.placement = static_cast<v1::Placement>(row.placement);
    view.dtype = static_cast<DType>(row.dtype);
    view.shape = absl::MakeConstSpan(shapes_.data() + row.shape_begin, row.dimensions);
    view.alias_of_plus_one = row.alias_of_plus_one;
    return view;
  }
  absl::string_view printed_key(size_t leaf) const {
    const Row& row = rows_[leaf];
    return {printed_.data() + row.printed_begin, row.printed_bytes};
  }
  absl::string_view message(size_t leaf) const {  // the serialized v1::Leaf
    return {text_.data() + rows_[leaf].message_begin, rows_[leaf].message_bytes};
  }
  absl::string_view serialized_key(size_t leaf) const;
  std::string Name(size_t leaf) const;  // `leaf 3 "model.weight"`, for errors
  // SHA-256 of the REPLICATED ones: common/replication.h.
  std::string ReplicatedDigest() const;
  std::vector<LeafView> Views() const;

  std::string& text() { return text_; }
  const std::string& text() const { return text_; }
  uint64_t MemoryBytes() const;

 private:
  struct Row {
    uint32_t message_begin = 0;
    uint32_t printed_begin = 0;
    uint32_t shape_begin = 0;
    uint32_t alias_of_plus_one = 0;
    uint16_t message_bytes = 0;
    uint16_t printed_bytes = 0;
    uint16_t top_level_bytes = 0;
    uint8_t dimensions = 0;
    uint8_t kind = 0;
    uint8_t placement = 0;
    uint8_t dtype = 0;
  };
  absl::Status CheckTensor(const Row& row) const;
  absl::Status CheckPlain(const Row& row) const;
  absl::Status Bad(absl::string_view why) const;  // of the leaf after the last

  std::string text_;
  std::string printed_;
  std::vector<uint64_t> shapes_;
  std::vector<Row> rows_;
  bool any_replicated_ = false;
};

}  // namespace ckpt

#endif  // CKPT_COMMON_LEAF_TABLE_H_
