// The memory tier's inside: one slot for each file, and the rules by which slots change hands.
// memory_tier.cc: life of slots and sessions; memory_acquire.cc: who gets which file;
// memory_budget.cc: what is given up for it.
#ifndef CKPT_SERVER_STAGING_MEMORY_TIER_IMPL_H_
#define CKPT_SERVER_STAGING_MEMORY_TIER_IMPL_H_

#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/mutex.h"
#include "server/staging/memory_tier.h"

namespace ckpt {

class MemoryTierImpl : public MemoryTier {
 public:
  MemoryTierImpl(MemoryTierOptions options, Descriptor folder_lock);
  ~MemoryTierImpl() override;
  absl::Status Scan();

  MemoryUsage usage() override;
  absl::flat_hash_set<FileId> RecordedPartManifests() const override;
  std::unique_ptr<MemoryPin> Pin(CheckpointUid uid, uint32_t rank) override;
  bool Has(CheckpointUid uid, uint32_t rank) const override;
  void Drop(CheckpointUid uid) override;
  absl::StatusOr<Prepared> Prepare(const std::shared_ptr<Session>& session, uint64_t part_bytes,
                                   uint32_t files) override;
  absl::StatusOr<std::shared_ptr<StagingFile>> Acquire(
      const Request& request, const std::shared_ptr<PartFolder>& folder) override;
  void Release(std::shared_ptr<StagingFile> file) override;
  void ReleaseId(FileId file) override;
  void TakeBack(std::shared_ptr<StagingFile> file) override;
  void SetDurable(std::shared_ptr<StagingFile> file) override;
  bool SetCopy(FileId file, const std::string& run, CheckpointUid uid, uint32_t rank) override;
  void SetNewest(const std::string& run, CheckpointUid uid) override;
  absl::StatusOr<std::shared_ptr<PartFolder>> NewFolder() override;
  std::vector<FoundPart> TakeFoundParts() override;
  absl::StatusOr<std::shared_ptr<StagingFile>> AdoptData(
      const std::shared_ptr<PartFolder>& folder) override;
  bool Collect() override;
  void WakeWaiters() override;

  void Unpin(FileId file) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  enum class Use { kIdle, kInUse, kDurable, kCopy, kRevoking };
  struct Slot {
    std::shared_ptr<StagingFile> file;
    Use use = Use::kInUse;
    std::shared_ptr<PartFolder> folder;  // where `data` lies; null: in the pool
    SessionToken owner;                  // none: no session may have it mapped
    std::weak_ptr<Session> session;
    bool granted = false;    // the owner has its descriptor
    bool abandoned = false;  // its session has ended, or an earlier daemon's had it: not recycled
    uint64_t sequence = 0;   // greater: used later
    int pins = 0;
    absl::Time revoked_at;  // kRevoking: since when
    bool drop_at_unpin = false;
    Descriptor read_only;  // for pins; made at the first
    std::string run;  // whose bytes it holds, or has held; empty: never used
    // Of a copy.
    CheckpointUid uid;
    uint32_t rank = 0;
  };
  struct Waiter {};
  struct Revocation {
    std::shared_ptr<Session> session;
    FileId file;
  };
  // What one look at the tier led to.
  struct Step {
    std::shared_ptr<StagingFile> file;  // set: done, but for the grant
    bool grant = false;
    uint64_t allocate_bytes = 0;  // > 0: counted already; make it
    std::vector<Revocation> revocations;
    absl::Status refused;
    bool waiting_for_pages = false;  // somebody is giving pages up
  };
  // So that callbacks of sessions may outlive the tier.
  struct Lifeline {
    Mutex mutex;
    MemoryTierImpl* tier ABSL_GUARDED_BY(mutex) = nullptr;
  };

  // memory_tier.cc
  std::string DataPath(const Slot& slot) const;
  Slot* Find(FileId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Slot& AddSlot(std::shared_ptr<StagingFile> file, const std::shared_ptr<Session>& session,
                std::shared_ptr<PartFolder> folder) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetCopy(Slot& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ToPool(Slot& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsNewest(const Slot& slot) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WatchSession(const std::shared_ptr<Session>& session) ABSL_LOCKS_EXCLUDED(mutex_);
  void SessionEnded(SessionToken token) ABSL_LOCKS_EXCLUDED(mutex_);

  // memory_acquire.cc
  Step TryAcquire(const Request& request, const std::shared_ptr<PartFolder>& folder, Waiter* waiter)
      ABSL_LOCKS_EXCLUDED(mutex_);
  Slot* FindRecyclable(const Request& request, uint64_t bytes_min, uint64_t bytes_max,
                       bool newest_too) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Slot* FindRing(const Request& request, uint64_t bytes_max)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Recycle(Slot& slot, const std::string& run,
                       const std::shared_ptr<PartFolder>& folder)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `run` and `folder` empty and null: for the pool.
  absl::StatusOr<std::shared_ptr<StagingFile>> Allocate(const std::shared_ptr<Session>& session,
                                                        const std::string& run, uint64_t bytes,
                                                        const std::shared_ptr<PartFolder>& folder)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status GrantTo(const std::shared_ptr<Session>& session,
                       const std::shared_ptr<StagingFile>& file) ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t Round(uint64_t bytes) const;
  uint64_t RingBytes() const;

  // memory_budget.cc
  int VictimClass(const Slot& slot) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sees to it that `bytes` more will fit, by giving up files up to that class. True: they fit, or
  // will when what is on its way has come. False: nothing was given up.
  bool Reclaim(uint64_t bytes, int class_max, const Session* own,
               std::vector<Revocation>& revocations) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Its name goes at once, its pages when the owner has answered: asked by AskBack, or right away
  // where nobody has it.
  void GiveUp(Slot& slot, std::vector<Revocation>& revocations)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AskBack(std::vector<Revocation> revocations) ABSL_LOCKS_EXCLUDED(mutex_);
  // "; process 12 was asked to give back 3.0 MiB and has not": for errors. Empty: nobody was.
  std::string NotGivenBack() const ABSL_LOCKS_EXCLUDED(mutex_);
  void Unlink(Slot& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // the slot is gone afterwards
  void CollectUnlinked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of plan, layout and marks beside the slots' files.
  uint64_t RecordBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static uint64_t PagesOf(const Slot& slot);
  // What the budget is compared with: all files, and of the records what goes beyond a share of it.
  uint64_t UsedBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const MemoryTierOptions options_;
  const uint64_t budget_bytes_;
  const HugePages huge_pages_;
  const Descriptor folder_lock_;
  const std::shared_ptr<Lifeline> lifeline_ = std::make_shared<Lifeline>();

  mutable Mutex mutex_;
  CondVar changed_;
  uint64_t file_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // slots, unlinked ones, being allocated
  uint64_t damaged_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<FileId, std::unique_ptr<Slot>> slots_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::pair<CheckpointUid, uint32_t>, FileId> copies_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, CheckpointUid> newest_ ABSL_GUARDED_BY(mutex_);  // by run
  std::vector<std::shared_ptr<StagingFile>> unlinked_ ABSL_GUARDED_BY(mutex_);
  std::list<Waiter*> waiters_ ABSL_GUARDED_BY(mutex_);  // first come first
  absl::flat_hash_map<SessionToken, std::pair<std::weak_ptr<Session>, uint64_t>> watched_
      ABSL_GUARDED_BY(mutex_);
  std::vector<FoundPart> found_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_MEMORY_TIER_IMPL_H_
