// The leaves of a whole checkpoint in the order of their printed keys, merged over its parts:
// REPLICATED and SHARDED leaves once, PER_RANK leaves once for each rank. What is held is one leaf
// of each part, whatever the checkpoint's size.
#ifndef CKPT_SERVER_RPC_LEAF_MERGE_H_
#define CKPT_SERVER_RPC_LEAF_MERGE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "ckpt/v1/restore.pb.h"
#include "common/filter.h"
#include "server/index/index.h"
#include "server/rpc/committed_part.h"
#include "server/storage/data_folder.h"

namespace ckpt {

// One thread. Errors as CommittedPart's.
class LeafMerge {
 public:
  static absl::StatusOr<LeafMerge> Open(Index* index, DataFolder* folder,
                                        const CheckpointRecord& record);

  // To the first leaf whose printed key is at or after `key`.
  absl::Status Seek(absl::string_view key);
  // Of the leaves with one key, the shared one first, then by rank.
  absl::Status Next();
  bool valid() const { return !group_.empty(); }
  size_t part_count() const { return parts_.size(); }
  std::vector<uint32_t> ranks() const;  // of the parts, ascending

  // Of the leaf at hand. The parts that declare it, by rank: each stands at it.
  absl::Span<CommittedPart* const> parts() const { return group_; }
  absl::string_view printed_key() const { return cursor().printed_key(); }
  bool own() const { return cursor().placement() == v1::PLACEMENT_PER_RANK; }
  uint32_t rank() const { return group_.front()->rank(); }  // PER_RANK: whose; else the first one's
  LeafFacts facts() const { return cursor().Facts(rank()); }
  // Some part has it as an alias, or as the leaf that holds the bytes of one.
  bool tied() const;
  // The first part that has it as an alias: its leaf().alias_target() holds the bytes. Null: none.
  const CommittedPart* alias() const;
  // The part of that rank is one of those that declare it.
  bool DeclaredBy(uint32_t rank) const;
  // Leaf, rank, position and value; the numbers are the caller's.
  absl::Status Describe(v1::PlannedLeaf& planned);
  // Of all parts.
  absl::StatusOr<uint32_t> CountShards();

 private:
  explicit LeafMerge(std::vector<std::unique_ptr<CommittedPart>> parts)
      : parts_(std::move(parts)) {}
  const LeafCursor& cursor() const { return group_.front()->leaf(); }
  void Gather();

  std::vector<std::unique_ptr<CommittedPart>> parts_;  // by rank
  std::vector<CommittedPart*> heap_;   // those that are not done, but for the group's
  std::vector<CommittedPart*> group_;
  std::vector<LeafShard> shards_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_LEAF_MERGE_H_
