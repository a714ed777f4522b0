// What a start does with what the last process left, before anything is served.
//
//   1. Finish deletions whose tombstone stands.
//   2. Index every checkpoint manifest that the index lacks (a crash between commit point and index
//      batch, a damaged log tail, an empty index): part manifests are read and checked first, so
//      that only whole checkpoints become visible.
//   3. Report what the index knows and whose checkpoint manifest is gone without a tombstone (a
//      folder that was restored in part, a mount that is missing). Nothing is forgotten, and no
//      orphan removed: only a positive record may cost a file.
//   4. Bring the index's labels in line with the label files; labels of nothing are removed, and a
//      file that has gone is written again: no pin is taken off but by a record that says so.
//   5. Delete attempts that a committed one has replaced.
//   6. An index that was made anew of a folder with nothing in it needs nobody's confirmation.
//   7. Remove objects that no checkpoint references and that staging does not know - unless
//      something was damaged: a manifest that does not read might reference them.
// Each step may be cut off by a crash and is simply done again at the next start.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/observe/log.h"
#include "server/persist/commit.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

class Recovery {
 public:
  Recovery(DataFolder* folder, Index* index) : folder_(folder), index_(index) {}

  absl::Status FinishDeletions() {
    CKPT_ASSIGN_OR_RETURN(const std::vector<CheckpointUid> tombstones, index_->Tombstones());
    for (const CheckpointUid uid : tombstones) {
      CKPT_RETURN_IF_ERROR(FinishDeletion(folder_, index_, uid));
      ++report_.deletions_finished;
    }
    return absl::OkStatus();
  }

  absl::Status IndexManifests() {
    // Names that a process before us left unsynced are made durable before anybody believes them.
    CKPT_RETURN_IF_ERROR(folder_->files()->SyncFolder(folder_->CheckpointsFolder()));
    CKPT_ASSIGN_OR_RETURN(std::vector<CheckpointUid> listed, folder_->ListCheckpointManifests());
    std::sort(listed.begin(), listed.end());  // of two that claim a tag, the newer one gets it
    manifests_.insert(listed.begin(), listed.end());
    CKPT_ASSIGN_OR_RETURN(const std::vector<CheckpointUid> indexed, index_->AllCheckpoints());
    const absl::flat_hash_set<CheckpointUid> known(indexed.begin(), indexed.end());
    for (const CheckpointUid uid : listed) {
      if (known.contains(uid)) {
        ++report_.checkpoints;
        continue;
      }
      absl::Status indexed = IndexCommitted(folder_, index_, uid);
      if (indexed.ok()) {
        ++report_.checkpoints;
        ++report_.indexed;
      } else if (absl::IsDataLoss(indexed) || absl::IsNotFound(indexed) ||
                 absl::IsFailedPrecondition(indexed) || absl::IsInvalidArgument(indexed)) {
        Damaged(names::CheckpointManifest(uid), indexed);
      } else {
        return indexed;
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReportVanished() {
    CKPT_ASSIGN_OR_RETURN(const std::vector<CheckpointUid> known, index_->AllCheckpoints());
    for (const CheckpointUid uid : known) {
      if (manifests_.contains(uid)) continue;
      absl::StatusOr<CheckpointRecord> record = index_->GetCheckpoint(uid);
      const std::string which =
          record.ok() ? absl::StrCat(record->manifest.id().run(), "@", record->manifest.id().step())
                      : uid.hex();
      Damaged(names::CheckpointManifest(uid),
              absl::NotFoundError(absl::StrCat(
                  "the index knows ", which, ", but its manifest is gone: put the file back, or ",
                  "delete the checkpoint (ckptctl checkpoint rm ", which, ")")));
    }
    return absl::OkStatus();
  }

  // `repair`: label files of nothing, and stale ones, are put right; otherwise only the index is.
  absl::Status AlignLabels(bool repair) {
    CKPT_ASSIGN_OR_RETURN(const std::vector<CheckpointUid> listed, folder_->ListLabels());
    const absl::flat_hash_set<CheckpointUid> labelled(listed.begin(), listed.end());
    CKPT_ASSIGN_OR_RETURN(const std::vector<CheckpointUid> known, index_->AllCheckpoints());
    if (repair) {
      const absl::flat_hash_set<CheckpointUid> of_index(known.begin(), known.end());
      for (const CheckpointUid uid : listed) {
        if (manifests_.contains(uid) || of_index.contains(uid)) continue;
        CKPT_RETURN_IF_ERROR(folder_->RemoveCheckpointManifest(uid));
      }
      for (const CheckpointUid uid : known) {
        if (!labelled.contains(uid)) WriteLostLabels(uid);
      }
    }
    for (const CheckpointUid uid : known) {
      CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record, index_->GetCheckpoint(uid));
      if (!labelled.contains(uid)) continue;  // written just now, or there are none
      absl::StatusOr<v1::Labels> labels = folder_->ReadLabels(uid);
      if (!labels.ok()) {
        Damaged(names::Labels(uid), labels.status());
        continue;
      }
      const bool stale = DropStaleTags(record.manifest.id().run(), uid, *labels);
      if (stale && repair) CKPT_RETURN_IF_ERROR(folder_->WriteLabels(uid, *labels));
      if (Serialized(*labels) == Serialized(record.labels)) continue;
      CKPT_RETURN_IF_ERROR(index_->PutLabels(uid, *labels));
    }
    return absl::OkStatus();
  }

  absl::Status DeleteReplacedOnes() {
    CKPT_ASSIGN_OR_RETURN(const std::vector<CheckpointUid> known, index_->AllCheckpoints());
    for (const CheckpointUid uid : known) {
      absl::StatusOr<CheckpointRecord> record = index_->GetCheckpoint(uid);
      if (absl::IsNotFound(record.status())) continue;  // deleted by an earlier turn of this loop
      if (!record.ok()) return record.status();
      CKPT_ASSIGN_OR_RETURN(const bool deleted,
                            DeleteReplaced(folder_, index_, record->manifest));
      report_.deletions_finished += deleted ? 1 : 0;
    }
    return absl::OkStatus();
  }

  absl::Status ConfirmIfEmpty() {
    CKPT_ASSIGN_OR_RETURN(const bool awaits, index_->AwaitsConfirmation());
    if (!awaits || !manifests_.empty()) return absl::OkStatus();
    CKPT_ASSIGN_OR_RETURN(const DataFolder::Objects objects, folder_->ListObjects());
    if (!objects.data_files.empty() || !objects.part_manifests.empty()) return absl::OkStatus();
    return index_->Confirm();
  }

  absl::Status RemoveOrphans(const absl::flat_hash_set<FileId>& keep_parts) {
    absl::flat_hash_set<FileId> referenced = keep_parts;
    for (const FileId id : keep_parts) {
      absl::StatusOr<v1::PartManifest> part = folder_->ReadPartManifest(id);
      if (absl::IsNotFound(part.status())) continue;
      if (!part.ok()) {
        Damaged(names::PartManifest(id), part.status());
        continue;
      }
      for (const v1::DataFile& file : part->files()) {
        CKPT_ASSIGN_OR_RETURN(const FileId data, FileId::FromBytes(file.file_id(), "file id"));
        referenced.insert(data);
      }
    }
    CKPT_RETURN_IF_ERROR(index_->ForEachFile([&](FileId id, CheckpointUid) {
      referenced.insert(id);
      return true;
    }));
    if (report_.damaged > 0) {
      observe::Warning("manifests are damaged: no orphan is removed",
                       {{"damaged", report_.damaged}});
      return absl::OkStatus();
    }
    CKPT_ASSIGN_OR_RETURN(const DataFolder::Objects objects, folder_->ListObjects());
    for (const FileId id : objects.part_manifests) {
      if (referenced.contains(id)) continue;
      CKPT_RETURN_IF_ERROR(folder_->DeletePartManifest(id));
      ++report_.orphans_removed;
    }
    for (const FileId id : objects.data_files) {
      if (referenced.contains(id)) continue;
      CKPT_RETURN_IF_ERROR(folder_->DeleteDataFile(id));
      ++report_.orphans_removed;
    }
    return absl::OkStatus();
  }

  RecoveryReport TakeReport() { return std::move(report_); }

 private:
  // Labels that were taken off leave an empty file: one that is missing was lost. Where it cannot
  // be written the index's hold all the same.
  void WriteLostLabels(CheckpointUid uid) {
    const absl::StatusOr<CheckpointRecord> record = index_->GetCheckpoint(uid);
    if (!record.ok() || Serialized(record->labels) == Serialized({})) return;
    observe::Warning("the file of labels has gone: it is written again as the index knows it",
                     {{"file", names::Labels(uid)},
                      {"run", record->manifest.id().run()},
                      {"step", record->manifest.id().step()},
                      {"written", folder_->WriteLabels(uid, record->labels)}});
  }

  // A tag moves by two label files, the new holder's first: a crash in between leaves it in both.
  // The index knows one holder; where that one's file has the tag as well, ours is the stale one.
  bool DropStaleTags(const std::string& run, CheckpointUid uid, v1::Labels& labels) {
    auto* tags = labels.mutable_tags();
    const auto stale = [&](const std::string& tag) {
      absl::StatusOr<CheckpointRecord> holder = index_->FindTag(run, tag);
      if (!holder.ok() || holder->manifest.checkpoint_uid() == uid.bytes()) return false;
      auto other = CheckpointUid::FromBytes(holder->manifest.checkpoint_uid(), "checkpoint_uid");
      if (!other.ok()) return false;
      absl::StatusOr<v1::Labels> theirs = folder_->ReadLabels(*other);
      return theirs.ok() &&
             std::find(theirs->tags().begin(), theirs->tags().end(), tag) != theirs->tags().end();
    };
    const auto kept = std::remove_if(tags->begin(), tags->end(), stale);
    const bool found = kept != tags->end();
    tags->erase(kept, tags->end());
    return found;
  }

  // Map fields have no order of their own: byte-wise comparison needs a deterministic one.
  static std::string Serialized(const v1::Labels& labels) {
    std::string out = absl::StrCat(labels.pinned() ? "1" : "0", labels.note(), "\n");
    std::vector<std::string> tags(labels.tags().begin(), labels.tags().end());
    std::sort(tags.begin(), tags.end());
    for (const std::string& tag : tags) absl::StrAppend(&out, tag, "\n");
    std::vector<std::pair<std::string, double>> metrics(labels.metrics().begin(),
                                                        labels.metrics().end());
    std::sort(metrics.begin(), metrics.end());
    for (const auto& [name, value] : metrics) absl::StrAppend(&out, name, "=", value, "\n");
    return out;
  }

  void Damaged(const std::string& name, const absl::Status& status) {
    observe::Error("manifest is damaged and left alone", {{"file", name}, {"error", status}});
    ++report_.damaged;
    report_.damage.push_back(absl::StrCat(name, ": ", status.message()));
  }

  DataFolder* const folder_;
  Index* const index_;
  RecoveryReport report_;
  absl::flat_hash_set<CheckpointUid> manifests_;
};

}  // namespace

absl::Status IndexCommitted(DataFolder* folder, Index* index, CheckpointUid uid) {
  CKPT_ASSIGN_OR_RETURN(const v1::CheckpointManifest manifest,
                        folder->ReadCheckpointManifest(uid));
  std::vector<v1::PartManifest> parts;
  for (const v1::PartReference& reference : manifest.parts()) {
    CKPT_ASSIGN_OR_RETURN(v1::PartManifest part, folder->ReadPartManifest(reference));
    if (part.checkpoint_uid() != manifest.checkpoint_uid() || part.rank() != reference.rank()) {
      return absl::DataLossError(
          absl::StrCat("the part manifest of rank ", reference.rank(), " belongs elsewhere"));
    }
    parts.push_back(std::move(part));
  }
  v1::Labels labels;
  absl::StatusOr<v1::Labels> read = folder->ReadLabels(uid);
  if (read.ok()) labels = *std::move(read);  // AlignLabels reports it
  return index->PutCheckpoint(manifest, parts, labels);
}

absl::StatusOr<RecoveryReport> RecoverDataFolder(DataFolder* folder, Index* index,
                                                 const absl::flat_hash_set<FileId>& keep_parts) {
  Recovery recovery(folder, index);
  CKPT_RETURN_IF_ERROR(recovery.FinishDeletions());          // 1
  CKPT_RETURN_IF_ERROR(recovery.IndexManifests());           // 2
  CKPT_RETURN_IF_ERROR(recovery.ReportVanished());           // 3
  CKPT_RETURN_IF_ERROR(recovery.AlignLabels(/*repair=*/true));  // 4
  CKPT_RETURN_IF_ERROR(recovery.DeleteReplacedOnes());       // 5
  CKPT_RETURN_IF_ERROR(recovery.ConfirmIfEmpty());           // 6
  CKPT_RETURN_IF_ERROR(recovery.RemoveOrphans(keep_parts));  // 7
  return recovery.TakeReport();
}

absl::StatusOr<RecoveryReport> IndexDataFolder(DataFolder* folder, Index* index) {
  Recovery recovery(folder, index);
  CKPT_RETURN_IF_ERROR(recovery.IndexManifests());
  CKPT_RETURN_IF_ERROR(recovery.AlignLabels(/*repair=*/false));
  return recovery.TakeReport();
}

}  // namespace ckpt
