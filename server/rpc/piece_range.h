// Which hash blocks of a stored shard a restore needs.
#ifndef CKPT_SERVER_RPC_PIECE_RANGE_H_
#define CKPT_SERVER_RPC_PIECE_RANGE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "common/box.h"

namespace ckpt {

// What a restore needs of a leaf's storage: all of it, or these boxes.
struct Need {
  bool whole = false;
  std::vector<Box> boxes;

  // Null: all.
  void Add(const std::vector<Box>* more);
  // Of elements of that size; `whole_bytes` are those of the leaf. What lies in several boxes
  // counts once only where the boxes are equal.
  uint64_t Bytes(uint64_t element_bytes, uint64_t whole_bytes) const;
};

struct BlockRange {
  uint64_t first = 0;
  uint64_t count = 0;
};

// Nullopt where nothing of the shard is needed. Otherwise the smallest range of blocks that holds
// every needed element; `length` is the shard's bytes.
std::optional<BlockRange> NeededBlocks(const Need& need, const Box& shard,
                                       uint64_t element_bytes, uint64_t length);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_PIECE_RANGE_H_
