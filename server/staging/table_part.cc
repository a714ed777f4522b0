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
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"
#include "common/values.h"
#include "google/protobuf/util/time_util.h"
#include "server/staging/checkpoint_table_impl.h"

namespace ckpt {

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
