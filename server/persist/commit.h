// The commit of a checkpoint whose parts are all durable, and the deletion of one. Shared by the
// persister and by recovery. The numbered protocols stand in commit.cc and delete.cc.
#ifndef CKPT_SERVER_PERSIST_COMMIT_H_
#define CKPT_SERVER_PERSIST_COMMIT_H_

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/persist/persister.h"

namespace ckpt {

// As of now: the time, and the attempt that it would replace. `parts` in the order of `share`.
v1::CheckpointManifest MakeCheckpointManifest(Index& index, const CheckpointId& id,
                                              CheckpointUid uid, uint32_t world_size,
                                              const std::vector<uint32_t>& share,
                                              const std::vector<v1::PartReference>& parts);

// `prepared`: what PreparedCommits has written for it, if anything. Calls for one (run, step) must
// not overlap.
absl::StatusOr<CheckpointRecord> CommitCheckpoint(
    DataFolder* folder, Index* index, const CheckpointId& id, CheckpointUid uid,
    uint32_t world_size, const std::vector<uint32_t>& share, const std::vector<DurablePart>& parts,
    std::optional<v1::CheckpointManifest> prepared);

// Puts a committed checkpoint that the index lacks into it, from its manifests, which are checked.
// NOT_FOUND: there is no such checkpoint manifest.
absl::Status IndexCommitted(DataFolder* folder, Index* index, CheckpointUid uid);

absl::Status DeleteCheckpoint(DataFolder* folder, Index* index, CheckpointUid uid);

// Steps 2-4 of a deletion whose tombstone stands.
absl::Status FinishDeletion(DataFolder* folder, Index* index, CheckpointUid uid);

// Deletes the attempt that `manifest` replaced, unless it is pinned or tagged: what somebody has
// labelled stays, reachable by tag and by incarnation. True where there was one to delete.
absl::StatusOr<bool> DeleteReplaced(DataFolder* folder, Index* index,
                                    const v1::CheckpointManifest& manifest);

void DiscardParts(DataFolder* folder, const std::vector<DurablePart>& parts);

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_COMMIT_H_
