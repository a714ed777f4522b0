// The shards of a layout, packed: which leaf each is of, and its box.
#ifndef CKPT_COMMON_SHARD_TABLE_H_
#define CKPT_COMMON_SHARD_TABLE_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/box.h"
#include "common/leaf_table.h"

namespace ckpt {

// A shard, as views into what holds it.
struct ShardView {
  uint32_t leaf = 0;
  absl::Span<const uint64_t> offset;  // elements, as many as its leaf has dimensions
  absl::Span<const uint64_t> extent;
  Box box() const;
};

// Not for several threads while shards are added.
class ShardTable {
 public:
  void Reserve(size_t shards);
  // INVALID_ARGUMENT: no such leaf, one without bytes of its own, a box that is empty or not inside
  // its shape.
  absl::Status Add(const LeafTable& leaves, uint32_t leaf, absl::Span<const uint64_t> offset,
                   absl::Span<const uint64_t> extent);
  // Puts them into canonical order: descending element size, printed key, offset, extent.
  void Sort(const LeafTable& leaves);
  // INVALID_ARGUMENT: out of that order, the same twice, or two of one leaf that overlap.
  // O(n log n).
  absl::Status CheckOrderAndOverlap(const LeafTable& leaves) const;
  // Where they are in order: whether that order alone shows that no two leaves have one key, for
  // each has a shard and all have one element size.
  bool ShowLeavesDistinct(const LeafTable& leaves) const;

  size_t size() const { return rows_.size(); }
  ShardView operator[](size_t shard) const {
    const Row& row = rows_[shard];
    const uint64_t* numbers = numbers_.data() + row.numbers_begin;
    return {row.leaf, {numbers, row.dimensions}, {numbers + row.dimensions, row.dimensions}};
  }
  uint64_t MemoryBytes() const;

 private:
  struct Row {
    uint32_t leaf;
    uint32_t numbers_begin;
    uint32_t dimensions;
  };
  absl::Status CheckLeaf(const LeafTable& leaves, size_t first, size_t last) const;

  std::vector<Row> rows_;
  std::vector<uint64_t> numbers_;  // of each its offset, then its extent
};

}  // namespace ckpt

#endif  // CKPT_COMMON_SHARD_TABLE_H_
