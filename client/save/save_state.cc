#include "client/save/save_state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr absl::Duration kPollPause = absl::Milliseconds(100);

}  // namespace

SaveHandle::Impl::Impl(CheckpointId id, std::shared_ptr<Connection> connection,
                       uint64_t bytes_total, absl::Time called_at, absl::Duration restart_grace)
    : id_(std::move(id)),
      connection_(std::move(connection)),
      bytes_total_(bytes_total),
      called_at_(called_at),
      restart_grace_(restart_grace) {}

void SaveHandle::Impl::SetStaged() {
  MutexLock lock(mutex_);
  stall_ = absl::Now() - called_at_;
  state_ = v1::CHECKPOINT_STATE_STAGED;
  changed_.NotifyAll();
}

void SaveHandle::Impl::Fail(const absl::Status& why) {
  MutexLock lock(mutex_);
  if (state_ != v1::CHECKPOINT_STATE_WRITING) return;
  state_ = v1::CHECKPOINT_STATE_ABORTED;
  status_ = why;
  changed_.NotifyAll();
}

absl::Status SaveHandle::Impl::AwaitStaged(absl::Time deadline) {
  CKPT_RETURN_IF_ERROR(connection_->fork_mark().Check());
  MutexLock lock(mutex_);
  while (state_ == v1::CHECKPOINT_STATE_WRITING) {
    if (!changed_.WaitUntil(mutex_, deadline) && state_ == v1::CHECKPOINT_STATE_WRITING) {
      return absl::DeadlineExceededError(absl::StrCat("not yet staged: ", id_.ToString(), ", ",
                                                      bytes_copied_.load(), " of ", bytes_total_,
                                                      " bytes copied"));
    }
  }
  return status_;
}

absl::Status SaveHandle::Impl::AwaitCommitted(absl::Time deadline) {
  CKPT_RETURN_IF_ERROR(AwaitStaged(deadline));
  v1::WaitCheckpointRequest request;
  *request.mutable_id() = id_.ToProto();
  request.set_state(v1::CHECKPOINT_STATE_COMMITTED);
  for (;;) {
    const bool in_time = absl::Now() < deadline;
    const absl::StatusOr<v1::WaitCheckpointResponse> answer =
        connection_->WaitCheckpoint(request, deadline);
    MutexLock lock(mutex_);
    if (answer.ok()) {
      unreachable_since_ = absl::InfiniteFuture();
      state_ = std::max(answer->checkpoint().state(), v1::CHECKPOINT_STATE_COMMITTED);
      return absl::OkStatus();
    }
    const absl::Status& status = answer.status();
    if (absl::IsAborted(status)) {
      state_ = v1::CHECKPOINT_STATE_ABORTED;
      status_ = status;
    }
    if (!absl::IsUnavailable(status)) {
      // A call whose deadline had passed before was never made.
      if (in_time || !absl::IsDeadlineExceeded(status)) unreachable_since_ = absl::InfiniteFuture();
      return status;
    }
    const absl::Time now = absl::Now();
    unreachable_since_ = std::min(unreachable_since_, now);
    if (now - unreachable_since_ > restart_grace_) return status;
    const absl::Time again = now + kPollPause;
    if (again < deadline) {
      changed_.WaitUntil(mutex_, again);
      continue;
    }
    changed_.WaitUntil(mutex_, deadline);
    return absl::DeadlineExceededError(status.message());
  }
}

SaveProgress SaveHandle::Impl::Progress() const {
  SaveProgress progress;
  progress.bytes_total = bytes_total_;
  progress.bytes_copied = bytes_copied_.load(std::memory_order_relaxed);
  if (connection_->fork_mark().forked()) return progress;
  MutexLock lock(mutex_);
  progress.state = state_;
  return progress;
}

absl::Status SaveHandle::Impl::status() const {
  CKPT_RETURN_IF_ERROR(connection_->fork_mark().Check());
  MutexLock lock(mutex_);
  return status_;
}

absl::Duration SaveHandle::Impl::stall() const {
  if (connection_->fork_mark().forked()) return absl::ZeroDuration();
  MutexLock lock(mutex_);
  return stall_;
}

const CheckpointId& SaveHandle::id() const { return impl_->id(); }

absl::Status SaveHandle::AwaitStaged(absl::Duration timeout) {
  return impl_->AwaitStaged(absl::Now() + timeout);
}
absl::Status SaveHandle::AwaitCommitted(absl::Duration timeout) {
  return impl_->AwaitCommitted(absl::Now() + timeout);
}
SaveProgress SaveHandle::Progress() const { return impl_->Progress(); }
absl::Status SaveHandle::status() const { return impl_->status(); }
absl::Duration SaveHandle::stall() const { return impl_->stall(); }

}  // namespace ckpt
