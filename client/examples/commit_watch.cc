#include "client/examples/commit_watch.h"

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace train_lm {
namespace {

constexpr absl::Duration kAskTimeout = absl::Seconds(5);
constexpr absl::Duration kRestartPause = absl::Milliseconds(100);
constexpr absl::Duration kGiveUpAfter = absl::Minutes(3);

bool IsFinal(const absl::Status& status) {
  return status.ok() || absl::IsAborted(status) || absl::IsNotFound(status) ||
         absl::IsInvalidArgument(status);
}

}  // namespace

CommitWatch::CommitWatch(ckpt::Client* client, const EventLog* events)
    : client_(client), events_(events), thread_([this] { Run(); }) {}

CommitWatch::~CommitWatch() {
  {
    ckpt::MutexLock lock(mutex_);
    stop_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

void CommitWatch::Add(const ckpt::CheckpointId& id) {
  ckpt::MutexLock lock(mutex_);
  waiting_.push_back(id);
  changed_.NotifyAll();
}

absl::Status CommitWatch::Finish() {
  ckpt::MutexLock lock(mutex_);
  while (!waiting_.empty()) changed_.Wait(mutex_);
  return last_;
}

void CommitWatch::Run() {
  while (true) {
    ckpt::CheckpointId id;
    {
      ckpt::MutexLock lock(mutex_);
      while (waiting_.empty() && !stop_) changed_.Wait(mutex_);
      if (stop_) return;
      id = waiting_.front();
    }
    const absl::Status status = AwaitCommitted(id);
    if (status.ok()) {
      events_->Write("committed", {{"step", static_cast<int64_t>(id.step)}});
    } else {
      events_->Write("lost",
                     {{"step", static_cast<int64_t>(id.step)}, {"reason", status.ToString()}});
    }
    ckpt::MutexLock lock(mutex_);
    waiting_.pop_front();
    last_ = status;
    changed_.NotifyAll();
  }
}

absl::Status CommitWatch::AwaitCommitted(const ckpt::CheckpointId& id) {
  const absl::Time deadline = absl::Now() + kGiveUpAfter;
  absl::Status status;
  while (absl::Now() < deadline) {
    {
      ckpt::MutexLock lock(mutex_);
      if (stop_) return absl::CancelledError("the trainer ended before the answer");
    }
    status = client_->Wait(id, ckpt::v1::CHECKPOINT_STATE_COMMITTED, kAskTimeout).status();
    if (IsFinal(status)) return status;
    // The daemon is busy, or it was restarted: then it settles what was staged, and knows.
    if (!absl::IsDeadlineExceeded(status)) absl::SleepFor(kRestartPause);
  }
  return status;
}

}  // namespace train_lm
