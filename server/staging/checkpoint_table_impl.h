// The table's inside. One lock for all of it; what is slow (index, disk, sessions, memory,
// callbacks into streams) is done without it: as `Deferred` calls once the lock is gone, or in the
// background thread, in order.
//
//   table_begin.cc   who may join (Begin, incarnations, steps that exist)
//   table_part.cc    one stream's calls, from layout to Finish
//   table_open.cc    disk space, folder and memory for a part
//   table_quota.cc   what the runs of a quota's section have, and what they are refused
//   table_settle.cc  parts durable, commit, abort
//   table_watch.cc   what others see: Live, Wait, subscriptions, draining
//   table_adopt.cc   what an earlier daemon left
//   table_timer.cc   deadlines
#ifndef CKPT_SERVER_STAGING_CHECKPOINT_TABLE_IMPL_H_
#define CKPT_SERVER_STAGING_CHECKPOINT_TABLE_IMPL_H_

#include <deque>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "common/mutex.h"
#include "server/staging/checkpoint_table.h"
#include "server/staging/live_checkpoint.h"

namespace ckpt {

class CheckpointTableImpl;

// So that callbacks of sessions may outlive the table.
struct TableLifeline {
  Mutex mutex;
  CheckpointTableImpl* table ABSL_GUARDED_BY(mutex) = nullptr;
};

// The same for the persister's callbacks, which may run for a while and several at once: what is
// running is waited for, what comes later finds nobody.
struct PersistGuard {
  Mutex mutex;
  CondVar idle;
  bool alive ABSL_GUARDED_BY(mutex) = true;
  int running ABSL_GUARDED_BY(mutex) = 0;
};

// Calls to be made once the lock is gone: declare it before the MutexLock.
class Deferred {
 public:
  ~Deferred() {
    for (auto& call : calls_) call();
  }
  void Add(absl::AnyInvocable<void()> call) { calls_.push_back(std::move(call)); }

 private:
  std::vector<absl::AnyInvocable<void()>> calls_;
};

// Where saves are begun and broken off faster than they are cleaned up no new checkpoint is begun,
// so that neither memory nor the time that a stop takes grows with it.
inline constexpr size_t kLeftToAbortMax = 500;
inline constexpr size_t kReasonsAtStopMax = 100;
// Aborted ones that are known here, once the index has been told of them; and their ranks.
inline constexpr size_t kAbortedMax = 1000;
inline constexpr size_t kAbortedRanksMax = 4'000'000;

// How often who waits for a part looks whether its client is still there.
inline constexpr absl::Duration kPartPoll = absl::Milliseconds(20);

class CheckpointTableImpl : public CheckpointTable {
 public:
  using CheckpointPtr = std::shared_ptr<LiveCheckpoint>;
  using PartPtr = std::shared_ptr<LivePart>;

  explicit CheckpointTableImpl(CheckpointTableOptions options);
  ~CheckpointTableImpl() override;
  void StartThreads();

  // --- CheckpointView
  std::vector<v1::CheckpointInfo> Live(const std::string& run) override;
  absl::StatusOr<v1::CheckpointInfo> Wait(const CheckpointId& id, v1::CheckpointState state,
                                          absl::Time deadline,
                                          absl::FunctionRef<bool()> cancelled) override;
  absl::Time DurableAt(const CheckpointId& id, CheckpointUid uid) override;
  RunActivity ActivityOf(const std::string& run) override;
  std::vector<QuotaUse> QuotasInUse() override;
  absl::Status WaitSettled(const std::string& run, absl::Time deadline,
                           absl::FunctionRef<bool()> cancelled) override;
  uint64_t Subscribe(
      absl::AnyInvocable<void(const v1::CheckpointInfo&, bool deleted)> changed) override;
  void Unsubscribe(uint64_t number) override;
  void Announce(const v1::CheckpointInfo& info, bool deleted) override;

  // --- CheckpointTable
  Adopted Adopt() override;
  absl::StatusOr<std::unique_ptr<PartStream>> Begin(PartClaim claim,
                                                    absl::AnyInvocable<void()> changed) override;
  absl::Duration join_deadline_default() const override { return options_.join_deadline; }
  void StopAdmitting() override;
  void Admit() override;
  bool draining() const override;
  uint32_t open_saves() const override;
  uint32_t parts_not_durable() const override;
  uint32_t WaitDrained(absl::Time deadline, absl::FunctionRef<bool()> cancelled) override;
  void Shutdown() override;
  void Tick() override;

  // --- one stream's calls (table_part.cc, table_open.cc); `stream`: the number Begin gave it
  absl::Status StreamStatus(const CheckpointPtr& checkpoint, const PartPtr& part, uint64_t stream);
  absl::Status SetLayout(const CheckpointPtr& checkpoint, const PartPtr& part, uint64_t stream,
                         std::string serialized);
  absl::StatusOr<v1::Accepted> Open(const CheckpointPtr& checkpoint, const PartPtr& part,
                                    uint64_t stream, absl::FunctionRef<bool()> cancelled);
  // For the reason of its abort, should its rank not try again.
  void NoteRefusal(const PartPtr& part, uint64_t stream, const absl::Status& opened)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<uint64_t> SetValues(const CheckpointPtr& checkpoint, const PartPtr& part,
                                     uint64_t stream, absl::string_view serialized);
  absl::Status SetSourceHashes(const CheckpointPtr& checkpoint, const PartPtr& part,
                               uint64_t stream, std::vector<uint64_t> hashes);
  absl::Status Progress(const CheckpointPtr& checkpoint, const PartPtr& part, uint64_t stream,
                        uint64_t written);
  absl::Status Write(const CheckpointPtr& checkpoint, const PartPtr& part, uint64_t stream,
                     uint64_t offset, const ReceivedBytes& bytes);
  absl::StatusOr<v1::Staged> Finish(const CheckpointPtr& checkpoint, const PartPtr& part,
                                    uint64_t stream, uint64_t part_bytes,
                                    absl::FunctionRef<bool()> cancelled);
  void GiveUp(const CheckpointPtr& checkpoint, const PartPtr& part, uint64_t stream,
              absl::Status why);
  void Detach(const CheckpointPtr& checkpoint, const PartPtr& part, uint64_t stream);
  std::shared_ptr<PartBuffer> BufferOf(const PartPtr& part);
  bool NeedsLayout(const PartPtr& part);
  void SessionEnded(const CheckpointPtr& checkpoint, const PartPtr& part);

 private:
  using Subscriber = absl::AnyInvocable<void(const v1::CheckpointInfo&, bool)>;

  // What the index says about a Begin, read before the lock is taken.
  struct Known {
    std::optional<Incarnation> newest;
    absl::Status exists;  // ALREADY_EXISTS, or OK
    std::shared_ptr<const PartLayout> layout;
    std::optional<v1::CheckpointInfo> aborted;
    absl::Status quota;  // of one more checkpoint
  };

  // table_begin.cc
  Known AskIndex(const PartClaim& claim);
  absl::Status CheckExists(const PartClaim& claim);
  absl::Status CheckIncarnation(const PartClaim& claim) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Null: there is no such part here yet.
  absl::StatusOr<PartPtr> FindResumable(const CheckpointPtr& checkpoint, const PartClaim& claim,
                                        Deferred& deferred) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The checkpoint that the claim joins: there, or made.
  absl::StatusOr<CheckpointPtr> FindOrMake(const PartClaim& claim, const Known& known,
                                           Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  CheckpointPtr MakeAborted(const PartClaim& claim, const v1::CheckpointInfo& info)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteLaunch(const PartClaim& claim) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SupersedeOlder(const PartClaim& claim, Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t Attach(const PartPtr& part, std::shared_ptr<absl::AnyInvocable<void()>> changed,
                  Deferred& deferred) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // table_part.cc
  absl::Status CheckHeld(const LiveCheckpoint& checkpoint, const LivePart& part,
                         uint64_t stream) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status LayoutKnown(const CheckpointPtr& checkpoint, const PartPtr& part,
                           std::shared_ptr<const PartLayout> layout) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status CheckComplete(const LiveCheckpoint& checkpoint, const LivePart& part,
                             uint64_t part_bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  staging::StagedPlan MakePlan(const LiveCheckpoint& checkpoint, const LivePart& part) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The memory folder took no plan or mark: the checkpoint is aborted, and `why` returned.
  absl::Status NotStaged(const CheckpointPtr& checkpoint, const PartPtr& part, absl::Status why,
                         Deferred& deferred) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status AwaitStaged(const CheckpointPtr& checkpoint, const PartPtr& part, uint64_t stream,
                           absl::FunctionRef<bool()> cancelled) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status StartRing(const CheckpointPtr& checkpoint, const PartPtr& part, Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckValues(const LiveCheckpoint& checkpoint, const LivePart& part) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // table_open.cc
  absl::Status OpenMemory(const CheckpointPtr& checkpoint, const PartPtr& part, uint64_t stream,
                          absl::FunctionRef<bool()> cancelled) ABSL_LOCKS_EXCLUDED(mutex_);
  // Disk space for the part. Where there is none, retention may make some: at once, or when what
  // others save has committed, which is waited for as the claim says. Then the checkpoint is
  // aborted.
  absl::Status Reserve(const CheckpointPtr& checkpoint, const PartPtr& part, uint64_t stream,
                       absl::FunctionRef<bool()> cancelled) ABSL_LOCKS_EXCLUDED(mutex_);
  bool AnotherIsStaged(const CheckpointPtr& checkpoint) ABSL_LOCKS_EXCLUDED(mutex_);
  v1::Accepted MakeAccepted(const LivePart& part) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // table_quota.cc
  // What the section's runs have. `newcomer`: as if the checkpoints that it supersedes were gone.
  // What the index cannot read is left out, and logged.
  QuotaAmounts CountQuota(size_t section, const PartClaim* newcomer)
      ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t CountQuotaMemory(size_t section) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Its step is committed, and will be deleted by the commit of a later attempt.
  bool Replaces(const CheckpointId& id) ABSL_LOCKS_EXCLUDED(mutex_);
  // Of a Begin that would make a checkpoint; what is admitted is made before admission_mutex_ is
  // let go.
  absl::Status AdmitByQuota(const PartClaim& claim) ABSL_EXCLUSIVE_LOCKS_REQUIRED(admission_mutex_)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Before a Begin: where the quota is used up, retention may have something to delete.
  void MakeRoomInQuota(const PartClaim& claim) ABSL_LOCKS_EXCLUDED(admission_mutex_, mutex_);
  // Of a part whose bytes are known.
  absl::Status AdmitPartByQuota(const CheckpointPtr& checkpoint, const PartPtr& part)
      ABSL_LOCKS_EXCLUDED(admission_mutex_, mutex_);
  // The part's share of the section's memory, promised to it until it has its file; waits as the
  // claim says. What it returns is a ring's size; 0: no ring is asked for.
  absl::StatusOr<uint64_t> PromiseMemory(const CheckpointPtr& checkpoint, const PartPtr& part,
                                         uint64_t stream, absl::FunctionRef<bool()> cancelled)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // table_settle.cc
  // Looks at the agreement of the parts once all layouts are known. Blocking; without the lock.
  absl::Status Agree(const CheckpointPtr& checkpoint) ABSL_LOCKS_EXCLUDED(mutex_);
  void Persist(const CheckpointPtr& checkpoint, const PartPtr& part, Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Persisted(const CheckpointPtr& checkpoint, const PartPtr& part,
                 absl::StatusOr<DurablePart> result) ABSL_LOCKS_EXCLUDED(mutex_);
  // As Advance.
  bool Settle(const CheckpointPtr& checkpoint, const PartPtr& part,
              absl::StatusOr<DurablePart> result, Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RecordDurable(const CheckpointPtr& checkpoint, const PartPtr& part,
                             DurablePart durable) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of a durable part: what went to disk is what its trainer had, as far as that one has said so.
  static absl::Status CheckSource(const LivePart& part);
  absl::Status StageRing(const CheckpointPtr& checkpoint, const PartPtr& part)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PartStaged(const CheckpointPtr& checkpoint, const PartPtr& part, Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // WRITING -> STAGED, as far as the parts allow. True: it is the caller's to have it committed,
  // without the lock.
  [[nodiscard]] bool Advance(const CheckpointPtr& checkpoint, Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Commit(const CheckpointPtr& checkpoint) ABSL_LOCKS_EXCLUDED(mutex_);
  void PersistAdopted(const CheckpointPtr& checkpoint, Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CommitInBackground(const CheckpointPtr& checkpoint);
  // What is committed and not in the index, whose disk was full or failed.
  void IndexAgain() ABSL_LOCKS_EXCLUDED(mutex_);
  void Committed(const CheckpointPtr& checkpoint, const CheckpointRecord& record)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Abort(const CheckpointPtr& checkpoint, const std::string& reason, Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gives memory and disk space of an aborted part back, as soon as nobody uses them any more.
  void LetGo(LiveCheckpoint& checkpoint, LivePart& part, Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetSession(LivePart& part, Deferred& deferred) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Changed(const CheckpointPtr& checkpoint, Deferred& deferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Aborted ones are known here for a while, the newest of them, and longer in the index.
  void KeepAborted(const CheckpointPtr& checkpoint) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropAborted(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void InBackground(absl::AnyInvocable<void()> work) ABSL_LOCKS_EXCLUDED(background_mutex_);
  void Afterwards(absl::AnyInvocable<void()> work) ABSL_LOCKS_EXCLUDED(background_mutex_);
  size_t left_to_abort() ABSL_LOCKS_EXCLUDED(background_mutex_);
  void RunBackground();

  // table_watch.cc
  CheckpointPtr FindLive(const CheckpointId& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whom a Wait is for. Null: ask the index.
  CheckpointPtr FindAwaited(const CheckpointId& id) ABSL_LOCKS_EXCLUDED(mutex_);
  // It was deleted: its triple may be saved anew.
  void ForgetCommitted(const std::string& uid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<v1::CheckpointInfo> FromIndex(const CheckpointId& id) ABSL_LOCKS_EXCLUDED(mutex_);
  void Emit();
  uint32_t CountNotDurable() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // table_adopt.cc
  bool AdoptCopy(const FoundPart& found, CheckpointUid uid);
  // Null: the part's checkpoint is settled already.
  CheckpointPtr AdoptPart(const FoundPart& found, CheckpointUid uid, CheckpointPtr checkpoint);
  absl::Status AdoptBytes(const FoundPart& found, LivePart& part);
  void AdoptCheckpoint(const CheckpointPtr& checkpoint) ABSL_LOCKS_EXCLUDED(mutex_);
  // Adopted parts for which the disk had no room.
  void RetryAdopted() ABSL_LOCKS_EXCLUDED(mutex_);

  // table_timer.cc
  void RunTimer();
  // Lets go of what is known of runs that nobody can ask for any more: without it every name that
  // was ever saved to would stay.
  void ForgetRuns() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::flat_hash_set<std::string> RunsHere() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const CheckpointTableOptions options_;
  MemoryTier& tier_;
  Persister& persister_;
  Index& index_;
  const std::shared_ptr<TableLifeline> lifeline_ = std::make_shared<TableLifeline>();
  const std::shared_ptr<PersistGuard> persist_guard_ = std::make_shared<PersistGuard>();

  // Held from the counting of a quota to what is admitted by it: two that fit one at a time are not
  // both let in. Before mutex_.
  Mutex admission_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  mutable Mutex mutex_;
  CondVar changed_;
  CondVar timer_changed_;  // stopped_, or a checkpoint that makes it busy
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool adopting_ ABSL_GUARDED_BY(mutex_) = false;  // the timer keeps off
  uint32_t open_streams_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t next_stream_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<CheckpointId, CheckpointPtr> checkpoints_ ABSL_GUARDED_BY(mutex_);
  // By run, of those that have checkpoints here; the others' newest is in the index.
  absl::flat_hash_map<std::string, Incarnation> newest_ ABSL_GUARDED_BY(mutex_);
  struct Launch {
    Incarnation incarnation;
    std::optional<uint64_t> resumed_step;
  };
  // The last, by run, of those that have checkpoints here or in the index.
  absl::flat_hash_map<std::string, Launch> launches_ ABSL_GUARDED_BY(mutex_);
  size_t forget_runs_above_ ABSL_GUARDED_BY(mutex_);  // in either; more are looked through
  bool forgetting_runs_ ABSL_GUARDED_BY(mutex_) = false;
  // The last folder that has each layout, to link the next one's from; and layouts that were agreed
  // on: the digests of all ranks.
  absl::flat_hash_map<std::string, std::weak_ptr<PartFolder>> layout_folders_
      ABSL_GUARDED_BY(mutex_);
  std::list<std::string> agreed_ ABSL_GUARDED_BY(mutex_);
  absl::Time aborted_swept_at_ ABSL_GUARDED_BY(mutex_);
  // In the order in which they ended; each is also in checkpoints_, or another attempt at its id
  // is.
  std::deque<CheckpointPtr> aborted_ ABSL_GUARDED_BY(mutex_);
  size_t aborted_ranks_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<CheckpointUid> unindexed_ ABSL_GUARDED_BY(mutex_);
  absl::Time indexed_again_at_ ABSL_GUARDED_BY(mutex_);

  // Subscribers are called without the lock, one event after the other, in order.
  Mutex events_mutex_;
  CondVar events_idle_;
  std::deque<std::pair<v1::CheckpointInfo, bool>> events_ ABSL_GUARDED_BY(events_mutex_);
  bool emitting_ ABSL_GUARDED_BY(events_mutex_) = false;
  std::thread::id emitter_ ABSL_GUARDED_BY(events_mutex_);
  uint64_t next_subscriber_ ABSL_GUARDED_BY(events_mutex_) = 1;
  std::map<uint64_t, std::shared_ptr<Subscriber>> subscribers_ ABSL_GUARDED_BY(events_mutex_);

  Mutex background_mutex_;
  CondVar background_changed_;
  bool background_stop_ ABSL_GUARDED_BY(background_mutex_) = false;
  std::deque<absl::AnyInvocable<void()>> background_ ABSL_GUARDED_BY(background_mutex_);
  // What is left to do of those that were aborted; comes after everything else, so that a client
  // who breaks off many saves keeps nobody's commit waiting.
  std::deque<absl::AnyInvocable<void()>> afterwards_ ABSL_GUARDED_BY(background_mutex_);
  std::thread background_thread_;
  std::thread timer_thread_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_CHECKPOINT_TABLE_IMPL_H_
