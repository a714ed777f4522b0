// A checkpoint is committed. Steps 1-5 (persist_part.cc) made every part of its share durable.
//
//   6. Write `<uid>.checkpoint.partial` and sync it. Where this daemon has persisted all parts, that
//      was done before the last one's step 4 (prepared_commits.h); nobody takes a `.partial` for a
//      checkpoint, so it may stand there before what it names is durable.
//      Crash: not committed; its parts are orphans, or staging persists them again.
//   7. Every part is durable: rename it to `<uid>.checkpoint`, sync the folder. This is the commit
//      point.
//      Crash between rename and folder sync: the manifest is there or it is not; nobody has been
//      told yet, and either is whole.
//   8. One batch puts it into the index; then whoever waits is answered. The batch is not synced.
//      Crash before, or a power cut that takes the batch: recovery finds a manifest that the index
//      lacks and indexes it. If the batch fails (a full disk) the checkpoint is committed all the
//      same, and indexed as soon as the index takes it (Persister::IndexAgain).
//   9. The attempt at this step that it replaces, named in its manifest, is deleted (delete.cc).
//      Crash before: recovery reads replaces_uid and deletes it then.
//
// A repeated commit of the same attempt finds the manifest of step 7 and goes on from there.
#include "server/persist/commit.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/manifest.h"
#include "common/status_macros.h"
#include "google/protobuf/util/time_util.h"
#include "server/observe/log.h"

namespace ckpt {
namespace {

absl::Status CheckParts(const std::vector<uint32_t>& share, const std::vector<DurablePart>& parts) {
  if (share.empty() || parts.size() != share.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a commit of ", share.size(), " ranks got ", parts.size(), " parts"));
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].reference.rank() != share[i]) {
      return absl::InvalidArgumentError(absl::StrCat(
          "part ", i, " of a commit is of rank ", parts[i].reference.rank(), ", not ", share[i]));
    }
  }
  return absl::OkStatus();
}

// The same but for the time.
bool SaysTheSame(v1::CheckpointManifest prepared, const v1::CheckpointManifest& manifest) {
  *prepared.mutable_committed_at() = manifest.committed_at();
  return prepared.SerializeAsString() == manifest.SerializeAsString();
}

}  // namespace

v1::CheckpointManifest MakeCheckpointManifest(Index& index, const CheckpointId& id,
                                              CheckpointUid uid, uint32_t world_size,
                                              const std::vector<uint32_t>& share,
                                              const std::vector<v1::PartReference>& parts) {
  v1::CheckpointManifest manifest;
  manifest.set_format_version(kFormatVersion);
  *manifest.mutable_id() = id.ToProto();
  manifest.set_checkpoint_uid(uid.bytes());
  manifest.set_world_size(world_size);
  manifest.mutable_share()->Add(share.begin(), share.end());
  manifest.mutable_parts()->Add(parts.begin(), parts.end());
  *manifest.mutable_committed_at() =
      google::protobuf::util::TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(absl::Now()));
  const absl::StatusOr<CheckpointRecord> winner = index.FindStep(id.run, id.step, std::nullopt);
  if (winner.ok() &&
      std::pair(winner->manifest.id().incarnation(), winner->manifest.checkpoint_uid()) <
          std::pair(id.incarnation.bytes(), uid.bytes())) {
    manifest.set_replaces_uid(winner->manifest.checkpoint_uid());
  }
  return manifest;
}

absl::StatusOr<CheckpointRecord> CommitCheckpoint(
    DataFolder* folder, Index* index, const CheckpointId& id, CheckpointUid uid,
    uint32_t world_size, const std::vector<uint32_t>& share, const std::vector<DurablePart>& parts,
    std::optional<v1::CheckpointManifest> prepared) {
  CKPT_RETURN_IF_ERROR(CheckParts(share, parts));
  CheckpointRecord record;
  absl::StatusOr<v1::CheckpointManifest> earlier = folder->ReadCheckpointManifest(uid);
  if (earlier.ok()) {
    record.manifest = *std::move(earlier);
    CKPT_RETURN_IF_ERROR(SyncFailed(folder->files()->SyncFolder(folder->CheckpointsFolder())));
  } else if (!absl::IsNotFound(earlier.status())) {
    return earlier.status();
  } else {
    std::vector<v1::PartReference> references;
    for (const DurablePart& part : parts) references.push_back(part.reference);
    record.manifest = MakeCheckpointManifest(*index, id, uid, world_size, share, references);
    if (prepared.has_value() && SaysTheSame(*prepared, record.manifest)) {
      record.manifest = *std::move(prepared);
      CKPT_RETURN_IF_ERROR(folder->PublishPreparedManifest(uid));  // 7
    } else {
      CKPT_RETURN_IF_ERROR(folder->PublishCheckpointManifest(record.manifest));  // 6, 7
    }
  }

  // Committed: from here on no error may say otherwise.
  std::vector<v1::PartManifest> manifests;
  std::vector<std::shared_ptr<const PartLayout>> layouts;
  for (const DurablePart& part : parts) {
    manifests.push_back(part.manifest);
    layouts.push_back(part.layout);
    record.shard_count += part.layout->shards().size();
    record.data_bytes += part.reference.data_bytes();
  }
  if (auto labels = folder->ReadLabels(uid); labels.ok()) record.labels = *std::move(labels);
  absl::Status indexed =
      index->PutCheckpoint(record.manifest, manifests, record.labels, layouts);  // 8
  if (!indexed.ok()) {
    observe::Error("committed, but not indexed: tried again, at the next start at the latest",
                   {{"checkpoint", id.ToString()}, {"error", indexed}});
    return record;
  }
  const absl::Status deleted = DeleteReplaced(folder, index, record.manifest).status();  // 9
  if (!deleted.ok()) {
    observe::Warning("the replaced attempt could not be deleted: the next start will",
                     {{"checkpoint", id.ToString()}, {"error", deleted}});
  }
  return record;
}

absl::StatusOr<bool> DeleteReplaced(DataFolder* folder, Index* index,
                                    const v1::CheckpointManifest& manifest) {
  if (manifest.replaces_uid().empty()) return false;
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid,
                        CheckpointUid::FromBytes(manifest.replaces_uid(), "replaces_uid"));
  absl::StatusOr<CheckpointRecord> replaced = index->GetCheckpoint(uid);
  if (absl::IsNotFound(replaced.status())) return false;
  if (!replaced.ok()) return replaced.status();
  if (replaced->labels.pinned() || replaced->labels.tags_size() > 0) return false;
  const absl::Status deleted = DeleteCheckpoint(folder, index, uid);
  if (absl::IsNotFound(deleted)) return false;
  CKPT_RETURN_IF_ERROR(deleted);
  return true;
}

}  // namespace ckpt
