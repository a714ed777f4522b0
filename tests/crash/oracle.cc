#include "tests/crash/oracle.h"

#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "tests/crash/folders_at_rest.h"
#include "tests/crash/job.h"
#include "tests/crash/with_context.h"

namespace ckpt::testing {
namespace {

constexpr absl::Duration kSettleWithin = absl::Seconds(60);
constexpr absl::Duration kPoll = absl::Milliseconds(1);
constexpr size_t kGoneAsked = 4;

// Of each step the attempt that counts: the newest.
std::map<uint64_t, CheckpointId> WinnersOf(const std::set<CheckpointId>& there) {
  std::map<uint64_t, CheckpointId> winners;
  for (const CheckpointId& id : there) winners[id.step] = id;  // ascending by incarnation
  return winners;
}

// What is listed; fails if one of them is not committed (yet).
absl::StatusOr<std::set<CheckpointId>> ListedAllCommitted(DaemonCalls& calls) {
  CKPT_ASSIGN_OR_RETURN(const std::vector<v1::CheckpointInfo> listed, calls.List(kRun));
  std::set<CheckpointId> ids;
  for (const v1::CheckpointInfo& info : listed) {
    if (info.state() != v1::CHECKPOINT_STATE_COMMITTED) {
      return absl::FailedPreconditionError(
          absl::StrCat("step ", info.id().step(), " is ", v1::CheckpointState_Name(info.state())));
    }
    CKPT_ASSIGN_OR_RETURN(const CheckpointId id, CheckpointId::FromProto(info.id()));
    ids.insert(id);
  }
  return ids;
}

// OK with the checkpoints that are there, or what is still going on, or left over. The list is
// asked for again at the end: what retention has begun to delete left it before it left the disk,
// and an attempt at the same step that it had replaced may be listed in its place.
absl::StatusOr<std::set<CheckpointId>> LookAtRest(const Daemon& daemon, DaemonCalls& calls,
                                                  bool retention) {
  CKPT_ASSIGN_OR_RETURN(const v1::GetStatusResponse status, calls.Status());
  if (status.open_saves() + status.persisting_parts() + status.open_plans() > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(status.open_saves(), " open saves, ", status.persisting_parts(),
                     " parts being persisted, ", status.open_plans(), " open plans"));
  }
  CKPT_RETURN_IF_ERROR(ListedAllCommitted(calls).status());
  if (retention) {
    CKPT_ASSIGN_OR_RETURN(const uint64_t left, calls.LeftToRetention(kRun));
    if (left > 0) return absl::FailedPreconditionError(absl::StrCat(left, " to be retired"));
  }
  CKPT_ASSIGN_OR_RETURN(std::set<CheckpointId> there,
                        CheckpointsAtRest(daemon.data_folder(), daemon.memory_folder()));
  CKPT_ASSIGN_OR_RETURN(const std::set<CheckpointId> listed, ListedAllCommitted(calls));
  for (const auto& [step, id] : WinnersOf(there)) {
    if (listed.contains(id)) continue;
    return absl::FailedPreconditionError(absl::StrCat(id.ToString(), " is on disk and not listed"));
  }
  return there;
}

absl::StatusOr<std::set<CheckpointId>> AwaitRest(const Daemon& daemon, DaemonCalls& calls,
                                                 bool retention) {
  const absl::Time deadline = absl::Now() + kSettleWithin;
  for (;;) {
    absl::StatusOr<std::set<CheckpointId>> there = LookAtRest(daemon, calls, retention);
    if (there.ok()) return there;
    if (absl::Now() > deadline) return With("does not come to rest", there.status());
    absl::SleepFor(kPoll);
  }
}

}  // namespace

absl::Status Oracle::AwaitPromised() {
  for (const Attempt& attempt : history_.attempts()) {
    if (!attempt.staged || attempt.committed || attempt.gone) continue;
    const absl::Status status = calls_.AwaitCommitted(attempt.id, kSettleWithin);
    if (status.ok()) {
      CKPT_RETURN_IF_ERROR(history_.SawCommitted(attempt.id).status());
    } else if (!absl::IsNotFound(status)) {  // deleted or replaced, or AtRest finds it missing
      return With(absl::StrCat("all ranks saw ", attempt.id.ToString(), " staged, and it is not "
                               "committed"), status);
    }
  }
  return absl::OkStatus();
}

absl::Status Oracle::CheckTags() {
  for (const std::string& tag : history_.tags()) {
    CKPT_ASSIGN_OR_RETURN(const v1::Selector selector, ParseSelector(absl::StrCat(kRun, "@", tag)));
    const absl::StatusOr<v1::CheckpointInfo> holder = calls_.Get(selector);
    std::optional<CheckpointId> id;
    if (holder.ok()) {
      CKPT_ASSIGN_OR_RETURN(id, CheckpointId::FromProto(holder->id()));
    } else if (!absl::IsNotFound(holder.status())) {
      return With(absl::StrCat("looking for tag ", tag), holder.status());
    }
    CKPT_RETURN_IF_ERROR(history_.TagAtRest(tag, id));
  }
  return absl::OkStatus();
}

absl::Status Oracle::CheckList(const std::set<CheckpointId>& there) {
  const std::map<uint64_t, CheckpointId> winners = WinnersOf(there);
  CKPT_ASSIGN_OR_RETURN(const std::vector<v1::CheckpointInfo> listed, calls_.List(kRun));
  for (const v1::CheckpointInfo& info : listed) {
    CKPT_ASSIGN_OR_RETURN(const CheckpointId id, CheckpointId::FromProto(info.id()));
    const auto winner = winners.find(id.step);
    if (winner == winners.end() || winner->second != id) {
      return absl::DataLossError(absl::StrCat(id.ToString(), " is listed, and should not be"));
    }
  }
  if (listed.size() < winners.size()) {
    return absl::DataLossError(
        absl::StrCat(winners.size(), " checkpoints are on disk, and ", listed.size(), " listed"));
  }
  newest_.reset();
  if (winners.empty()) return absl::OkStatus();
  newest_ = history_.Find(winners.rbegin()->second);
  CKPT_ASSIGN_OR_RETURN(const v1::Selector latest, ParseSelector(absl::StrCat(kRun, "@latest")));
  CKPT_ASSIGN_OR_RETURN(const v1::CheckpointInfo info, calls_.Get(latest));
  CKPT_ASSIGN_OR_RETURN(const CheckpointId id, CheckpointId::FromProto(info.id()));
  if (id == newest_->id) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("latest is ", id.ToString(), ", not ", newest_->id.ToString()));
}

absl::Status Oracle::CheckBytes(Client& client, const CheckpointId& id, bool by_stream) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<RestorePlan> plan,
                        client.PlanRestore(ExactSelector(id), {.stream = by_stream}));
  ++restored_;
  return CheckRestoredWhole(*plan, history_.Find(id)->state());
}

absl::Status Oracle::CheckGone() {
  std::vector<Attempt> attempts = history_.attempts();
  size_t asked = 0;
  for (auto it = attempts.rbegin(); it != attempts.rend() && asked < kGoneAsked; ++it) {
    if (!it->gone || !it->committed) continue;
    ++asked;
    const absl::StatusOr<v1::CheckpointInfo> found = calls_.Get(ExactSelector(it->id));
    if (absl::IsNotFound(found.status())) continue;
    return absl::DataLossError(absl::StrCat("deleted ", it->id.ToString(), " is answered by ",
                                            found.ok() ? found->ShortDebugString()
                                                       : found.status().ToString()));
  }
  return absl::OkStatus();
}

absl::Status Oracle::Check(Client& client, bool by_stream) {
  CKPT_RETURN_IF_ERROR(AwaitPromised());
  CKPT_ASSIGN_OR_RETURN(const std::set<CheckpointId> there,
                        AwaitRest(daemon_, calls_, history_.retention()));
  CKPT_RETURN_IF_ERROR(history_.AtRest(there));
  CKPT_RETURN_IF_ERROR(CheckTags());
  CKPT_RETURN_IF_ERROR(CheckList(there));
  for (const CheckpointId& id : there) {
    CKPT_RETURN_IF_ERROR(
        With(absl::StrCat("restoring ", id.ToString()), CheckBytes(client, id, by_stream)));
  }
  return CheckGone();
}

}  // namespace ckpt::testing
