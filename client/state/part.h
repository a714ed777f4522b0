// What one rank hands over: its view of the state dict, leaf by leaf, with pointers to its bytes.
#ifndef CKPT_CLIENT_STATE_PART_H_
#define CKPT_CLIENT_STATE_PART_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/box.h"
#include "common/dtype.h"
#include "common/key.h"
#include "common/layout.h"

namespace ckpt {

// One leaf of this rank's state.
struct PartLeaf {
  Key key;
  v1::LeafKind kind = v1::LEAF_KIND_UNSPECIFIED;
  v1::Placement placement = v1::PLACEMENT_UNSPECIFIED;
  DType dtype = v1::DTYPE_UNSPECIFIED;  // tensor-like kinds: element type
  Extents shape;                        // and global shape (PER_RANK: this rank's shape)
  // Set where it shares its storage with an earlier leaf: that one's index in Part::leaves plus
  // one. It holds no bytes of its own then.
  uint32_t alias_of_plus_one = 0;

  // Tensor-like kinds: what this rank holds, in the leaf's coordinates. Whole for REPLICATED and
  // PER_RANK; SHARDED: its box, perhaps empty.
  Box box;
  // SHARDED: `replica_count` ranks hold this same box, this is number `replica_index` of them. They
  // split the writing.
  uint32_t replica_index = 0;
  uint32_t replica_count = 1;
  // The bytes of `box`: dense, row-major, little-endian. Not owned; must stay as they are until
  // staged or failed. May be null if `copy` is set.
  const std::byte* data = nullptr;
  // Instead of `data`, for memory that isn't dense or isn't the host's: writes bytes [begin, begin
  // + bytes) of the dense array to `out`. May be called from several threads at once.
  std::function<void(uint64_t begin, uint64_t bytes, std::byte* out)> copy;
  // Copied before Client::Save returns when SaveOptions::overlap is set (batch statistics, random
  // state); false for parameters.
  bool copy_early = false;

  v1::Value value;  // LEAF_KIND_VALUE
};

struct Part {
  uint32_t rank = 0;
  uint32_t world_size = 1;
  std::vector<uint32_t> share;             // sorted; empty: all ranks
  std::vector<PartLeaf> leaves;            // in the order of the caller's state
  std::shared_ptr<const void> keep_alive;  // let go of just after the save is staged or has failed
};

// Convenience makers. Values longer than LIMIT_VALUE_INLINE_BYTES_MAX become STRING_BYTES /
// RAW_BYTES leaves that own their bytes: copies of the leaf share them, nothing else must stay.
// They check nothing: what is wrong with a leaf (a dtype, a box outside its tensor, a key of two
// leaves), Client::Save and Prepare say, INVALID_ARGUMENT. Cost: the leaf; no byte of a tensor is
// read.
PartLeaf ValueLeaf(Key key, v1::Value value, v1::Placement placement = v1::PLACEMENT_PER_RANK);
PartLeaf TensorLeaf(Key key, DType dtype, absl::Span<const uint64_t> shape, const void* data,
                    v1::Placement placement = v1::PLACEMENT_REPLICATED);
PartLeaf ShardLeaf(Key key, DType dtype, absl::Span<const uint64_t> global_shape, Box box,
                   const void* data);

// What this rank writes of a part: the layout, and for each shard where its bytes come from.
struct PartPlan {
  std::shared_ptr<const PartLayout> layout;
  v1::Values values;
  struct ShardSource {
    uint32_t leaf = 0;  // index into Part::leaves (= Layout.leaves)
    uint64_t source_offset =
        0;  // bytes into that leaf's dense box array; shards are always contiguous in it
  };
  std::vector<ShardSource> sources;  // by shard of the layout
};
// Drops what other ranks write (common/replication.h), computes the layout. INVALID_ARGUMENT as
// PartLayout; ranks, share, box or placement that don't fit; a leaf without data. Cost: O(n log n)
// in leaves and shards, and a hash of the layout; no byte of a leaf is read.
absl::StatusOr<PartPlan> MakePartPlan(const Part& part);

}  // namespace ckpt

#endif  // CKPT_CLIENT_STATE_PART_H_
