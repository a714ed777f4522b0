// One stream's calls, from layout to Finish. Finish's order:
//
//   1. every byte and every value is there
//   2. `plan` is written in the part's folder
//   3. `staged` is linked into place: from here on a restarted daemon finishes the part
//      Crash before: the part is unlinked at start, and nobody was told that it was safe.
//   4. the table knows it, persisting begins, `Staged` is answered
//
// A part that goes through a ring has been persisted behind its writer: its plan and mark come
// after its bytes are synced on disk, with the reference under which they lie there.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"
#include "common/values.h"
#include "google/protobuf/util/time_util.h"
#include "server/observe/log.h"
#include "server/staging/checkpoint_table_impl.h"

namespace ckpt {
namespace {

constexpr absl::Duration kPartPoll = absl::Milliseconds(20);
constexpr absl::Duration kDiskPoll = absl::Milliseconds(200);
constexpr size_t kLayoutFoldersMax = 1024;

}  // namespace

absl::Status CheckpointTableImpl::CheckHeld(const LiveCheckpoint& checkpoint, const LivePart& part,
                                            uint64_t stream) const {
  if (checkpoint.state == v1::CHECKPOINT_STATE_ABORTED) return checkpoint.aborted;
  if (stopped_) return absl::UnavailableError("the daemon is stopping");
  if (part.stream != stream) {
    return absl::AbortedError("another stream with the same request_id has taken this part over");
  }
  return absl::OkStatus();
}

absl::Status CheckpointTableImpl::StreamStatus(const CheckpointPtr& checkpoint, const PartPtr& part,
                                               uint64_t stream) {
  MutexLock lock(mutex_);
  return CheckHeld(*checkpoint, *part, stream);
}

bool CheckpointTableImpl::NeedsLayout(const PartPtr& part) {
  MutexLock lock(mutex_);
  return part->layout == nullptr && !part->finished;
}

std::shared_ptr<PartBuffer> CheckpointTableImpl::BufferOf(const PartPtr& part) {
  MutexLock lock(mutex_);
  return part->buffer;
}

absl::Status CheckpointTableImpl::SetLayout(const CheckpointPtr& checkpoint, const PartPtr& part,
                                            uint64_t stream, std::string serialized) {
  CKPT_RETURN_IF_ERROR(StreamStatus(checkpoint, part, stream));
  std::string digest = Sha256(serialized);
  if (digest != part->claim.layout_digest) {
    return absl::InvalidArgumentError(
        absl::StrCat("the layout's ", serialized.size(),
                     " bytes do not have the SHA-256 that Begin named as layout_digest"));
  }
  CKPT_ASSIGN_OR_RETURN(std::shared_ptr<const PartLayout> layout,
                        PartLayout::FromBytes(std::move(serialized), std::move(digest)));
  index_.KeepLayout(layout);
  return LayoutKnown(checkpoint, part, std::move(layout));
}

absl::Status CheckpointTableImpl::LayoutKnown(const CheckpointPtr& checkpoint, const PartPtr& part,
                                              std::shared_ptr<const PartLayout> layout) {
  {
    MutexLock lock(mutex_);
    if (checkpoint->state == v1::CHECKPOINT_STATE_ABORTED) return checkpoint->aborted;
    const auto there = checkpoint->parts.find(part->claim.rank);
    if (there == checkpoint->parts.end() || there->second != part) {
      return absl::FailedPreconditionError(
          "the part was begun anew; this stream no longer holds it");
    }
    if (part->layout == nullptr) part->layout = std::move(layout);
  }
  return Agree(checkpoint);
}

// --- memory

absl::StatusOr<v1::Accepted> CheckpointTableImpl::Open(const CheckpointPtr& checkpoint,
                                                       const PartPtr& part, uint64_t stream,
                                                       absl::FunctionRef<bool()> cancelled) {
  {
    MutexLock lock(mutex_);
    // A stream that was taken over is perhaps still at it.
    while (part->opening && CheckHeld(*checkpoint, *part, stream).ok()) {
      changed_.WaitUntil(mutex_, absl::Now() + kPartPoll);
    }
    CKPT_RETURN_IF_ERROR(CheckHeld(*checkpoint, *part, stream));
    // Durable, but not finished: a ring whose stream broke before its Finish.
    if (part->finished || part->durable.has_value() || part->buffer != nullptr) {
      return MakeAccepted(*part);
    }
    if (part->layout == nullptr) return absl::FailedPreconditionError("the layout is missing");
    part->opening = true;
  }
  const absl::Status opened = OpenMemory(checkpoint, part, stream, cancelled);
  Deferred deferred;
  MutexLock lock(mutex_);
  part->opening = false;
  part->heard_at = options_.clock->Now();
  changed_.NotifyAll();
  LetGo(*checkpoint, *part, deferred);
  CKPT_RETURN_IF_ERROR(opened);
  CKPT_RETURN_IF_ERROR(CheckHeld(*checkpoint, *part, stream));
  return MakeAccepted(*part);
}

absl::Status CheckpointTableImpl::OpenMemory(const CheckpointPtr& checkpoint, const PartPtr& part,
                                             uint64_t stream, absl::FunctionRef<bool()> cancelled) {
  const PartClaim& claim = part->claim;
  const uint64_t part_bytes = part->layout->part_bytes();
  std::shared_ptr<PartFolder> like;
  bool reserved = false;
  {
    MutexLock lock(mutex_);
    reserved = part->reserved;
    auto found = layout_folders_.find(claim.layout_digest);
    if (found != layout_folders_.end()) like = found->second.lock();
  }
  CKPT_RETURN_IF_ERROR(AdmitPartByQuota(checkpoint, part));
  if (!reserved) CKPT_RETURN_IF_ERROR(Reserve(checkpoint, part, stream, cancelled));
  CKPT_ASSIGN_OR_RETURN(std::shared_ptr<PartFolder> folder, tier_.NewFolder());
  absl::StatusOr<uint64_t> ring_bytes_max = PromiseMemory(checkpoint, part, stream, cancelled);
  if (!ring_bytes_max.ok()) {
    folder->Remove();
    return ring_bytes_max.status();
  }
  absl::Status status = folder->WriteLayout(*part->layout, like.get());
  std::shared_ptr<StagingFile> file;
  if (status.ok() && part_bytes > 0) {
    auto check = [&]() -> absl::Status {
      if (cancelled()) return absl::CancelledError("the client has gone away");
      return StreamStatus(checkpoint, part, stream);
    };
    const MemoryTier::Request request{
        claim.transport == v1::TRANSPORT_SHARED_MEMORY ? claim.session : nullptr, claim.id.run,
        part_bytes, claim.on_full, options_.clock->Now() + claim.memory_wait, check,
        *ring_bytes_max};
    absl::StatusOr<std::shared_ptr<StagingFile>> acquired = tier_.Acquire(request, folder);
    if (acquired.ok()) file = *std::move(acquired);
    status = acquired.status();
  }
  std::weak_ptr<LivePart> weak = part;
  auto buffer = std::make_shared<PartBuffer>(file, part_bytes, [this, weak] {
    const PartPtr part = weak.lock();
    if (part == nullptr) return;
    std::shared_ptr<absl::AnyInvocable<void()>> changed;
    {
      MutexLock lock(mutex_);
      changed = part->stream_changed;
    }
    if (changed != nullptr) (*changed)();
  });
  MutexLock lock(mutex_);
  part->memory_promised = 0;  // counted by its file from here on
  if (status.ok() && !checkpoint->live()) status = checkpoint->aborted;
  if (!status.ok()) {
    if (file != nullptr) tier_.Release(file);
    folder->Remove();
    return status;
  }
  if (layout_folders_.size() > kLayoutFoldersMax) layout_folders_.clear();
  layout_folders_[claim.layout_digest] = folder;
  part->ring = buffer->ring();
  part->folder = std::move(folder);
  part->file_id = file == nullptr || part->ring ? FileId() : file->id();
  part->file = std::move(file);
  part->buffer = std::move(buffer);
  return absl::OkStatus();
}

bool CheckpointTableImpl::AnotherIsStaged(const CheckpointPtr& checkpoint) {
  MutexLock lock(mutex_);
  return std::any_of(checkpoints_.begin(), checkpoints_.end(), [&](const auto& entry) {
    return entry.second != checkpoint && entry.second->state == v1::CHECKPOINT_STATE_STAGED;
  });
}

absl::Status CheckpointTableImpl::Reserve(const CheckpointPtr& checkpoint, const PartPtr& part,
                                          uint64_t stream, absl::FunctionRef<bool()> cancelled) {
  const PartClaim& claim = part->claim;
  const uint64_t part_bytes = part->layout->part_bytes();
  absl::Status status = persister_.Reserve(part_bytes);
  const absl::Time deadline = options_.clock->Now() + claim.memory_wait;
  while (absl::IsResourceExhausted(status) && options_.make_room != nullptr) {
    const bool more_may_come = AnotherIsStaged(checkpoint);  // before: it may commit meanwhile
    const DiskRoom room = options_.make_room();
    status = persister_.Reserve(part_bytes);
    if (room == DiskRoom::kMade || !absl::IsResourceExhausted(status)) continue;
    if (room == DiskRoom::kNone || !more_may_come || claim.on_full == v1::ON_FULL_REFUSE ||
        options_.clock->Now() >= deadline) {
      break;
    }
    if (cancelled()) return absl::CancelledError("the client has gone away");
    CKPT_RETURN_IF_ERROR(StreamStatus(checkpoint, part, stream));
    MutexLock lock(mutex_);
    if (stopped_) return absl::UnavailableError("the daemon is stopping");
    changed_.WaitUntil(mutex_, absl::Now() + kDiskPoll);
  }
  Deferred deferred;
  MutexLock lock(mutex_);
  if (status.ok()) {
    part->reserved = true;
  } else {
    Abort(checkpoint, absl::StrCat("rank ", claim.rank, ": ", status.message()), deferred);
  }
  return status;
}

v1::Accepted CheckpointTableImpl::MakeAccepted(const LivePart& part) const {
  v1::Accepted accepted;
  accepted.set_transport(part.claim.transport);
  if (part.buffer == nullptr) {  // finished or durable: nothing is left to be written
    const uint64_t bytes = part.layout == nullptr ? 0 : part.layout->part_bytes();
    accepted.set_part_bytes(bytes);
    accepted.set_file_bytes(bytes);
    accepted.set_credit(bytes);
    accepted.set_resume_from(bytes);
    return accepted;
  }
  accepted.set_part_bytes(part.layout->part_bytes());
  accepted.set_file_bytes(part.file == nullptr ? 0 : part.file->bytes());
  if (part.claim.transport == v1::TRANSPORT_SHARED_MEMORY && part.file != nullptr) {
    accepted.set_file_id(part.file->id().bytes());
  }
  accepted.set_credit(part.buffer->credit());
  accepted.set_resume_from(part.finished ? part.layout->part_bytes() : part.buffer->written());
  accepted.set_ring(part.ring);
  return accepted;
}

void CheckpointTableImpl::NoteRefusal(const PartPtr& part, uint64_t stream,
                                      const absl::Status& opened) {
  const bool gone = absl::IsCancelled(opened) || absl::IsAborted(opened) ||
                    absl::IsUnavailable(opened) || absl::IsFailedPrecondition(opened);
  MutexLock lock(mutex_);
  if (!gone && part->stream == stream) part->refused = std::string(opened.message());
}

// --- bytes and values

absl::StatusOr<uint64_t> CheckpointTableImpl::SetValues(const CheckpointPtr& checkpoint,
                                                        const PartPtr& part, uint64_t stream,
                                                        absl::string_view serialized) {
  std::shared_ptr<const PartLayout> layout;
  {
    MutexLock lock(mutex_);
    CKPT_RETURN_IF_ERROR(CheckHeld(*checkpoint, *part, stream));
    if (part->finished || part->persisting || part->durable.has_value()) {
      return 0;  // a resumed stream says it again
    }
    if (part->buffer == nullptr) return absl::FailedPreconditionError("values before Accepted");
    if (part->buffer->written() > 0 && !part->values_given) {
      return absl::FailedPreconditionError("values must come before any Progress or Data");
    }
    layout = part->layout;
  }
  CKPT_ASSIGN_OR_RETURN(v1::Values values, ParseValues(serialized, *layout));
  const uint64_t bytes = values.SpaceUsedLong();
  MutexLock lock(mutex_);
  CKPT_RETURN_IF_ERROR(CheckHeld(*checkpoint, *part, stream));
  part->values = std::move(values);
  part->values_given = true;
  part->heard_at = options_.clock->Now();
  return bytes;
}

absl::Status CheckpointTableImpl::SetSourceHashes(const CheckpointPtr& checkpoint,
                                                  const PartPtr& part, uint64_t stream,
                                                  std::vector<uint64_t> hashes) {
  MutexLock lock(mutex_);
  CKPT_RETURN_IF_ERROR(CheckHeld(*checkpoint, *part, stream));
  if (part->finished) return absl::OkStatus();  // a resumed stream says it again
  if (part->layout == nullptr) return absl::FailedPreconditionError("hashes before Accepted");
  if (hashes.size() != part->layout->block_count()) {
    return absl::InvalidArgumentError(absl::StrCat(hashes.size(), " source hashes for a part of ",
                                                   part->layout->block_count(), " blocks"));
  }
  part->source_hashes = std::move(hashes);
  return absl::OkStatus();
}

absl::Status CheckpointTableImpl::Progress(const CheckpointPtr& checkpoint, const PartPtr& part,
                                           uint64_t stream, uint64_t written) {
  Deferred deferred;
  MutexLock lock(mutex_);
  CKPT_RETURN_IF_ERROR(CheckHeld(*checkpoint, *part, stream));
  if (part->claim.transport != v1::TRANSPORT_SHARED_MEMORY) {
    return absl::FailedPreconditionError("Progress belongs to the shared-memory transport");
  }
  if (part->finished || part->durable.has_value()) return absl::OkStatus();
  if (part->buffer == nullptr) return absl::FailedPreconditionError("Progress before Accepted");
  CKPT_RETURN_IF_ERROR(part->buffer->Advance(written));
  part->heard_at = options_.clock->Now();
  return StartRing(checkpoint, part, deferred);
}

absl::Status CheckpointTableImpl::Write(const CheckpointPtr& checkpoint, const PartPtr& part,
                                        uint64_t stream, uint64_t offset,
                                        const ReceivedBytes& bytes) {
  std::shared_ptr<PartBuffer> buffer;
  {
    MutexLock lock(mutex_);
    CKPT_RETURN_IF_ERROR(CheckHeld(*checkpoint, *part, stream));
    if (part->claim.transport != v1::TRANSPORT_STREAM) {
      return absl::FailedPreconditionError("Data belongs to the stream transport");
    }
    if (part->buffer == nullptr || part->finished) {
      return absl::FailedPreconditionError("Data before Accepted or after Finish");
    }
    buffer = part->buffer;
  }
  CKPT_RETURN_IF_ERROR(buffer->Write(offset, bytes));
  Deferred deferred;
  MutexLock lock(mutex_);
  CKPT_RETURN_IF_ERROR(CheckHeld(*checkpoint, *part, stream));
  part->heard_at = options_.clock->Now();
  return StartRing(checkpoint, part, deferred);
}

// A ring is persisted behind its writer, from the first byte on.
absl::Status CheckpointTableImpl::StartRing(const CheckpointPtr& checkpoint, const PartPtr& part,
                                            Deferred& deferred) {
  if (!part->ring || part->persisting || part->durable.has_value()) return absl::OkStatus();
  CKPT_RETURN_IF_ERROR(CheckValues(*checkpoint, *part));
  Persist(checkpoint, part, deferred);
  return absl::OkStatus();
}

// --- the end

absl::Status CheckpointTableImpl::CheckValues(const LiveCheckpoint& checkpoint,
                                              const LivePart& part) const {
  const LeafTable& leaves = part.layout->leaves();
  const bool writes_replicated = checkpoint.share.front() == part.claim.rank;
  auto must_have = [&](const LeafView& leaf) {
    return leaf.kind == v1::LEAF_KIND_VALUE &&
           (leaf.placement == v1::PLACEMENT_PER_RANK || writes_replicated);
  };
  std::vector<bool> given(leaves.size(), false);
  for (const v1::Values::Entry& entry : part.values.entries()) given[entry.leaf()] = true;
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (must_have(leaves[i]) && !given[i]) {
      return absl::FailedPreconditionError(
          absl::StrCat("the value of '", leaves.printed_key(i),
                       "' is missing; values come after Accepted, before any Progress or Data"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckpointTableImpl::CheckComplete(const LiveCheckpoint& checkpoint,
                                                const LivePart& part, uint64_t part_bytes) const {
  if (part.buffer == nullptr) return absl::FailedPreconditionError("Finish before Accepted");
  if (part_bytes != part.layout->part_bytes()) {
    return absl::InvalidArgumentError(
        absl::StrCat("Finish says ", part_bytes, " bytes, the layout ", part.layout->part_bytes()));
  }
  if (part.claim.transport == v1::TRANSPORT_STREAM && part.buffer->written() != part_bytes) {
    return absl::FailedPreconditionError(
        absl::StrCat("Finish after ", part.buffer->written(), " of ", part_bytes, " bytes"));
  }
  if (part.buffer->credit() < part_bytes) {
    return absl::FailedPreconditionError(absl::StrCat(
        "Finish at ", part_bytes, ", beyond the credit (", part.buffer->credit(), ")"));
  }
  return CheckValues(checkpoint, part);
}

staging::StagedPlan CheckpointTableImpl::MakePlan(const LiveCheckpoint& checkpoint,
                                                  const LivePart& part) const {
  staging::StagedPlan plan;
  *plan.mutable_id() = checkpoint.id.ToProto();
  plan.set_checkpoint_uid(checkpoint.uid.bytes());
  plan.set_request_id(part.claim.request_id.bytes());
  plan.set_rank(part.claim.rank);
  plan.set_world_size(checkpoint.world_size);
  plan.mutable_share()->Add(checkpoint.share.begin(), checkpoint.share.end());
  plan.set_layout_digest(part.claim.layout_digest);
  *plan.mutable_values() = part.values;
  plan.set_part_bytes(part.layout->part_bytes());
  *plan.mutable_begun_at() = google::protobuf::util::TimeUtil::NanosecondsToTimestamp(
      absl::ToUnixNanos(checkpoint.begun_at));
  plan.set_ring(part.ring);
  plan.mutable_source_hashes()->Add(part.source_hashes.begin(), part.source_hashes.end());
  return plan;
}

absl::StatusOr<v1::Staged> CheckpointTableImpl::Finish(const CheckpointPtr& checkpoint,
                                                       const PartPtr& part, uint64_t stream,
                                                       uint64_t part_bytes,
                                                       absl::FunctionRef<bool()> cancelled) {
  staging::StagedPlan plan;
  std::shared_ptr<PartFolder> folder;
  {
    Deferred deferred;
    MutexLock lock(mutex_);
    CKPT_RETURN_IF_ERROR(CheckHeld(*checkpoint, *part, stream));
    if (!part->finished && !part->durable.has_value()) {
      CKPT_RETURN_IF_ERROR(CheckComplete(*checkpoint, *part, part_bytes));
      if (part->claim.transport == v1::TRANSPORT_SHARED_MEMORY) {
        CKPT_RETURN_IF_ERROR(part->buffer->Advance(part_bytes));
      }
      CKPT_RETURN_IF_ERROR(StartRing(checkpoint, part, deferred));
    }
    if (part->ring && !part->staged) {
      part->finished = true;
      if (part->durable.has_value()) {
        absl::Status recorded = StageRing(checkpoint, part);
        if (!recorded.ok()) return NotStaged(checkpoint, part, std::move(recorded), deferred);
        PartStaged(checkpoint, part, deferred);
      }
    } else if (!part->finished) {
      plan = MakePlan(*checkpoint, *part);
      folder = part->folder;
    }
  }
  if (folder != nullptr) {
    absl::Status written = folder->WritePlan(plan);
    Deferred deferred;
    MutexLock lock(mutex_);
    CKPT_RETURN_IF_ERROR(CheckHeld(*checkpoint, *part, stream));
    if (written.ok()) written = folder->MarkStaged();
    if (!written.ok()) return NotStaged(checkpoint, part, std::move(written), deferred);
    part->finished = true;
    PartStaged(checkpoint, part, deferred);
  }
  CKPT_RETURN_IF_ERROR(AwaitStaged(checkpoint, part, stream, cancelled));
  v1::Staged staged;
  staged.set_checkpoint_uid(checkpoint->uid.bytes());
  return staged;
}

absl::Status CheckpointTableImpl::NotStaged(const CheckpointPtr& checkpoint, const PartPtr& part,
                                            absl::Status why, Deferred& deferred) {
  Abort(checkpoint,
        absl::StrCat("rank ", part->claim.rank, "'s part could not be marked as staged: ",
                     why.message()),
        deferred);
  return why;
}

absl::Status CheckpointTableImpl::AwaitStaged(const CheckpointPtr& checkpoint, const PartPtr& part,
                                              uint64_t stream,
                                              absl::FunctionRef<bool()> cancelled) {
  MutexLock lock(mutex_);
  while (true) {
    CKPT_RETURN_IF_ERROR(CheckHeld(*checkpoint, *part, stream));
    if (part->staged) return absl::OkStatus();
    if (cancelled()) return absl::CancelledError("the client has gone away");
    changed_.WaitUntil(mutex_, absl::Now() + kPartPoll);
  }
}

void CheckpointTableImpl::GiveUp(const CheckpointPtr& checkpoint, const PartPtr& part,
                                 uint64_t stream, absl::Status why) {
  Deferred deferred;
  MutexLock lock(mutex_);
  if (part->stream != stream || part->finished || !checkpoint->live()) return;
  Abort(checkpoint, absl::StrCat("rank ", part->claim.rank, ": ", why.message()), deferred);
}

void CheckpointTableImpl::Detach(const CheckpointPtr& checkpoint, const PartPtr& part,
                                 uint64_t stream) {
  Deferred deferred;
  MutexLock lock(mutex_);
  --open_streams_;
  if (part->stream == stream) {
    part->stream = 0;
    part->stream_changed = nullptr;
    part->broken_since = options_.clock->Now();
  }
  LetGo(*checkpoint, *part, deferred);
  changed_.NotifyAll();
}

void CheckpointTableImpl::SessionEnded(const CheckpointPtr& checkpoint, const PartPtr& part) {
  Deferred deferred;
  MutexLock lock(mutex_);
  if (part->finished || !checkpoint->live()) return;
  const std::string who = absl::StrCat("rank ", part->claim.rank, "'s process (pid ",
                                       part->claim.session->peer().pid, ")");
  Abort(
      checkpoint,
      part->refused.empty()
          ? absl::StrCat(who, " closed its session before its part was finished: it has died, or ",
                         "given up")
          : absl::StrCat(who, " was refused, and closed its session: ", part->refused),
      deferred);
}

}  // namespace ckpt
