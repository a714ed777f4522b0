// What a part is given before its first byte, in this order, and what gives it back:
//
//   1. its share of the run's quotas           table_quota.cc
//   2. disk space, which retention may make    Reserve; a refusal aborts the checkpoint
//   3. a folder, with the layout in it         linked from the last part that had the same one
//   4. memory: a file of the tier, or a ring   may be waited for, as the claim says
//
// All of it is done without the table's lock, by one stream at a time; a part that is refused
// memory leaves its checkpoint as it is.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/staging/checkpoint_table_impl.h"

namespace ckpt {
namespace {

constexpr absl::Duration kDiskPoll = absl::Milliseconds(200);
constexpr size_t kLayoutFoldersMax = 1024;

}  // namespace

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

}  // namespace ckpt
