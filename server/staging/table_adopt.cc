// What an earlier daemon left in the memory folder, part by part:
//
//   its checkpoint is committed       -> it is the memory copy, if it still has its bytes
//   marked committed, but not known   -> the checkpoint was deleted: removed
//   `staged`, with `durable`          -> on disk already, under that reference: waits for the commit
//   `staged`                          -> persisted again, from the beginning
//
// Parts are grouped by the attempt (uid) that they belong to. A complete group is finished. An
// incomplete one is WRITING for one grace, in which its missing ranks may begin; then it is
// aborted.
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "google/protobuf/util/time_util.h"
#include "server/observe/log.h"
#include "server/staging/checkpoint_table_impl.h"

namespace ckpt {
namespace {

void RemoveFound(const FoundPart& found) {
  found.folder->Unstage();
  unlink(found.folder->data_path().c_str());
  found.folder->Remove();
}

}  // namespace

CheckpointTable::Adopted CheckpointTableImpl::Adopt() {
  {
    MutexLock lock(mutex_);
    adopting_ = true;
  }
  Adopted adopted;
  std::map<CheckpointUid, CheckpointPtr> groups;
  const absl::StatusOr<std::vector<CheckpointUid>> deleted = index_.Tombstones();
  if (!deleted.ok()) {
    observe::Error("what is staged is left alone", {{"error", deleted.status()}});
  }
  for (FoundPart& found : tier_.TakeFoundParts()) {
    if (!found.damage.ok() || !deleted.ok()) {
      ++adopted.damaged;
      continue;
    }
    absl::StatusOr<CheckpointUid> uid =
        CheckpointUid::FromBytes(found.plan.checkpoint_uid(), "checkpoint_uid");
    if (!uid.ok() || !CheckpointId::FromProto(found.plan.id()).ok()) {
      ++adopted.damaged;
      continue;
    }
    const absl::Status indexed = index_.GetCheckpoint(*uid).status();
    const bool tombstoned = std::find(deleted->begin(), deleted->end(), *uid) != deleted->end();
    if (indexed.ok()) {
      if (AdoptCopy(found, *uid)) ++adopted.copies;
    } else if (!absl::IsNotFound(indexed) ||
               (!tombstoned &&
                !absl::IsNotFound(options_.folder->ReadCheckpointManifest(*uid).status()))) {
      // Committed, as its manifest says, but damaged: these may be the only good bytes.
      observe::Error("checkpoint is damaged on disk; its bytes in memory are left alone",
                     {{"uid", uid->hex()}});
      ++adopted.damaged;
    } else if (found.committed || tombstoned) {
      RemoveFound(found);
    } else {
      CheckpointPtr& group = groups[*uid];
      group = AdoptPart(found, *uid, group);
      ++adopted.parts;
    }
  }
  adopted.checkpoints = static_cast<uint32_t>(groups.size());
  // Ascending uid: of two attempts at one triple the later is the one that counts.
  for (const auto& [uid, checkpoint] : groups) {
    Deferred deferred;
    MutexLock lock(mutex_);
    CheckpointPtr& entry = checkpoints_[checkpoint->id];
    if (entry != nullptr) Abort(entry, "a later attempt took its place", deferred);
    entry = checkpoint;
    Incarnation& newest = newest_[checkpoint->id.run];
    const auto known = index_.NewestIncarnation(checkpoint->id.run);
    newest = std::max({newest, checkpoint->id.incarnation,
                       known.ok() ? known->value_or(Incarnation()) : Incarnation()});
  }
  for (const auto& [uid, checkpoint] : groups) AdoptCheckpoint(checkpoint);
  MutexLock lock(mutex_);
  adopting_ = false;
  timer_changed_.NotifyAll();
  return adopted;
}

bool CheckpointTableImpl::AdoptCopy(const FoundPart& found, CheckpointUid uid) {
  if (!found.committed) (void)found.folder->MarkCommitted();
  absl::StatusOr<std::shared_ptr<StagingFile>> file = tier_.AdoptData(found.folder);
  if (!file.ok()) {
    RemoveFound(found);
    return false;
  }
  const FileId id = (*file)->id();
  *file = nullptr;
  tier_.SetCopy(id, found.plan.id().run(), uid, found.plan.rank());
  absl::StatusOr<CheckpointRecord> latest =
      index_.FindLatest(found.plan.id().run(), kStepMax, /*whole_only=*/false);
  if (latest.ok()) {
    absl::StatusOr<CheckpointUid> newest =
        CheckpointUid::FromBytes(latest->manifest.checkpoint_uid(), "checkpoint_uid");
    if (newest.ok()) tier_.SetNewest(found.plan.id().run(), *newest);  // older ones go
  }
  return tier_.Has(uid, found.plan.rank());
}

CheckpointTableImpl::CheckpointPtr CheckpointTableImpl::AdoptPart(const FoundPart& found,
                                                                  CheckpointUid uid,
                                                                  CheckpointPtr checkpoint) {
  const staging::StagedPlan& plan = found.plan;
  if (checkpoint == nullptr) {
    checkpoint = std::make_shared<LiveCheckpoint>();
    checkpoint->id = *CheckpointId::FromProto(plan.id());
    checkpoint->uid = uid;
    checkpoint->world_size = plan.world_size();
    checkpoint->share.assign(plan.share().begin(), plan.share().end());
    checkpoint->begun_at = absl::FromUnixNanos(
        google::protobuf::util::TimeUtil::TimestampToNanoseconds(plan.begun_at()));
    checkpoint->adopted = true;
    checkpoint->quota_section = options_.quotas.SectionOf(checkpoint->id.run);
    checkpoint->join_patience = options_.grace;
    checkpoint->join_deadline = options_.clock->Now() + options_.grace;
  }
  auto part = std::make_shared<LivePart>();
  part->claim.id = checkpoint->id;
  part->claim.request_id =
      RequestId::FromBytes(plan.request_id(), "request_id").value_or(RequestId());
  part->claim.rank = plan.rank();
  part->claim.world_size = plan.world_size();
  part->claim.layout_digest = plan.layout_digest();
  part->claim.transport = v1::TRANSPORT_STREAM;
  part->values = plan.values();
  part->source_hashes.assign(plan.source_hashes().begin(), plan.source_hashes().end());
  part->folder = found.folder;
  part->ring = plan.ring();
  part->finished = true;
  part->staged = true;
  part->admitted = true;  // by the daemon before; it counts, but is not refused
  const absl::Status status = AdoptBytes(found, *part);
  if (!status.ok()) {
    part->adoption_failed = absl::StrCat("rank ", plan.rank(), "'s part could not be taken over ",
                                         "from the daemon before: ", status.message());
  }
  checkpoint->parts[plan.rank()] = std::move(part);
  return checkpoint;
}

absl::Status CheckpointTableImpl::AdoptBytes(const FoundPart& found, LivePart& part) {
  part.layout = index_.FindLayout(found.plan.layout_digest());  // parts of one layout share it
  if (part.layout == nullptr) {
    CKPT_ASSIGN_OR_RETURN(part.layout, ReadLayout(found));
    index_.KeepLayout(part.layout);
  }
  const uint64_t part_bytes = part.layout->part_bytes();
  std::shared_ptr<StagingFile> file;
  if (found.has_data) {
    CKPT_ASSIGN_OR_RETURN(file, tier_.AdoptData(found.folder));
    part.file_id = file->id();
  }
  if (found.durable.has_value()) {
    absl::StatusOr<v1::PartManifest> manifest = options_.folder->ReadPartManifest(*found.durable);
    if (manifest.ok() && manifest->layout_digest() == part.layout->digest()) {
      manifest->clear_layout();
      part.durable = DurablePart{*found.durable, *std::move(manifest), part.layout};
      if (file != nullptr) tier_.SetDurable(std::move(file));
      return absl::OkStatus();
    }
    observe::Warning("durable part does not read; persisted again if its bytes are still here",
                     {{"reason", manifest.status()}});
  }
  if (part.ring || (file == nullptr && part_bytes > 0)) {
    return absl::DataLossError("its bytes are neither in memory nor on disk");
  }
  part.buffer = std::make_shared<PartBuffer>(file, part_bytes, absl::AnyInvocable<void()>());
  part.file = std::move(file);
  if (part.buffer->ring()) {
    part.buffer = nullptr;
    return absl::DataLossError("its staging file is shorter than the part: it was truncated");
  }
  return part.buffer->Advance(part_bytes);
}

void CheckpointTableImpl::AdoptCheckpoint(const CheckpointPtr& checkpoint) {
  std::string failed;
  {
    MutexLock lock(mutex_);
    for (const auto& [rank, part] : checkpoint->parts) {
      if (!part->adoption_failed.empty()) failed = part->adoption_failed;
    }
    const bool older = checkpoint->id.incarnation < newest_[checkpoint->id.run];
    if (failed.empty() && older && !checkpoint->AllJoined()) {
      failed = "a later launch of the job began to save before it was complete";
    }
  }
  if (!failed.empty()) {
    Deferred deferred;
    MutexLock lock(mutex_);
    Abort(checkpoint, failed, deferred);
    return;
  }
  observe::Info("checkpoint adopted", {{"run", checkpoint->id.run},
                                       {"step", checkpoint->id.step},
                                       {"parts", checkpoint->parts.size()},
                                       {"ranks", checkpoint->share.size()}});
  for (const auto& [rank, part] : checkpoint->parts) {
    const bool reserved =
        !part->durable.has_value() && persister_.Reserve(part->layout->part_bytes()).ok();
    MutexLock lock(mutex_);
    part->reserved = reserved;
  }
  (void)Agree(checkpoint);  // aborts it where it fails
}

void CheckpointTableImpl::RetryAdopted() {
  std::vector<std::pair<CheckpointPtr, PartPtr>> waiting;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, checkpoint] : checkpoints_) {
      if (!checkpoint->adopted || !checkpoint->live()) continue;
      for (const auto& [rank, part] : checkpoint->parts) {
        if (part->staged && !part->durable.has_value() && !part->persisting && !part->reserved) {
          waiting.emplace_back(checkpoint, part);
        }
      }
    }
  }
  for (const auto& [checkpoint, part] : waiting) {
    std::shared_ptr<const PartLayout> layout;
    {
      MutexLock lock(mutex_);
      layout = part->layout;
    }
    if (layout == nullptr || !persister_.Reserve(layout->part_bytes()).ok()) continue;
    Deferred deferred;
    MutexLock lock(mutex_);
    if (part->reserved || part->persisting || part->durable.has_value()) {
      persister_.ReleaseReservation(layout->part_bytes());
      continue;
    }
    part->reserved = true;
    if (part->layout == nullptr) part->layout = layout;  // aborted meanwhile: LetGo gives it back
    LetGo(*checkpoint, *part, deferred);
    if (checkpoint->state == v1::CHECKPOINT_STATE_STAGED) Persist(checkpoint, part, deferred);
  }
}

}  // namespace ckpt
