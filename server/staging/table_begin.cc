// Who may join a checkpoint. A Begin goes through these, in order:
//
//   1. a part that is here under the same request id is resumed, whatever else holds
//   2. an incarnation older than the run's newest is refused; a newer one aborts the run's older
//      WRITING checkpoints (STAGED ones finish)
//   3. an aborted checkpoint says so to each rank once; what that rank begins next is a new attempt
//   4. a step that is COMMITTED is refused, or replaced, as if_exists and resumed_step say
//   5. a checkpoint that is being written is joined, if rank and share agree with it: otherwise it
//      can never be completed and is aborted at once
//   6. a new checkpoint is made, unless the daemon is draining or a quota of the run is used up
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "server/observe/log.h"
#include "server/staging/checkpoint_table_impl.h"
#include "server/staging/part_stream.h"

namespace ckpt {
namespace {

std::string PrintShare(const std::vector<uint32_t>& share, uint32_t world_size) {
  return absl::StrCat(PrintRanks(share), " of a world of ", world_size);
}

}  // namespace

absl::StatusOr<std::unique_ptr<PartStream>> CheckpointTableImpl::Begin(
    PartClaim claim, absl::AnyInvocable<void()> changed) {
  MakeRoomInQuota(claim);  // may take long: what the index says is asked behind it
  Known known = AskIndex(claim);
  auto on_change = std::make_shared<absl::AnyInvocable<void()>>(std::move(changed));
  CheckpointPtr checkpoint;
  PartPtr part;
  uint64_t stream = 0;
  bool made = false;
  {
    Deferred deferred;
    MutexLock admission(admission_mutex_);
    known.quota = AdmitByQuota(claim);
    MutexLock lock(mutex_);
    if (stopped_) return absl::UnavailableError("the daemon is stopping");
    if (known.newest.has_value()) {
      Incarnation& newest = newest_[claim.id.run];
      newest = std::max(newest, *known.newest);
    }
    checkpoint = FindLive(claim.id);
    if (checkpoint != nullptr) {
      CKPT_ASSIGN_OR_RETURN(part, FindResumable(checkpoint, claim, deferred));
    }
    if (part == nullptr) {
      CKPT_ASSIGN_OR_RETURN(checkpoint, FindOrMake(claim, known, deferred));
      part = std::make_shared<LivePart>();
      part->claim = claim;
      part->claim.share = std::vector<uint32_t>();  // checkpoint->share is the same
      checkpoint->parts[claim.rank] = part;
      NoteLaunch(claim);
      if (checkpoint->adopted) PersistAdopted(checkpoint, deferred);
      made = true;
    }
    stream = Attach(part, on_change, deferred);
    Changed(checkpoint, deferred);
  }
  auto handle = std::make_unique<TablePartStream>(this, checkpoint, part, stream);
  if (made && claim.session != nullptr) {
    const uint64_t number = claim.session->OnClose(
        [lifeline = lifeline_, weak_checkpoint = std::weak_ptr<LiveCheckpoint>(checkpoint),
         weak_part = std::weak_ptr<LivePart>(part)] {
          MutexLock alive(lifeline->mutex);
          const CheckpointPtr checkpoint = weak_checkpoint.lock();
          const PartPtr part = weak_part.lock();
          if (lifeline->table == nullptr || checkpoint == nullptr || part == nullptr) return;
          lifeline->table->SessionEnded(checkpoint, part);
        });
    Deferred deferred;
    MutexLock lock(mutex_);
    part->on_close = number;
    if (part->staged || !checkpoint->live()) ForgetSession(*part, deferred);
  }
  if (made && known.layout != nullptr) {
    CKPT_RETURN_IF_ERROR(LayoutKnown(checkpoint, part, known.layout));
  }
  return handle;
}

CheckpointTableImpl::Known CheckpointTableImpl::AskIndex(const PartClaim& claim) {
  Known known;
  known.exists = CheckExists(claim);
  const auto newest = index_.NewestIncarnation(claim.id.run);
  if (newest.ok()) known.newest = *newest;
  if (!newest.ok()) known.exists = newest.status();
  known.layout = index_.FindLayout(claim.layout_digest);
  // An attempt that failed is no news once a later one at the same triple has committed.
  if (!index_.FindStep(claim.id.run, claim.id.step, claim.id.incarnation).ok()) {
    absl::StatusOr<v1::CheckpointInfo> aborted = index_.FindAborted(claim.id);
    if (aborted.ok()) known.aborted = *std::move(aborted);
  }
  return known;
}

absl::Status CheckpointTableImpl::CheckExists(const PartClaim& claim) {
  absl::StatusOr<CheckpointRecord> record =
      index_.FindStep(claim.id.run, claim.id.step, std::nullopt);
  if (absl::IsNotFound(record.status())) return absl::OkStatus();
  if (!record.ok()) return record.status();
  if (claim.if_exists == v1::IF_EXISTS_REPLACE) return absl::OkStatus();
  const std::string step = absl::StrCat(claim.id.run, "@", claim.id.step);
  const bool older = record->manifest.id().incarnation() < claim.id.incarnation.bytes();
  if (claim.if_exists == v1::IF_EXISTS_UNSPECIFIED && older && claim.resumed_step.has_value() &&
      claim.id.step > *claim.resumed_step) {
    return absl::OkStatus();  // this launch went back behind it, and so abandons it
  }
  if (!older) {
    return absl::AlreadyExistsError(
        absl::StrCat("step ", step, " is committed already, by this launch or a later one; save ",
                     "with if_exists = REPLACE to write it again"));
  }
  return absl::AlreadyExistsError(absl::StrCat(
      "step ", step, " is committed already, by an earlier launch of the run; save with if_exists ",
      "= REPLACE, name the step that this launch resumed from (resumed_step), or use another run"));
}

absl::Status CheckpointTableImpl::CheckIncarnation(const PartClaim& claim) {
  const auto found = newest_.find(claim.id.run);
  if (found == newest_.end() || claim.id.incarnation >= found->second) return absl::OkStatus();
  const Incarnation newest = found->second;
  return absl::FailedPreconditionError(absl::StrCat(
      "incarnation ", claim.id.incarnation.hex(), " of run ", claim.id.run,
      " is older than the newest that saved (", newest.hex(),
      "): a later launch of the job has taken over, and this process should end; where there "
      "is none, save with a newer incarnation or to another run"));
}

void CheckpointTableImpl::SupersedeOlder(const PartClaim& claim, Deferred& deferred) {
  Incarnation& newest = newest_[claim.id.run];
  newest = std::max(newest, claim.id.incarnation);
  std::vector<CheckpointPtr> older;
  for (const auto& [id, checkpoint] : checkpoints_) {
    if (id.run == claim.id.run && id.incarnation < newest &&
        checkpoint->state == v1::CHECKPOINT_STATE_WRITING) {
      older.push_back(checkpoint);
    }
  }
  for (const CheckpointPtr& checkpoint : older) {
    Abort(checkpoint,
          absl::StrCat("a later launch of the job (incarnation ", newest.hex(),
                       ") began to save, by its rank ", claim.rank),
          deferred);
  }
}

void CheckpointTableImpl::NoteLaunch(const PartClaim& claim) {
  const auto [it, first] = launches_.try_emplace(claim.id.run);
  Launch& launch = it->second;
  if (first || launch.incarnation < claim.id.incarnation) {
    launch = {claim.id.incarnation, claim.resumed_step};
  } else if (launch.incarnation == claim.id.incarnation && claim.resumed_step.has_value()) {
    launch.resumed_step = std::min(launch.resumed_step.value_or(UINT64_MAX), *claim.resumed_step);
  }
}

absl::StatusOr<CheckpointTableImpl::PartPtr> CheckpointTableImpl::FindResumable(
    const CheckpointPtr& checkpoint, const PartClaim& claim, Deferred& deferred) {
  auto found = checkpoint->parts.find(claim.rank);
  if (found == checkpoint->parts.end()) return PartPtr();
  const PartPtr part = found->second;
  if (part->claim.request_id != claim.request_id) return PartPtr();
  if (checkpoint->state == v1::CHECKPOINT_STATE_ABORTED) {
    checkpoint->told.insert(claim.rank);
    return checkpoint->aborted;
  }
  if (claim.layout_digest != part->claim.layout_digest || claim.share != checkpoint->share ||
      claim.world_size != checkpoint->world_size) {
    const std::string reason = absl::StrCat(
        "rank ", claim.rank,
        " resumed its part with another layout, share or world size than it began with");
    if (!part->finished) Abort(checkpoint, reason, deferred);
    return absl::InvalidArgumentError(reason);
  }
  if (!part->finished &&
      (claim.session != part->claim.session || claim.transport != part->claim.transport)) {
    return absl::FailedPreconditionError(
        "the part was begun over another session or transport; it cannot be resumed over this one");
  }
  return part;
}

absl::StatusOr<CheckpointTableImpl::CheckpointPtr> CheckpointTableImpl::FindOrMake(
    const PartClaim& claim, const Known& known, Deferred& deferred) {
  CKPT_RETURN_IF_ERROR(CheckIncarnation(claim));
  CheckpointPtr checkpoint = FindLive(claim.id);
  if (checkpoint == nullptr && known.aborted.has_value()) {
    checkpoint = MakeAborted(claim, *known.aborted);
  }
  if (checkpoint != nullptr && checkpoint->state == v1::CHECKPOINT_STATE_ABORTED) {
    if (checkpoint->told.insert(claim.rank).second) return checkpoint->aborted;
    checkpoint = nullptr;  // it knows, and tries again
  }
  if (checkpoint != nullptr && checkpoint->live()) {
    auto there = checkpoint->parts.find(claim.rank);
    // A part that was refused memory holds nothing: the rank may also begin it anew.
    const bool holds_nothing = there != checkpoint->parts.end() && there->second->stream == 0 &&
                               there->second->buffer == nullptr && !there->second->finished &&
                               !there->second->opening && !there->second->persisting &&
                               !there->second->durable.has_value();
    if (holds_nothing) {
      checkpoint->agreed = false;
      ++checkpoint->parts_version;
      ForgetSession(*there->second, deferred);
      if (std::exchange(there->second->reserved, false)) {
        deferred.Add([this, bytes = there->second->layout->part_bytes()] {
          persister_.ReleaseReservation(bytes);
        });
      }
    } else if (there != checkpoint->parts.end()) {
      return absl::AlreadyExistsError(
          absl::StrCat("rank ", claim.rank, " has a part in ", claim.id.ToString(),
                       " already: do two processes claim the same rank?"));
    }
    absl::Status refused = known.exists;
    if (refused.ok() &&
        (claim.share != checkpoint->share || claim.world_size != checkpoint->world_size)) {
      refused = absl::InvalidArgumentError(
          absl::StrCat("ranks disagree on the share: rank ", claim.rank, " names ",
                       PrintShare(claim.share, claim.world_size), ", rank ",
                       checkpoint->parts.empty() ? 0 : checkpoint->parts.begin()->first, " named ",
                       PrintShare(checkpoint->share, checkpoint->world_size)));
    }
    if (refused.ok()) return checkpoint;
    if (checkpoint->state == v1::CHECKPOINT_STATE_WRITING) {
      Abort(checkpoint, std::string(refused.message()), deferred);
      checkpoint->told.insert(claim.rank);
    }
    return refused;
  }
  if (checkpoint != nullptr && claim.if_exists != v1::IF_EXISTS_REPLACE) {
    return absl::AlreadyExistsError(
        absl::StrCat(claim.id.ToString(), " is committed already; save with if_exists = REPLACE ",
                     "to write it again"));
  }
  CKPT_RETURN_IF_ERROR(known.exists);
  if (draining_) {
    return absl::UnavailableError(
        "the daemon is draining and begins no new checkpoints; try again when it is back");
  }
  CKPT_RETURN_IF_ERROR(known.quota);
  if (left_to_abort() > kLeftToAbortMax) {
    return absl::ResourceExhaustedError(
        "too many saves were given up at once, and are still being cleaned up; retry later");
  }
  SupersedeOlder(claim, deferred);
  checkpoint = std::make_shared<LiveCheckpoint>();
  checkpoint->id = claim.id;
  checkpoint->uid = CheckpointUid::TimeOrdered();
  checkpoint->world_size = claim.world_size;
  checkpoint->share = claim.share;
  checkpoint->quota_section = options_.quotas.SectionOf(claim.id.run);
  checkpoint->begun_at = options_.clock->Now();
  checkpoint->join_patience = claim.join_deadline;
  checkpoint->join_deadline = checkpoint->begun_at + claim.join_deadline;
  checkpoints_[claim.id] = checkpoint;
  timer_changed_.NotifyAll();
  observe::Info("checkpoint begun", {{"run", claim.id.run},
                                     {"step", claim.id.step},
                                     {"incarnation", claim.id.incarnation.hex()},
                                     {"rank", claim.rank},
                                     {"ranks", claim.share.size()}});
  return checkpoint;
}

CheckpointTableImpl::CheckpointPtr CheckpointTableImpl::MakeAborted(
    const PartClaim& claim, const v1::CheckpointInfo& info) {
  auto checkpoint = std::make_shared<LiveCheckpoint>();
  checkpoint->id = claim.id;
  checkpoint->uid =
      CheckpointUid::FromBytes(info.checkpoint_uid(), "uid").value_or(CheckpointUid());
  checkpoint->world_size = info.world_size();
  checkpoint->share.assign(info.share().begin(), info.share().end());
  checkpoint->state = v1::CHECKPOINT_STATE_ABORTED;
  checkpoint->begun_at = absl::FromUnixSeconds(info.begun_at().seconds());
  checkpoint->ended_at = options_.clock->Now();
  checkpoint->aborted = absl::AbortedError(info.abort_reason());
  checkpoint->told.insert(info.joined().begin(), info.joined().end());
  checkpoints_[claim.id] = checkpoint;
  KeepAborted(checkpoint);
  return checkpoint;
}

uint64_t CheckpointTableImpl::Attach(const PartPtr& part,
                                     std::shared_ptr<absl::AnyInvocable<void()>> changed,
                                     Deferred& deferred) {
  if (part->stream_changed != nullptr) {
    deferred.Add([before = part->stream_changed] { (*before)(); });
  }
  part->stream = next_stream_++;
  part->stream_changed = std::move(changed);
  part->broken_since = absl::InfiniteFuture();
  part->heard_at = options_.clock->Now();
  ++open_streams_;
  return part->stream;
}

}  // namespace ckpt
