// What others see of the table: lists, waiting, subscriptions, draining.
#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "server/staging/checkpoint_table_impl.h"

namespace ckpt {
namespace {

constexpr absl::Duration kWatchPoll = absl::Milliseconds(50);

v1::CheckpointInfo InfoOf(const CheckpointRecord& record) {
  v1::CheckpointInfo info;
  *info.mutable_id() = record.manifest.id();
  info.set_checkpoint_uid(record.manifest.checkpoint_uid());
  info.set_state(v1::CHECKPOINT_STATE_COMMITTED);
  info.set_world_size(record.manifest.world_size());
  *info.mutable_share() = record.manifest.share();
  info.set_data_bytes(record.data_bytes);
  info.set_shard_count(record.shard_count);
  *info.mutable_tags() = record.labels.tags();
  info.set_pinned(record.labels.pinned());
  *info.mutable_metrics() = record.labels.metrics();
  *info.mutable_committed_at() = record.manifest.committed_at();
  const auto parts = static_cast<uint32_t>(record.manifest.parts_size());
  info.set_parts_staged(parts);
  info.set_parts_durable(parts);
  *info.mutable_joined() = record.manifest.share();
  return info;
}

}  // namespace

absl::Status UnknownCheckpoint(const CheckpointId& id) {
  return absl::NotFoundError(absl::StrCat(
      "no checkpoint ", id.run, "@", id.step,
      id.incarnation.none() ? "" : absl::StrCat(" of incarnation ", id.incarnation.hex()),
      " is known here: it was never begun, was deleted, or was aborted more than a day ago"));
}

CheckpointTableImpl::CheckpointPtr CheckpointTableImpl::FindLive(const CheckpointId& id) {
  const auto found = checkpoints_.find(id);
  return found == checkpoints_.end() ? nullptr : found->second;
}

CheckpointTableImpl::CheckpointPtr CheckpointTableImpl::FindAwaited(const CheckpointId& id) {
  if (!id.incarnation.none()) {
    MutexLock lock(mutex_);
    return FindLive(id);
  }
  // The index first: one that commits in between is still in the table.
  const absl::StatusOr<CheckpointRecord> committed =
      index_.FindStep(id.run, id.step, std::nullopt);
  const auto rank = [](const LiveCheckpoint& checkpoint) {
    return std::pair(checkpoint.state != v1::CHECKPOINT_STATE_ABORTED, checkpoint.id.incarnation);
  };
  MutexLock lock(mutex_);
  CheckpointPtr newest;
  for (const auto& [other, checkpoint] : checkpoints_) {
    if (other.run != id.run || other.step != id.step) continue;
    if (newest == nullptr || rank(*newest) < rank(*checkpoint)) newest = checkpoint;
  }
  if (newest == nullptr || !committed.ok()) return newest;
  const bool superseded =
      newest->state == v1::CHECKPOINT_STATE_ABORTED ||
      newest->id.incarnation.bytes() < committed->manifest.id().incarnation();
  return superseded ? nullptr : newest;
}

void CheckpointTableImpl::ForgetCommitted(const std::string& uid) {
  absl::erase_if(checkpoints_, [&](const auto& entry) {
    return entry.second->state == v1::CHECKPOINT_STATE_COMMITTED &&
           entry.second->uid.bytes() == uid;
  });
}

std::vector<v1::CheckpointInfo> CheckpointTableImpl::Live(const std::string& run) {
  std::vector<v1::CheckpointInfo> infos;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, checkpoint] : checkpoints_) {
      const bool abort_only_here =
          checkpoint->state == v1::CHECKPOINT_STATE_ABORTED && !checkpoint->abort_recorded;
      if ((run.empty() || id.run == run) && (checkpoint->live() || abort_only_here)) {
        infos.push_back(MakeInfo(*checkpoint));
      }
    }
  }
  std::sort(infos.begin(), infos.end(), [](const auto& a, const auto& b) {
    return std::make_pair(a.id().step(), a.id().incarnation()) >
           std::make_pair(b.id().step(), b.id().incarnation());
  });
  return infos;
}

CheckpointTable::RunActivity CheckpointTableImpl::ActivityOf(const std::string& run) {
  RunActivity activity;
  MutexLock lock(mutex_);
  for (const auto& [id, checkpoint] : checkpoints_) {
    if (id.run == run && checkpoint->live()) activity.steps_in_flight.push_back(id.step);
  }
  const auto launch = launches_.find(run);
  if (launch != launches_.end()) activity.resumed_step = launch->second.resumed_step;
  return activity;
}

absl::StatusOr<v1::CheckpointInfo> CheckpointTableImpl::FromIndex(const CheckpointId& id) {
  const std::optional<Incarnation> incarnation =
      id.incarnation.none() ? std::nullopt : std::make_optional(id.incarnation);
  absl::StatusOr<CheckpointRecord> record = index_.FindStep(id.run, id.step, incarnation);
  if (record.ok()) return InfoOf(*record);
  if (!absl::IsNotFound(record.status())) return record.status();
  const absl::StatusOr<v1::CheckpointInfo> aborted = index_.FindAborted(id);
  if (aborted.ok()) return absl::AbortedError(aborted->abort_reason());
  if (!absl::IsNotFound(aborted.status())) return aborted.status();
  return UnknownCheckpoint(id);
}

absl::StatusOr<v1::CheckpointInfo> CheckpointTableImpl::Wait(const CheckpointId& id,
                                                             v1::CheckpointState state,
                                                             absl::Time deadline,
                                                             absl::FunctionRef<bool()> cancelled) {
  if (state < v1::CHECKPOINT_STATE_WRITING || state > v1::CHECKPOINT_STATE_REPLICATED) {
    return absl::InvalidArgumentError("wait for WRITING, STAGED, COMMITTED or REPLICATED");
  }
  const CheckpointPtr checkpoint = FindAwaited(id);
  if (checkpoint == nullptr) {
    absl::StatusOr<v1::CheckpointInfo> info = FromIndex(id);
    if (info.ok() && state > info->state()) {
      return absl::FailedPreconditionError(
          "no remote tier is configured: no checkpoint becomes REPLICATED here");
    }
    return info;
  }
  MutexLock lock(mutex_);
  while (true) {
    if (checkpoint->state == v1::CHECKPOINT_STATE_ABORTED) return checkpoint->aborted;
    if (checkpoint->state >= state) return MakeInfo(*checkpoint);
    if (state == v1::CHECKPOINT_STATE_REPLICATED) {
      return absl::FailedPreconditionError(
          "no remote tier is configured: no checkpoint becomes REPLICATED here");
    }
    if (stopped_) return absl::UnavailableError("the daemon is stopping");
    if (cancelled()) return absl::CancelledError("the caller has gone away");
    const absl::Time now = absl::Now();
    if (now >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          checkpoint->id.ToString(), " is still ",
          v1::CheckpointState_Name(checkpoint->state).substr(sizeof("CHECKPOINT_STATE_") - 1), " (",
          checkpoint->CountStaged(), " of ", checkpoint->share.size(), " parts staged)"));
    }
    changed_.WaitUntil(mutex_, std::min(deadline, now + kWatchPoll));
  }
}

absl::Time CheckpointTableImpl::DurableAt(const CheckpointId& id, CheckpointUid uid) {
  MutexLock lock(mutex_);
  const CheckpointPtr checkpoint = FindLive(id);
  return checkpoint != nullptr && checkpoint->uid == uid ? checkpoint->DurableAt()
                                                         : absl::InfinitePast();
}

absl::Status CheckpointTableImpl::WaitSettled(const std::string& run, absl::Time deadline,
                                              absl::FunctionRef<bool()> cancelled) {
  MutexLock lock(mutex_);
  while (true) {
    const bool settled =
        std::none_of(checkpoints_.begin(), checkpoints_.end(), [&](const auto& entry) {
          return entry.first.run == run && entry.second->state == v1::CHECKPOINT_STATE_STAGED;
        });
    if (settled) return absl::OkStatus();
    if (stopped_) return absl::UnavailableError("the daemon is stopping");
    if (cancelled()) return absl::CancelledError("the caller has gone away");
    const absl::Time now = absl::Now();
    if (now >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("checkpoints of run ", run, " are staged and not yet committed"));
    }
    changed_.WaitUntil(mutex_, std::min(deadline, now + kWatchPoll));
  }
}

// --- subscriptions

uint64_t CheckpointTableImpl::Subscribe(
    absl::AnyInvocable<void(const v1::CheckpointInfo&, bool deleted)> changed) {
  MutexLock lock(events_mutex_);
  subscribers_[next_subscriber_] = std::make_shared<Subscriber>(std::move(changed));
  return next_subscriber_++;
}

void CheckpointTableImpl::Unsubscribe(uint64_t number) {
  MutexLock lock(events_mutex_);
  subscribers_.erase(number);
  // So that what the callback refers to may be destroyed after this call.
  while (emitting_ && emitter_ != std::this_thread::get_id()) events_idle_.Wait(events_mutex_);
}

void CheckpointTableImpl::Announce(const v1::CheckpointInfo& info, bool deleted) {
  if (deleted) {
    MutexLock lock(mutex_);
    ForgetCommitted(info.checkpoint_uid());
  }
  {
    MutexLock lock(events_mutex_);
    if (subscribers_.empty()) return;
    events_.emplace_back(info, deleted);
  }
  Emit();
}

void CheckpointTableImpl::Emit() {
  {
    MutexLock lock(events_mutex_);
    if (emitting_) return;  // whoever is at it takes these events along
    emitting_ = true;
    emitter_ = std::this_thread::get_id();
  }
  while (true) {
    std::pair<v1::CheckpointInfo, bool> event;
    std::vector<std::shared_ptr<Subscriber>> to;
    {
      MutexLock lock(events_mutex_);
      if (events_.empty()) {
        emitting_ = false;
        events_idle_.NotifyAll();
        return;
      }
      event = std::move(events_.front());
      events_.pop_front();
      for (const auto& [number, subscriber] : subscribers_) to.push_back(subscriber);
    }
    for (const auto& subscriber : to) (*subscriber)(event.first, event.second);
  }
}

// --- draining

void CheckpointTableImpl::StopAdmitting() {
  MutexLock lock(mutex_);
  draining_ = true;
  changed_.NotifyAll();
}

void CheckpointTableImpl::Admit() {
  MutexLock lock(mutex_);
  draining_ = false;
}

bool CheckpointTableImpl::draining() const {
  MutexLock lock(mutex_);
  return draining_;
}

uint32_t CheckpointTableImpl::open_saves() const {
  MutexLock lock(mutex_);
  return open_streams_;
}

uint32_t CheckpointTableImpl::CountNotDurable() const {
  uint32_t count = 0;
  for (const auto& [id, checkpoint] : checkpoints_) {
    if (checkpoint->state == v1::CHECKPOINT_STATE_STAGED) {
      count += static_cast<uint32_t>(checkpoint->parts.size());
    } else if (checkpoint->state == v1::CHECKPOINT_STATE_WRITING) {
      for (const auto& [rank, part] : checkpoint->parts) {
        if (part->staged && !part->durable.has_value()) ++count;
      }
    }
  }
  return count;
}

uint32_t CheckpointTableImpl::parts_not_durable() const {
  MutexLock lock(mutex_);
  return CountNotDurable();
}

uint32_t CheckpointTableImpl::WaitDrained(absl::Time deadline,
                                          absl::FunctionRef<bool()> cancelled) {
  MutexLock lock(mutex_);
  while (true) {
    const uint32_t left = CountNotDurable() + open_streams_;
    const absl::Time now = absl::Now();
    if (left == 0 || now >= deadline || stopped_ || cancelled()) return left;
    changed_.WaitUntil(mutex_, std::min(deadline, now + kWatchPoll));
  }
}

}  // namespace ckpt
