// The leaves of a committed checkpoint in the order of their printed keys, each with what is stored
// of it: boxes and the hashes of their blocks. From manifests alone; no tensor is read.
#ifndef CKPT_SERVER_RPC_LEAF_SEQUENCE_H_
#define CKPT_SERVER_RPC_LEAF_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/box.h"
#include "common/ids.h"
#include "server/index/index.h"
#include "server/rpc/leaf_selection.h"
#include "server/storage/data_folder.h"

namespace ckpt {

struct StoredShard {
  Box box;
  uint64_t length = 0;  // bytes
  absl::Span<const uint64_t> block_hashes;
};

struct StoredLeaf {
  absl::string_view printed_key;
  uint32_t rank = 0;  // PER_RANK: whose; otherwise 0
  const v1::Leaf* leaf = nullptr;
  const v1::Value* value = nullptr;  // LEAF_KIND_VALUE
  // Of all parts, by box, each box once. An alias has those of the leaf that it shares storage
  // with, which is then named below.
  std::vector<StoredShard> shards;
  uint64_t block_bytes = 0;
  const v1::Leaf* storage = nullptr;  // null: its own
  absl::string_view storage_key;
};

class LeafSequence {
 public:
  virtual ~LeafSequence() = default;
  // Ascending by (printed key, rank): REPLICATED and SHARDED leaves once, PER_RANK leaves once for
  // each rank. All that the selection takes, and others whose keys begin as theirs do. Null at the
  // end. What it points to is valid until the next call.
  virtual absl::StatusOr<const StoredLeaf*> Next() = 0;
};

// Errors as CommittedPart's. `selection` must outlive the answer.
absl::StatusOr<std::unique_ptr<LeafSequence>> OpenLeaves(Index* index, DataFolder* folder,
                                                         const CheckpointRecord& record,
                                                         const LeafSelection& selection);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_LEAF_SEQUENCE_H_
