// The leaves of one part's layout in the order of their printed keys, each with the shards that the
// part stores of it: found by a seek, read one after another, without parsing the layout.
//
// Leaves are kept packed, a few dozen to a row (leaf_rows.cc has the bytes). The same rows come
// from the index, or are made from a layout that was read from its manifest's file.
#ifndef CKPT_SERVER_INDEX_LEAF_CURSOR_H_
#define CKPT_SERVER_INDEX_LEAF_CURSOR_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/box.h"
#include "common/filter.h"
#include "common/layout.h"

namespace ckpt {

// A box of a leaf, and where the part has its bytes.
struct LeafShard {
  Box box;                     // in the leaf's coordinates
  uint64_t length = 0;         // bytes
  uint64_t part_offset = 0;    // bytes, in the part (its memory copy)
  uint64_t region_offset = 0;  // bytes, in the data region of its data file
  uint32_t file = 0;           // index into PartManifest.files
  uint64_t first_block = 0;    // index into PartManifest.block_hashes
};

// Rows of packed leaves, ascending by the key of their first leaf.
class LeafRows {
 public:
  virtual ~LeafRows() = default;
  // To the last row that begins at or before `key`; where there is none, to the first row.
  virtual absl::Status Seek(absl::string_view key) = 0;
  virtual absl::Status Next() = 0;
  virtual bool valid() const = 0;
  virtual absl::string_view row() const = 0;  // until the next move
};

// One thread. Errors: DATA_LOSS where a row is damaged. After an error, and before the first Seek,
// it stands nowhere.
class LeafCursor {
 public:
  explicit LeafCursor(std::unique_ptr<LeafRows> rows) : rows_(std::move(rows)) {}

  // To the first leaf whose printed key is at or after `key`. Cheap when that is in the row at
  // hand.
  absl::Status Seek(absl::string_view key);
  absl::Status Next();
  bool valid() const { return valid_; }

  // Of the leaf at hand; views hold until the cursor moves.
  absl::string_view printed_key() const { return key_; }
  uint32_t position() const { return position_; }  // index into Layout.leaves
  v1::Placement placement() const { return placement_; }
  // Shares its storage: an alias, or the leaf that holds the bytes of one.
  bool tied() const { return tied_; }
  // Of an alias: the printed key of the leaf that holds its bytes.
  std::optional<absl::string_view> alias_target() const { return alias_target_; }
  // What a filter asks, with no message parsed.
  LeafFacts Facts(uint32_t rank) const;
  // As in the layout.
  absl::Status ReadLeaf(v1::Leaf& leaf) const;
  // In ascending order of their boxes. An alias has none.
  absl::Status ReadShards(std::vector<LeafShard>& shards) const;

 private:
  absl::Status EnterRow();
  absl::Status ReadEntry();

  const std::unique_ptr<LeafRows> rows_;
  bool valid_ = false;
  absl::string_view rest_;  // of the row, behind the leaf at hand
  std::string row_first_;   // the first key of the row at hand
  std::string key_;
  uint32_t position_ = 0;
  v1::Placement placement_ = v1::PLACEMENT_UNSPECIFIED;
  bool tied_ = false;
  uint32_t top_level_bytes_ = 0;
  v1::DType dtype_ = v1::DTYPE_UNSPECIFIED;
  bool tensor_ = false;
  uint64_t data_bytes_ = 0;
  std::optional<absl::string_view> alias_target_;
  absl::string_view leaf_;
  absl::string_view shards_;
};

// Calls `put` with each row of the layout's leaves, ascending, and the printed key of its first
// leaf. Stops at the first error.
absl::Status PackLeaves(
    const PartLayout& layout,
    absl::FunctionRef<absl::Status(absl::string_view first_key, absl::string_view row)> put);

// The same cursor over a layout at hand, which need not live on.
std::unique_ptr<LeafCursor> CursorOverLayout(const PartLayout& layout);

}  // namespace ckpt

#endif  // CKPT_SERVER_INDEX_LEAF_CURSOR_H_
