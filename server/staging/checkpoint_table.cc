#include "server/staging/checkpoint_table.h"

#include "server/staging/checkpoint_table_impl.h"

namespace ckpt {

absl::StatusOr<std::unique_ptr<CheckpointTable>> CheckpointTable::Create(
    CheckpointTableOptions options) {
  if (options.tier == nullptr || options.persister == nullptr || options.index == nullptr ||
      options.folder == nullptr || options.clock == nullptr) {
    return absl::InvalidArgumentError("the table needs tier, persister, index, folder and clock");
  }
  auto table = std::make_unique<CheckpointTableImpl>(options);
  table->StartThreads();
  return table;
}

CheckpointTableImpl::CheckpointTableImpl(CheckpointTableOptions options)
    : options_(options),
      tier_(*options.tier),
      persister_(*options.persister),
      index_(*options.index),
      forget_runs_above_(options.runs_kept_min) {
  MutexLock lock(lifeline_->mutex);
  lifeline_->table = this;
}

void CheckpointTableImpl::StartThreads() {
  background_thread_ = std::thread([this] { RunBackground(); });
  if (options_.timer) timer_thread_ = std::thread([this] { RunTimer(); });
}

void CheckpointTableImpl::Shutdown() {
  Deferred deferred;
  MutexLock lock(mutex_);
  if (stopped_) return;
  stopped_ = true;
  for (const auto& [id, checkpoint] : checkpoints_) {
    if (!checkpoint->live()) continue;
    for (const auto& [rank, part] : checkpoint->parts) {
      // What is staged stays in tmpfs; the next daemon persists it from its beginning.
      if (part->buffer != nullptr) {
        part->buffer->Abort(absl::UnavailableError("the daemon is stopping"));
      }
      if (part->stream_changed != nullptr) {
        deferred.Add([changed = part->stream_changed] { (*changed)(); });
      }
    }
  }
  changed_.NotifyAll();
  timer_changed_.NotifyAll();
  deferred.Add([this] { tier_.WakeWaiters(); });
}

CheckpointTableImpl::~CheckpointTableImpl() {
  Shutdown();
  {
    MutexLock lock(lifeline_->mutex);
    lifeline_->table = nullptr;
  }
  {
    MutexLock lock(persist_guard_->mutex);
    persist_guard_->alive = false;
    while (persist_guard_->running > 0) persist_guard_->idle.Wait(persist_guard_->mutex);
  }
  {
    Deferred deferred;
    MutexLock lock(mutex_);
    for (const auto& [id, checkpoint] : checkpoints_) {
      for (const auto& [rank, part] : checkpoint->parts) ForgetSession(*part, deferred);
    }
  }
  {
    MutexLock lock(background_mutex_);
    background_stop_ = true;
    background_changed_.NotifyAll();
  }
  if (background_thread_.joinable()) background_thread_.join();
  if (timer_thread_.joinable()) timer_thread_.join();
}

}  // namespace ckpt
