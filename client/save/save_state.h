// What a SaveHandle and the thread that saves share: how far it is, and how it ended.
#ifndef CKPT_CLIENT_SAVE_SAVE_STATE_H_
#define CKPT_CLIENT_SAVE_SAVE_STATE_H_

#include <atomic>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/save/save.h"
#include "client/transport/connection.h"
#include "common/mutex.h"

namespace ckpt {

// A daemon that was restarted adopts what was staged: asking goes on for this long.
constexpr absl::Duration kRestartGrace = absl::Seconds(30);

// Thread-safe.
class SaveHandle::Impl {
 public:
  Impl(CheckpointId id, std::shared_ptr<Connection> connection, uint64_t bytes_total,
       absl::Time called_at, absl::Duration restart_grace = kRestartGrace);

  // From the save's thread.
  void SetCopied(uint64_t bytes) { bytes_copied_.store(bytes, std::memory_order_relaxed); }
  void AddCopied(uint64_t bytes) { bytes_copied_.fetch_add(bytes, std::memory_order_relaxed); }
  void SetStaged();
  void Fail(const absl::Status& why);

  // From the handle's. All FAILED_PRECONDITION in a forked child.
  const CheckpointId& id() const { return id_; }
  absl::Status AwaitStaged(absl::Time deadline);
  absl::Status AwaitCommitted(absl::Time deadline);
  SaveProgress Progress() const;
  absl::Status status() const;
  absl::Duration stall() const;

 private:
  const CheckpointId id_;
  const std::shared_ptr<Connection> connection_;
  const uint64_t bytes_total_;
  const absl::Time called_at_;
  const absl::Duration restart_grace_;
  std::atomic<uint64_t> bytes_copied_{0};

  mutable Mutex mutex_;
  CondVar changed_;
  v1::CheckpointState state_ ABSL_GUARDED_BY(mutex_) = v1::CHECKPOINT_STATE_WRITING;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  absl::Duration stall_ ABSL_GUARDED_BY(mutex_);
  // Over all calls of AwaitCommitted, so that short ones find out too.
  absl::Time unreachable_since_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_SAVE_SAVE_STATE_H_
