// A checkpoint is deleted.
//
//   1. Tombstone: one synced index batch hides it and remembers that its files must go.
//      Crash: recovery finds the tombstone and goes on with step 2.
//   2. Unlink the checkpoint manifest and its labels, sync the folder. From here on it is gone for
//      a rebuilt index, too.                                                       Crash: as in 1.
//   3. Delete part manifests and data files that no other checkpoint references. One that a reader
//      has pinned is unlinked with its last pin.
//      Crash: as in 1; what was pinned is by then an orphan, which recovery removes.
//   4. Forget the tombstone.
//
// Should the index lose the tombstone (a damaged log tail), the folder decides: with the manifest
// there the checkpoint lives, without it the index drops it.
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/persist/commit.h"

namespace ckpt {
namespace {

absl::Status DeleteUnlessShared(DataFolder* folder, Index* index, CheckpointUid uid,
                                const std::string& id_bytes, bool data_file) {
  CKPT_ASSIGN_OR_RETURN(const FileId id, FileId::FromBytes(id_bytes, "file id"));
  CKPT_ASSIGN_OR_RETURN(const bool shared, index->IsShared(id, uid));
  if (shared) return absl::OkStatus();
  return data_file ? folder->DeleteDataFile(id) : folder->DeletePartManifest(id);
}

}  // namespace

absl::Status DeleteCheckpoint(DataFolder* folder, Index* index, CheckpointUid uid) {
  CKPT_RETURN_IF_ERROR(index->Tombstone(uid));  // 1
  return FinishDeletion(folder, index, uid);
}

absl::Status FinishDeletion(DataFolder* folder, Index* index, CheckpointUid uid) {
  CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record, index->GetTombstone(uid));
  CKPT_RETURN_IF_ERROR(folder->RemoveCheckpointManifest(uid));          // 2
  for (const v1::PartReference& reference : record.manifest.parts()) {  // 3
    absl::StatusOr<v1::PartManifest> part = index->GetPartHead(uid, reference.rank());
    if (!part.ok() && !absl::IsNotFound(part.status())) return part.status();
    if (part.ok()) {
      for (const v1::DataFile& file : part->files()) {
        CKPT_RETURN_IF_ERROR(
            DeleteUnlessShared(folder, index, uid, file.file_id(), /*data_file=*/true));
      }
    }
    CKPT_RETURN_IF_ERROR(
        DeleteUnlessShared(folder, index, uid, reference.manifest_id(), /*data_file=*/false));
  }
  return index->FinishTombstone(uid);  // 4
}

void DiscardParts(DataFolder* folder, const std::vector<DurablePart>& parts) {
  for (const DurablePart& part : parts) {
    auto uid = CheckpointUid::FromBytes(part.manifest.checkpoint_uid(), "checkpoint_uid");
    // Never what a checkpoint manifest names: whoever calls this believes that there is none.
    if (!uid.ok() || !absl::IsNotFound(folder->ReadCheckpointManifest(*uid).status())) continue;
    for (const v1::DataFile& file : part.manifest.files()) {
      if (auto id = FileId::FromBytes(file.file_id(), "file id"); id.ok()) {
        folder->DeleteDataFile(*id).IgnoreError();  // else an orphan, removed at the next start
      }
    }
    if (auto id = FileId::FromBytes(part.reference.manifest_id(), "manifest id"); id.ok()) {
      folder->DeletePartManifest(*id).IgnoreError();
    }
  }
}

}  // namespace ckpt
