#include "server/persist/persister.h"

#include <deque>
#include <list>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "server/persist/commit.h"
#include "server/persist/compare_parts.h"
#include "server/persist/persist_part.h"
#include "server/persist/prepared_commits.h"
#include "server/persist/reservation.h"
#include "server/persist/write_buffers.h"
#include "server/persist/writer_pool.h"

namespace ckpt {
namespace {

constexpr absl::Duration kIndexPoll = absl::Milliseconds(500);

size_t BuffersPerPart(const PersistOptions& options) {
  return 2 * static_cast<size_t>(options.writer_threads) + 1;
}

}  // namespace

class Persister::Impl {
 public:
  Impl(DataFolder* folder, Index* index, PersistOptions options)
      : folder_(folder),
        index_(index),
        options_(options),
        reservation_(folder, options.ballast),
        buffers_(options.write_bytes, options.buffer_bytes_max, BuffersPerPart(options)),
        pool_(options.writer_threads, &buffers_),
        prepared_(folder, index) {}

  ~Impl() {
    std::list<Reader> readers;
    {
      MutexLock lock(mutex_);
      ending_ = true;
      changed_.NotifyAll();
      while (at_work_ > 0 || !queue_.empty()) changed_.Wait(mutex_);
      readers.swap(readers_);
    }
    for (Reader& reader : readers) reader.thread.join();
  }

  Reservation& reservation() { return reservation_; }

  void Persist(PartToPersist part, Done done) {
    const uint64_t part_bytes = part.layout->part_bytes();
    Job job{std::move(part), std::move(done)};
    {
      MutexLock lock(mutex_);
      if (!job.part.streaming && queued_kind_at_work_ >= options_.parts_at_once) {
        queue_.push_back(std::move(job));
        return;
      }
      if (StartReader(job)) return;
    }
    reservation_.Release(part_bytes);
    std::move(job.done)(absl::ResourceExhaustedError(
        "no thread can be started for it: the process is at its limit of threads (pids)"));
  }

  absl::StatusOr<CheckpointRecord> Commit(const CheckpointId& id, CheckpointUid uid,
                                          uint32_t world_size, const std::vector<uint32_t>& share,
                                          const std::vector<DurablePart>& parts) {
    MutexLock lock(commit_mutex_);
    CKPT_ASSIGN_OR_RETURN(std::optional<v1::CheckpointManifest> prepared, prepared_.Take(uid));
    return CommitCheckpoint(folder_, index_, id, uid, world_size, share, parts,
                            std::move(prepared));
  }

  void Compare(const CheckpointRecord& record) { CompareWithPrevious(index_, record); }

  absl::Status IndexAgain(CheckpointUid uid) {
    MutexLock lock(commit_mutex_);
    CKPT_RETURN_IF_ERROR(IndexCommitted(folder_, index_, uid));
    CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record, index_->GetCheckpoint(uid));
    return DeleteReplaced(folder_, index_, record.manifest).status();
  }
  absl::Status Delete(CheckpointUid uid) {
    absl::Status deleted = DeleteCheckpoint(folder_, index_, uid);
    if (deleted.ok() && options_.ballast != nullptr) {
      options_.ballast->EndRest();
      reservation_.LookAtBallast();
    }
    return deleted;
  }
  bool AwaitRoom() {
    if (options_.ballast == nullptr || !options_.ballast->resting()) return false;
    const absl::Time until = absl::Now() + kIndexPoll;
    MutexLock lock(mutex_);
    while (!stopped_ && absl::Now() < until) changed_.WaitUntil(mutex_, until);
    return !stopped_;
  }
  void StopWaiting() {
    MutexLock lock(mutex_);
    stopped_ = true;
    changed_.NotifyAll();
  }
  absl::Status PutLabels(CheckpointUid uid, const v1::Labels& labels) {
    MutexLock lock(commit_mutex_);
    CKPT_RETURN_IF_ERROR(index_->GetCheckpoint(uid).status());
    CKPT_RETURN_IF_ERROR(folder_->WriteLabels(uid, labels));
    return index_->PutLabels(uid, labels);
  }
  void Discard(CheckpointUid uid, const std::vector<DurablePart>& parts) {
    prepared_.Forget(uid);
    DiscardParts(folder_, parts);
  }

  uint32_t parts_at_work() {
    MutexLock lock(mutex_);
    return static_cast<uint32_t>(at_work_ + queue_.size());
  }

 private:
  struct Job {
    PartToPersist part;
    Done done;
  };
  struct Reader {
    std::thread thread;
    bool ended = false;
  };

  // False, and the job untouched, where the system gives no thread.
  bool StartReader(Job& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (auto it = readers_.begin(); it != readers_.end();) {  // ended ones: joins at once
      if (it->ended) it->thread.join();
      it = it->ended ? readers_.erase(it) : std::next(it);
    }
    auto mine = std::make_shared<Job>();
    Reader& reader = readers_.emplace_back();
    const bool streaming = job.part.streaming;
    try {
      // It waits for the lock that is held here before it looks at its job.
      reader.thread = std::thread([this, &reader, mine] {
        { MutexLock lock(mutex_); }
        Work(std::move(*mine), reader);
      });
    } catch (const std::system_error&) {
      readers_.pop_back();
      return false;
    }
    *mine = std::move(job);
    ++at_work_;
    if (!streaming) ++queued_kind_at_work_;
    return true;
  }

  // The job, then whatever is queued. A streaming part's thread takes nothing from the queue.
  void Work(Job job, Reader& reader) {
    const PersistTools tools{
        .folder = folder_, .buffers = &buffers_, .pool = &pool_, .reservation = &reservation_,
        .prepared = &prepared_, .hash_blocks = options_.hash_blocks};
    for (;;) {
      const bool streaming = job.part.streaming;
      if (!streaming) Delay();
      absl::StatusOr<DurablePart> durable = PersistPart(tools, job.part);
      reservation_.PartEnded();
      std::move(job.done)(std::move(durable));
      job = Job();  // the source goes before the next part comes
      MutexLock lock(mutex_);
      if (streaming || queue_.empty()) {
        if (!streaming) --queued_kind_at_work_;
        --at_work_;
        reader.ended = true;
        changed_.NotifyAll();
        return;
      }
      job = std::move(queue_.front());
      queue_.pop_front();
    }
  }

  void Delay() {
    if (options_.delay <= absl::ZeroDuration()) return;
    const absl::Time until = absl::Now() + options_.delay;
    MutexLock lock(mutex_);
    while (!ending_ && absl::Now() < until) changed_.WaitUntil(mutex_, until);
  }

  DataFolder* const folder_;
  Index* const index_;
  const PersistOptions options_;
  Reservation reservation_;
  WriteBuffers buffers_;
  WriterPool pool_;
  PreparedCommits prepared_;
  Mutex commit_mutex_;  // one commit, or change of labels, at a time
  Mutex mutex_;
  CondVar changed_;
  std::deque<Job> queue_ ABSL_GUARDED_BY(mutex_);
  std::list<Reader> readers_ ABSL_GUARDED_BY(mutex_);
  size_t at_work_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;         // nobody waits for room any more
  int queued_kind_at_work_ ABSL_GUARDED_BY(mutex_) = 0;  // at work, not streaming
};

Persister::Persister(DataFolder* folder, Index* index, PersistOptions options)
    : impl_(std::make_unique<Impl>(folder, index, options)) {}
Persister::~Persister() = default;

absl::Status Persister::Reserve(uint64_t part_bytes) {
  return impl_->reservation().Reserve(part_bytes);
}
void Persister::ReleaseReservation(uint64_t part_bytes) {
  impl_->reservation().Release(part_bytes);
}
void Persister::Persist(PartToPersist part, Done done) {
  impl_->Persist(std::move(part), std::move(done));
}
absl::StatusOr<CheckpointRecord> Persister::Commit(const CheckpointId& id, CheckpointUid uid,
                                                   uint32_t world_size,
                                                   const std::vector<uint32_t>& share,
                                                   const std::vector<DurablePart>& parts) {
  return impl_->Commit(id, uid, world_size, share, parts);
}
absl::Status Persister::IndexAgain(CheckpointUid uid) { return impl_->IndexAgain(uid); }
void Persister::Compare(const CheckpointRecord& record) { impl_->Compare(record); }
void Persister::Discard(CheckpointUid uid, const std::vector<DurablePart>& parts) {
  impl_->Discard(uid, parts);
}
void Persister::LookAtBallast() { impl_->reservation().LookAtBallast(); }
bool Persister::AwaitRoom() { return impl_->AwaitRoom(); }
void Persister::StopWaiting() { impl_->StopWaiting(); }
absl::Status Persister::Delete(CheckpointUid uid) { return impl_->Delete(uid); }
absl::Status Persister::PutLabels(CheckpointUid uid, const v1::Labels& labels) {
  return impl_->PutLabels(uid, labels);
}
uint32_t Persister::parts_at_work() const { return impl_->parts_at_work(); }

}  // namespace ckpt
