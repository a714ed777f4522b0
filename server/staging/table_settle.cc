// What becomes of parts and checkpoints: agreement, persisting, commit, abort.
//
// Abort's order, so that a restarted daemon never finishes what somebody was told is aborted:
//   1. the marks `staged` of all its parts are unlinked
//   2. the state is ABORTED: streams and waiters learn of it
//   3. in the background: the index keeps the reason for a day; files of durable parts are removed
// Memory is given back when neither the persister nor the part's stream uses it any more.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/digest.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "google/protobuf/util/time_util.h"
#include "server/observe/log.h"
#include "server/persist/source_hashes.h"
#include "server/staging/checkpoint_table_impl.h"
#include "server/staging/part_agreement.h"

namespace ckpt {
namespace {

constexpr size_t kAgreedMax = 64;
constexpr int kCommitAttempts = 3;
constexpr absl::Duration kCommitPause = absl::Milliseconds(200);

}  // namespace

absl::Status CheckpointTableImpl::Agree(const CheckpointPtr& checkpoint) {
  std::vector<RankLayout> parts;
  std::string key;
  uint64_t parts_version = 0;
  {
    Deferred deferred;
    MutexLock lock(mutex_);
    parts_version = checkpoint->parts_version;
    if (!checkpoint->live() || checkpoint->agreed || checkpoint->agreeing) return absl::OkStatus();
    // As early as two layouts show it: the replicated lists.
    for (const auto& [rank, part] : checkpoint->parts) {
      if (part->layout != nullptr) parts.push_back({rank, part->layout});
    }
    if (parts.empty()) return absl::OkStatus();
    if (parts.size() < checkpoint->share.size()) {
      const absl::string_view first = parts.front().layout->replicated_digest();
      const bool same = std::all_of(parts.begin(), parts.end(), [&](const RankLayout& part) {
        return part.layout->replicated_digest() == first;
      });
      if (same) return absl::OkStatus();
    }
    key = absl::StrCat(checkpoint->world_size, ":");
    for (const RankLayout& part : parts) {
      absl::StrAppend(&key, part.rank, ":", part.layout->digest());
    }
    auto known = std::find(agreed_.begin(), agreed_.end(), key);
    if (known != agreed_.end()) {
      agreed_.splice(agreed_.begin(), agreed_, known);
      checkpoint->agreed = true;
      if (Advance(checkpoint, deferred)) CommitInBackground(checkpoint);
      return absl::OkStatus();
    }
    checkpoint->agreeing = true;
  }
  const bool whole_world = checkpoint->share.size() == checkpoint->world_size;
  absl::Status status = CheckAgreement(parts, whole_world);
  bool again = false;
  {
    Deferred deferred;
    MutexLock lock(mutex_);
    checkpoint->agreeing = false;
    again = checkpoint->parts_version != parts_version;  // a part was begun anew meanwhile
    if (!again) {
      if (!status.ok()) {
        Abort(checkpoint, std::string(status.message()), deferred);
        return status;
      }
      checkpoint->agreed = true;
      agreed_.push_front(key);
      if (agreed_.size() > kAgreedMax) agreed_.pop_back();
      if (Advance(checkpoint, deferred)) CommitInBackground(checkpoint);
    }
  }
  return again ? Agree(checkpoint) : absl::OkStatus();
}

// --- persisting

void CheckpointTableImpl::Persist(const CheckpointPtr& checkpoint, const PartPtr& part,
                                  Deferred& deferred) {
  part->persisting = true;
  part->reserved = false;  // the persister's now
  auto work = std::make_shared<PartToPersist>();
  work->id = checkpoint->id;
  work->uid = checkpoint->uid;
  work->rank = part->claim.rank;
  work->world_size = checkpoint->world_size;
  work->share = checkpoint->share;
  work->layout = part->layout;
  work->values = part->values;
  work->source = part->buffer;
  work->streaming = part->ring;
  deferred.Add([this, work, checkpoint, part] {
    persister_.Persist(std::move(*work), [this, guard = persist_guard_, checkpoint,
                                          part](absl::StatusOr<DurablePart> result) {
      {
        MutexLock lock(guard->mutex);
        if (!guard->alive) return;  // the next daemon persists it
        ++guard->running;
      }
      Persisted(checkpoint, part, std::move(result));
      MutexLock lock(guard->mutex);
      --guard->running;
      guard->idle.NotifyAll();
    });
  });
}

void CheckpointTableImpl::Persisted(const CheckpointPtr& checkpoint, const PartPtr& part,
                                    absl::StatusOr<DurablePart> result) {
  bool commit = false;
  {
    Deferred deferred;
    MutexLock lock(mutex_);
    commit = Settle(checkpoint, part, std::move(result), deferred);
    deferred.Add([this] { changed_.NotifyAll(); });
  }
  if (commit) Commit(checkpoint);  // by the thread that is here and awake
}

bool CheckpointTableImpl::Settle(const CheckpointPtr& checkpoint, const PartPtr& part,
                                 absl::StatusOr<DurablePart> result, Deferred& deferred) {
  part->persisting = false;
  bool commit = false;
  if (!result.ok()) {
    if (checkpoint->live()) {
      Abort(checkpoint,
            absl::StrCat("rank ", part->claim.rank,
                         "'s part could not be made durable: ", result.status().ToString()),
            deferred);
    }
  } else if (!checkpoint->live()) {
    auto parts = std::make_shared<std::vector<DurablePart>>();
    parts->push_back(*std::move(result));
    InBackground([this, uid = checkpoint->uid, parts] { persister_.Discard(uid, *parts); });
  } else {
    absl::Status recorded = RecordDurable(checkpoint, part, *std::move(result));
    if (!recorded.ok()) {
      Abort(checkpoint, absl::StrCat("rank ", part->claim.rank, ": ", recorded.message()),
            deferred);
    } else if (part->ring && part->finished) {
      PartStaged(checkpoint, part, deferred);
    } else {
      commit = Advance(checkpoint, deferred);
    }
  }
  LetGo(*checkpoint, *part, deferred);
  return commit;
}

absl::Status CheckpointTableImpl::RecordDurable(const CheckpointPtr& checkpoint,
                                                const PartPtr& part, DurablePart durable) {
  const v1::PartReference reference = durable.reference;
  part->durable = std::move(durable);
  part->buffer = nullptr;
  if (part->ring) {
    tier_.Release(std::exchange(part->file, nullptr));
    return part->finished ? StageRing(checkpoint, part) : absl::OkStatus();
  }
  CKPT_RETURN_IF_ERROR(CheckSource(*part));
  // Without the record the part would only be persisted again after a restart, and its memory is
  // held until the commit. The last one's commit follows at once.
  const bool last = checkpoint->state == v1::CHECKPOINT_STATE_STAGED &&
                    checkpoint->CountDurable() == checkpoint->share.size();
  if (last) return absl::OkStatus();
  if (part->folder->MarkDurable(reference).ok() && part->file != nullptr) {
    tier_.SetDurable(std::exchange(part->file, nullptr));
  }
  return absl::OkStatus();
}

absl::Status CheckpointTableImpl::CheckSource(const LivePart& part) {
  if (part.source_hashes.empty()) return absl::OkStatus();
  const auto& persisted = part.durable->manifest.block_hashes();
  return CompareSourceHashes(*part.layout, part.source_hashes,
                             {persisted.data(), static_cast<size_t>(persisted.size())});
}

absl::Status CheckpointTableImpl::StageRing(const CheckpointPtr& checkpoint, const PartPtr& part) {
  CKPT_RETURN_IF_ERROR(CheckSource(*part));
  CKPT_RETURN_IF_ERROR(part->folder->WritePlan(MakePlan(*checkpoint, *part)));
  CKPT_RETURN_IF_ERROR(part->folder->MarkDurable(part->durable->reference));
  return part->folder->MarkStaged();
}

void CheckpointTableImpl::PartStaged(const CheckpointPtr& checkpoint, const PartPtr& part,
                                     Deferred& deferred) {
  part->staged = true;
  ForgetSession(*part, deferred);
  part->claim.session = nullptr;  // a promise given does not depend on it, nor hold it open
  if (!part->durable.has_value() && !part->persisting) Persist(checkpoint, part, deferred);
  observe::Debug(
      "part staged",
      {{"run", checkpoint->id.run}, {"step", checkpoint->id.step}, {"rank", part->claim.rank}});
  Changed(checkpoint, deferred);
  if (Advance(checkpoint, deferred)) CommitInBackground(checkpoint);
}

// What was staged before the restart, once all is, or another rank has begun again: it may need the
// memory that these parts hold until they are durable.
void CheckpointTableImpl::PersistAdopted(const CheckpointPtr& checkpoint, Deferred& deferred) {
  for (const auto& [rank, part] : checkpoint->parts) {
    if (part->staged && !part->durable.has_value() && !part->persisting && part->reserved) {
      Persist(checkpoint, part, deferred);
    }
  }
}

bool CheckpointTableImpl::Advance(const CheckpointPtr& checkpoint, Deferred& deferred) {
  if (checkpoint->state == v1::CHECKPOINT_STATE_WRITING && checkpoint->agreed &&
      checkpoint->CountStaged() == checkpoint->share.size()) {
    checkpoint->state = v1::CHECKPOINT_STATE_STAGED;
    observe::Info("checkpoint staged", {{"run", checkpoint->id.run},
                                        {"step", checkpoint->id.step},
                                        {"ranks", checkpoint->share.size()}});
    PersistAdopted(checkpoint, deferred);
    Changed(checkpoint, deferred);
  }
  if (checkpoint->state == v1::CHECKPOINT_STATE_STAGED && !checkpoint->committing &&
      checkpoint->CountDurable() == checkpoint->share.size()) {
    checkpoint->committing = true;
    return true;
  }
  return false;
}

// --- commit

void CheckpointTableImpl::CommitInBackground(const CheckpointPtr& checkpoint) {
  InBackground([this, checkpoint] { Commit(checkpoint); });
}

void CheckpointTableImpl::Commit(const CheckpointPtr& checkpoint) {
  std::vector<DurablePart> parts;
  {
    MutexLock lock(mutex_);
    if (!checkpoint->live()) return;
    for (const auto& [rank, part] : checkpoint->parts) parts.push_back(*part->durable);
  }
  absl::StatusOr<CheckpointRecord> record = absl::UnknownError("not tried");
  for (int attempt = 0; attempt < kCommitAttempts && !record.ok(); ++attempt) {
    if (attempt > 0) absl::SleepFor(kCommitPause);
    record = persister_.Commit(checkpoint->id, checkpoint->uid, checkpoint->world_size,
                               checkpoint->share, parts);
    if (IsSyncFailed(record.status())) break;
  }
  if (record.ok()) {
    Committed(checkpoint, *record);
    if (absl::IsNotFound(index_.GetCheckpoint(checkpoint->uid).status())) {
      MutexLock lock(mutex_);
      unindexed_.push_back(checkpoint->uid);
      return;
    }
    persister_.Compare(*record);
    if (options_.settled != nullptr) options_.settled(checkpoint->id.run);
    return;
  }
  // A manifest that was written and not synced must not come to light later.
  const absl::Status removed = options_.folder->RemoveCheckpointManifest(checkpoint->uid);
  if (!removed.ok()) {
    observe::Error("a checkpoint that failed could not be taken back: the next start may find it",
                   {{"run", checkpoint->id.run}, {"step", checkpoint->id.step}, {"error", removed}});
  }
  Deferred deferred;
  MutexLock lock(mutex_);
  Abort(checkpoint, absl::StrCat("it could not be committed: ", record.status().ToString()),
        deferred);
}

void CheckpointTableImpl::IndexAgain() {
  std::vector<CheckpointUid> unindexed;
  {
    MutexLock lock(mutex_);
    unindexed = unindexed_;
  }
  for (const CheckpointUid uid : unindexed) {
    const absl::Status indexed = persister_.IndexAgain(uid);
    const bool gone = absl::IsNotFound(indexed);  // replaced or deleted meanwhile
    if (!indexed.ok() && !gone) {
      observe::Warning("committed, and still not indexed",
                       {{"uid", uid.hex()}, {"error", indexed}});
      continue;
    }
    if (!gone) observe::Info("indexed at last", {{"uid", uid.hex()}});
    MutexLock lock(mutex_);
    std::erase(unindexed_, uid);
  }
}

void CheckpointTableImpl::Committed(const CheckpointPtr& checkpoint,
                                    const CheckpointRecord& record) {
  absl::StatusOr<CheckpointRecord> latest =
      index_.FindLatest(checkpoint->id.run, kStepMax, /*whole_only=*/false);
  const bool newest = !latest.ok() || latest->manifest.checkpoint_uid() == checkpoint->uid.bytes();
  const absl::StatusOr<CheckpointUid> replaced =
      CheckpointUid::FromBytes(record.manifest.replaces_uid(), "replaces_uid");
  // One that is tagged stays, and stays known.
  const bool replaced_is_gone =
      replaced.ok() && absl::IsNotFound(index_.GetCheckpoint(*replaced).status());
  Deferred deferred;
  MutexLock lock(mutex_);
  for (const auto& [rank, part] : checkpoint->parts) {
    if (part->folder != nullptr) {
      (void)part->folder->MarkCommitted();
      part->file = nullptr;
      if (part->file_id.none() ||
          !tier_.SetCopy(part->file_id, checkpoint->id.run, checkpoint->uid, rank)) {
        part->folder->Remove();
      }
      part->folder = nullptr;
    }
    part->values.Clear();
    part->durable->manifest.Clear();
  }
  if (replaced.ok()) tier_.Drop(*replaced);
  if (replaced_is_gone) ForgetCommitted(replaced->bytes());
  if (newest) tier_.SetNewest(checkpoint->id.run, checkpoint->uid);
  checkpoint->state = v1::CHECKPOINT_STATE_COMMITTED;
  checkpoint->ended_at = options_.clock->Now();
  checkpoint->committed_at = absl::FromUnixNanos(
      google::protobuf::util::TimeUtil::TimestampToNanoseconds(record.manifest.committed_at()));
  observe::Info(
      "checkpoint committed",
      {{"run", checkpoint->id.run}, {"step", checkpoint->id.step}, {"bytes", record.data_bytes}});
  Changed(checkpoint, deferred);
}

// --- abort

void CheckpointTableImpl::Abort(const CheckpointPtr& checkpoint, const std::string& reason,
                                Deferred& deferred) {
  if (!checkpoint->live() || stopped_) return;  // a stopping daemon leaves all to the next one
  for (const auto& [rank, part] : checkpoint->parts) {
    if (part->folder != nullptr) part->folder->Unstage();
  }
  checkpoint->state = v1::CHECKPOINT_STATE_ABORTED;
  checkpoint->ended_at = options_.clock->Now();
  checkpoint->aborted = absl::AbortedError(
      absl::StrCat("checkpoint ", checkpoint->id.ToString(), " was aborted: ", reason));
  observe::Warning(
      "checkpoint aborted",
      {{"run", checkpoint->id.run}, {"step", checkpoint->id.step}, {"reason", reason}});
  auto durable = std::make_shared<std::vector<DurablePart>>();
  for (const auto& [rank, part] : checkpoint->parts) {
    checkpoint->told.insert(rank);
    if (part->durable.has_value()) durable->push_back(*std::exchange(part->durable, std::nullopt));
    if (part->buffer != nullptr) part->buffer->Abort(checkpoint->aborted);
    if (part->stream_changed != nullptr) {
      deferred.Add([changed = part->stream_changed] { (*changed)(); });
    }
    ForgetSession(*part, deferred);
    LetGo(*checkpoint, *part, deferred);
  }
  checkpoint->recording = true;
  KeepAborted(checkpoint);
  Afterwards([this, checkpoint, durable] {
    v1::CheckpointInfo info;
    bool stopping = false;
    {
      MutexLock lock(mutex_);
      info = MakeInfo(*checkpoint);
      stopping = stopped_;
    }
    // A stop waits for the reasons of some, not of a flood.
    const bool skipped = stopping && left_to_abort() > kReasonsAtStopMax;
    const absl::Status kept = skipped ? absl::OkStatus() : index_.PutAborted(info);
    if (!kept.ok()) observe::Error("abort not recorded", {{"reason", kept}});
    {
      MutexLock lock(mutex_);
      checkpoint->recording = false;
      checkpoint->abort_recorded = kept.ok() && !skipped;
    }
    persister_.Discard(checkpoint->uid, *durable);
    if (options_.settled != nullptr) options_.settled(checkpoint->id.run);
  });
  Changed(checkpoint, deferred);
  deferred.Add([this] { tier_.WakeWaiters(); });
}

void CheckpointTableImpl::KeepAborted(const CheckpointPtr& checkpoint) {
  aborted_.push_back(checkpoint);
  aborted_ranks_ += checkpoint->share.size();
  DropAborted(checkpoint->ended_at);
}

void CheckpointTableImpl::DropAborted(absl::Time now) {
  while (!aborted_.empty() && !aborted_.front()->recording &&
         (aborted_.size() > kAbortedMax || aborted_ranks_ > kAbortedRanksMax ||
          now >= aborted_.front()->ended_at + options_.keep_aborted)) {
    const CheckpointPtr oldest = std::move(aborted_.front());
    aborted_.pop_front();
    aborted_ranks_ -= oldest->share.size();
    const auto found = checkpoints_.find(oldest->id);
    if (found != checkpoints_.end() && found->second == oldest) checkpoints_.erase(found);
  }
}

void CheckpointTableImpl::LetGo(LiveCheckpoint& checkpoint, LivePart& part, Deferred& deferred) {
  if (checkpoint.state != v1::CHECKPOINT_STATE_ABORTED) return;
  if (part.stream != 0 || part.persisting || part.opening) return;
  part.buffer = nullptr;
  const bool may_be_written_to =
      !part.finished && part.claim.transport == v1::TRANSPORT_SHARED_MEMORY;
  if (part.file != nullptr && may_be_written_to) {
    // Not with the lock: the client may be slow to take the message.
    deferred.Add([this, file = std::exchange(part.file, nullptr), folder = part.folder]() mutable {
      tier_.TakeBack(std::move(file));
      if (folder != nullptr) folder->Remove();
    });
  } else if (part.file != nullptr) {
    tier_.Release(std::exchange(part.file, nullptr));
  } else if (!part.file_id.none()) {
    tier_.ReleaseId(part.file_id);
  }
  part.file_id = FileId();
  if (part.folder != nullptr) part.folder->Remove();
  part.folder = nullptr;
  if (std::exchange(part.reserved, false)) {
    deferred.Add(
        [this, bytes = part.layout->part_bytes()] { persister_.ReleaseReservation(bytes); });
  }
  part.layout = nullptr;
  part.values.Clear();
  part.claim.session = nullptr;
}

void CheckpointTableImpl::ForgetSession(LivePart& part, Deferred& deferred) {
  const uint64_t number = std::exchange(part.on_close, 0);
  if (number == 0 || part.claim.session == nullptr) return;
  // Without waiting: it may be called from a session's callback, with the lifeline's lock, which
  // the callback of that session waits for.
  deferred.Add([session = part.claim.session, number] { session->DropOnClose(number); });
}

// --- telling

void CheckpointTableImpl::Changed(const CheckpointPtr& checkpoint, Deferred& deferred) {
  // Without the lock, which whoever wakes up takes first of all.
  deferred.Add([this] { changed_.NotifyAll(); });
  MutexLock lock(events_mutex_);
  if (subscribers_.empty()) return;
  events_.emplace_back(MakeInfo(*checkpoint), false);
  deferred.Add([this] { Emit(); });
}

void CheckpointTableImpl::InBackground(absl::AnyInvocable<void()> work) {
  MutexLock lock(background_mutex_);
  background_.push_back(std::move(work));
  background_changed_.NotifyOne();
}

void CheckpointTableImpl::Afterwards(absl::AnyInvocable<void()> work) {
  MutexLock lock(background_mutex_);
  afterwards_.push_back(std::move(work));
  background_changed_.NotifyOne();
}

size_t CheckpointTableImpl::left_to_abort() {
  MutexLock lock(background_mutex_);
  return afterwards_.size();
}

void CheckpointTableImpl::RunBackground() {
  while (true) {
    absl::AnyInvocable<void()> work;
    {
      MutexLock lock(background_mutex_);
      while (background_.empty() && afterwards_.empty() && !background_stop_) {
        background_changed_.Wait(background_mutex_);
      }
      if (background_.empty() && afterwards_.empty()) return;
      auto& queue = background_.empty() ? afterwards_ : background_;
      work = std::move(queue.front());
      queue.pop_front();
    }
    work();
  }
}

}  // namespace ckpt
