// Which hash blocks of a stored shard a restore needs.
#ifndef CKPT_SERVER_RPC_PIECE_RANGE_H_
#define CKPT_SERVER_RPC_PIECE_RANGE_H_

#include <cstdint>
#include <optional>

#include "common/box.h"
#include "server/rpc/leaf_merge.h"

namespace ckpt {

struct BlockRange {
  uint64_t first = 0;
  uint64_t count = 0;
};

// Nullopt where nothing of the shard is needed. Otherwise the smallest range of blocks that holds
// every needed element; `length` is the shard's bytes.
std::optional<BlockRange> NeededBlocks(const LeafMerge::Need& need, const Box& shard,
                                       uint64_t element_bytes, uint64_t length);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_PIECE_RANGE_H_
