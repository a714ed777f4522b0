// Who gets which file. One look at the tier (TryAcquire) goes through these, and the first that
// works ends it:
//   1. recycle an idle file or an older copy of one's own session and run
//   2. allocate within the budget (first come, first served)
//   3. recycle one's own newest copy, where the session has a second file or nothing can be
//      allocated
//   4. have files that nobody waits for given up, and look again when their pages are gone
//   5. what the caller chose: wait, a ring of what there is, or refusal
// A part larger than the budget, or than its run's memory quota, goes through a ring from the
// start.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/status_macros.h"
#include "server/staging/memory_tier_impl.h"

namespace ckpt {
namespace {

constexpr uint64_t kHugePageBytes = 2 << 20;
constexpr uint64_t kRingBytesMin = 64 << 10;
constexpr uint32_t kPreparedFilesMax = 16;
constexpr absl::Duration kPoll = absl::Milliseconds(20);
constexpr int kEveryClass = 5;
constexpr int kNobodysClass = 1;

// A file may be this much larger than its part before allocating one that fits is preferred.
uint64_t RecycleBytesMax(uint64_t bytes) { return std::max(2 * bytes, bytes + (16 << 20)); }

}  // namespace

uint64_t MemoryTierImpl::Round(uint64_t bytes) const {
  const uint64_t pages = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  if (huge_pages_ == HugePages::kNone || bytes < kHugePageBytes) return pages;
  const uint64_t huge = (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  return huge <= budget_bytes_ ? huge : pages;
}

uint64_t MemoryTierImpl::RingBytes() const {
  uint64_t bytes = options_.ring_bytes > 0 ? options_.ring_bytes : budget_bytes_ / 4;
  if (bytes >= kHugePageBytes) bytes = bytes / kHugePageBytes * kHugePageBytes;
  bytes = std::max(bytes / kPageBytes * kPageBytes, kRingBytesMin);
  return std::min(bytes, budget_bytes_);
}

MemoryTierImpl::Slot* MemoryTierImpl::FindRecyclable(const Request& request, uint64_t bytes_min,
                                                     uint64_t bytes_max, bool newest_too) {
  const Session* session = request.session.get();
  Slot* best = nullptr;
  auto order = [](const Slot& slot) {  // smaller is better
    return std::make_tuple(slot.use == Use::kIdle ? 0 : 1, slot.file->bytes(), slot.sequence);
  };
  for (const auto& [id, slot] : slots_) {
    const bool ours = session != nullptr ? slot->owner == session->token() : slot->owner.none();
    if (!ours || slot->abandoned || slot->pins > 0) continue;
    if (slot->use != Use::kIdle && slot->use != Use::kCopy) continue;
    if (!slot->run.empty() && slot->run != request.run) continue;
    if (!newest_too && IsNewest(*slot)) continue;
    if (slot->file->bytes() < bytes_min || slot->file->bytes() > bytes_max) continue;
    if (best == nullptr || order(*slot) < order(*best)) best = slot.get();
  }
  return best;
}

MemoryTierImpl::Slot* MemoryTierImpl::FindRing(const Request& request, uint64_t bytes_max) {
  const uint64_t wanted = std::min(RingBytes(), bytes_max);
  if (Slot* slot = FindRecyclable(request, wanted, bytes_max, /*newest_too=*/false)) return slot;
  return FindRecyclable(request, std::min(kRingBytesMin, wanted), bytes_max,
                        /*newest_too=*/false);
}

absl::Status MemoryTierImpl::Recycle(Slot& slot, const std::string& run,
                                     const std::shared_ptr<PartFolder>& folder) {
  if (!slot.file->Intact()) {
    Unlink(slot);
    return absl::DataLossError("the staging file was truncated or grown by its client");
  }
  const std::shared_ptr<PartFolder> before = slot.folder;
  if (rename(DataPath(slot).c_str(), folder->data_path().c_str()) != 0) {
    Unlink(slot);
    return absl::InternalError("the staging file has lost its name");
  }
  const bool was_copy = slot.use == Use::kCopy;
  ForgetCopy(slot);
  if (was_copy && before != nullptr) before->Remove();
  slot.run = run;
  slot.folder = folder;
  slot.use = Use::kInUse;
  slot.sequence = ++sequence_;
  return absl::OkStatus();
}

MemoryTierImpl::Step MemoryTierImpl::TryAcquire(const Request& request,
                                                const std::shared_ptr<PartFolder>& folder,
                                                Waiter* waiter) {
  Step step;
  const Session* session = request.session.get();
  const uint64_t bytes = Round(request.part_bytes);
  const bool must_ring = bytes > budget_bytes_ || request.ring_bytes_max > 0;
  const uint64_t ring_max = request.ring_bytes_max > 0 ? request.ring_bytes_max : UINT64_MAX;
  const uint64_t wanted = must_ring ? std::min(RingBytes(), ring_max) : bytes;
  MutexLock lock(mutex_);
  auto recycle = [&](Slot* slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (slot == nullptr) return false;
    const std::shared_ptr<StagingFile> file = slot->file;
    if (!Recycle(*slot, request.run, folder).ok()) return false;
    step.file = file;
    step.grant = request.session != nullptr && !Find(file->id())->granted;
    return true;
  };
  CollectUnlinked();
  if (recycle(must_ring ? FindRing(request, ring_max)
                        : FindRecyclable(request, bytes, RecycleBytesMax(bytes), false))) {
    return step;
  }
  const bool my_turn = waiters_.empty() || waiters_.front() == waiter;
  const bool fits = UsedBytes() + wanted <= budget_bytes_;
  int own_files = 0;
  for (const auto& [id, slot] : slots_) {
    if (session != nullptr && slot->owner == session->token() && slot->file->bytes() >= bytes &&
        (slot->run.empty() || slot->run == request.run)) {
      ++own_files;
    }
  }
  if (my_turn && fits && own_files < 2) {
    step.allocate_bytes = wanted;
  } else if (recycle(FindRecyclable(request, wanted, ring_max, /*newest_too=*/true))) {
    return step;
  } else if (my_turn && fits) {
    step.allocate_bytes = wanted;
  }
  if (step.allocate_bytes > 0) {
    file_bytes_ += step.allocate_bytes;
    return step;
  }
  if (my_turn && Reclaim(wanted, kEveryClass, session, step.revocations)) {
    step.waiting_for_pages = true;
    return step;
  }
  if (request.on_full == v1::ON_FULL_RING && !must_ring) {
    if (recycle(FindRing(request, UINT64_MAX))) return step;
    const uint64_t room = budget_bytes_ - std::min(budget_bytes_, UsedBytes());
    const uint64_t ring = std::min(RingBytes(), room / kPageBytes * kPageBytes);
    if (ring >= std::min(kRingBytesMin, RingBytes())) {
      step.allocate_bytes = ring;
      file_bytes_ += ring;
    }
  } else if (request.on_full == v1::ON_FULL_REFUSE) {
    step.refused = absl::ResourceExhaustedError(
        absl::StrCat("the memory budget (", PrintByteSize(budget_bytes_),
                     ") is held by parts that are not yet ", "durable; ", PrintByteSize(wanted),
                     " are needed: retry later, wait, or go through a ring"));
  }
  return step;
}

absl::StatusOr<std::shared_ptr<StagingFile>> MemoryTierImpl::Acquire(
    const Request& request, const std::shared_ptr<PartFolder>& folder) {
  if (request.session != nullptr) WatchSession(request.session);
  Waiter waiter;
  bool queued = false;
  auto leave = [&] {
    if (!queued) return;
    MutexLock lock(mutex_);
    waiters_.remove(&waiter);
    changed_.NotifyAll();
  };
  const absl::Time pages_deadline = absl::Now() + options_.revoke_timeout;
  absl::StatusOr<std::shared_ptr<StagingFile>> file = absl::UnknownError("not tried");
  bool grant = false;
  while (true) {
    Step step = TryAcquire(request, folder, &waiter);
    AskBack(std::move(step.revocations));
    if (step.file != nullptr) {
      file = step.file;
      grant = step.grant;
      break;
    }
    if (step.allocate_bytes > 0) {
      file = Allocate(request.session, request.run, step.allocate_bytes, folder);
      grant = request.session != nullptr;
      break;
    }
    if (!step.refused.ok()) {
      file = step.refused;
      break;
    }
    if (request.on_full == v1::ON_FULL_REFUSE && absl::Now() > pages_deadline) {
      file = absl::ResourceExhaustedError(
          absl::StrCat("the memory budget is held by pages that their clients have not given back; "
                       "retry later",
                       NotGivenBack()));
      break;
    }
    if (absl::Status status = request.check(); !status.ok()) {
      file = status;
      break;
    }
    if (options_.clock->Now() >= request.deadline) {
      file = absl::ResourceExhaustedError(
          absl::StrCat("the memory budget (", PrintByteSize(budget_bytes_),
                       ") stayed full for as long as the caller was willing to wait; retry later",
                       NotGivenBack()));
      break;
    }
    MutexLock lock(mutex_);
    if (!queued) waiters_.push_back(&waiter);
    queued = true;
    // A poll, since the kernel does not say when a client's last mapping goes.
    changed_.WaitUntil(mutex_, absl::Now() + kPoll);
  }
  leave();
  if (!file.ok() || !grant) return file;
  if (absl::Status status = GrantTo(request.session, *file); !status.ok()) {
    Release(*file);
    return status;
  }
  return file;
}

absl::StatusOr<std::shared_ptr<StagingFile>> MemoryTierImpl::Allocate(
    const std::shared_ptr<Session>& session, const std::string& run, uint64_t bytes,
    const std::shared_ptr<PartFolder>& folder) {
  const std::string path = folder != nullptr ? folder->data_path()
                                             : absl::StrCat(PoolFolder(options_.folder), "/",
                                                            FileId::Random().hex(), ".new");
  absl::StatusOr<std::shared_ptr<StagingFile>> file = StagingFile::Create(path, bytes, huge_pages_);
  MutexLock lock(mutex_);
  if (file.ok() && folder == nullptr) {
    const std::string name = absl::StrCat(PoolFolder(options_.folder), "/", (*file)->id().hex());
    if (rename(path.c_str(), name.c_str()) != 0) {
      file = absl::InternalError(absl::StrCat("cannot rename ", path));
    }
  }
  if (!file.ok()) {
    file_bytes_ -= bytes;
    changed_.NotifyAll();
    return file;
  }
  Slot& slot = AddSlot(*file, session, folder);
  // The session may have ended while the pages were made, and nobody will tell us again.
  slot.abandoned = session != nullptr && !watched_.contains(session->token());
  slot.use = folder != nullptr ? Use::kInUse : Use::kIdle;
  slot.run = run;
  return file;
}

absl::Status MemoryTierImpl::GrantTo(const std::shared_ptr<Session>& session,
                                     const std::shared_ptr<StagingFile>& file) {
  CKPT_ASSIGN_OR_RETURN(const Descriptor descriptor, file->Reopen(/*read_only=*/false));
  {
    MutexLock lock(mutex_);
    Slot* slot = Find(file->id());
    if (slot == nullptr) return absl::UnavailableError("the session has ended");
    slot->granted = true;
  }
  return session->Grant(file->id(), v1::FILE_ACCESS_STAGING, file->bytes(), descriptor.get());
}

absl::StatusOr<MemoryTier::Prepared> MemoryTierImpl::Prepare(
    const std::shared_ptr<Session>& session, uint64_t part_bytes, uint32_t files) {
  if (files == 0) files = 2;
  files = std::min(files, kPreparedFilesMax);
  WatchSession(session);
  Prepared prepared;
  if (part_bytes == 0) return prepared;
  const uint64_t bytes = Round(part_bytes);
  prepared.ring = bytes > budget_bytes_;
  const uint64_t wanted = prepared.ring ? RingBytes() : bytes;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, slot] : slots_) {
      if (slot->owner == session->token() && !slot->abandoned && slot->use != Use::kRevoking &&
          slot->file->bytes() >= wanted && prepared.files.size() < files) {
        prepared.files.push_back(id);
        prepared.file_bytes = wanted;
      }
    }
  }
  absl::Status short_of = absl::OkStatus();
  const absl::Time pages_deadline = absl::Now() + options_.revoke_timeout;
  while (prepared.files.size() < files && short_of.ok()) {
    std::vector<Revocation> revocations;
    bool fits = false;
    bool coming = false;
    {
      MutexLock lock(mutex_);
      CollectUnlinked();
      fits = waiters_.empty() && UsedBytes() + wanted <= budget_bytes_;
      if (fits) {
        file_bytes_ += wanted;
      } else {
        // What somebody else prepared is not taken from him to be prepared for another.
        coming = waiters_.empty() && Reclaim(wanted, kNobodysClass, session.get(), revocations);
      }
    }
    AskBack(std::move(revocations));
    if (fits) {
      absl::StatusOr<std::shared_ptr<StagingFile>> file = Allocate(session, "", wanted, nullptr);
      short_of = file.status();
      if (!file.ok()) break;
      short_of = GrantTo(session, *file);
      if (!short_of.ok()) {
        Release(*file);
        break;
      }
      prepared.files.push_back((*file)->id());
      if (prepared.file_bytes == 0) prepared.file_bytes = wanted;
    } else if (!coming || absl::Now() > pages_deadline || session->closed()) {
      short_of = absl::ResourceExhaustedError(
          absl::StrCat("the memory budget (", PrintByteSize(budget_bytes_), ") has no room for ",
                       PrintByteSize(wanted), " more", NotGivenBack()));
    } else {
      MutexLock lock(mutex_);
      changed_.WaitUntil(mutex_, absl::Now() + kPoll);
    }
  }
  if (prepared.files.empty()) return short_of;
  if (session->closed()) return absl::UnavailableError("the session has ended");
  return prepared;
}

}  // namespace ckpt
