#include "tests/crash/job.h"

#include <signal.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "tests/crash/with_context.h"

namespace ckpt::testing {
namespace {

constexpr absl::Duration kLook = absl::Milliseconds(5);
constexpr uint64_t kSmall = 4096;
constexpr absl::Duration kHang = absl::Seconds(60);

}  // namespace

Job::Job(std::string socket, const Schedule* schedule, History* history)
    : socket_(std::move(socket)), schedule_(*schedule), history_(*history) {
  ranks_.resize(schedule->ranks());
  pids_.resize(schedule->ranks());
}

RankSave Job::SaveOf(const Attempt& attempt, uint32_t rank) const {
  const bool stream = run_.streams == Streams::kAll ||
                      (run_.streams == Streams::kFirstRank && rank == 0);
  return {.id = attempt.id,
          .rank = rank,
          .world_size = attempt.ranks,
          .seed = attempt.state().seed,
          .bytes = attempt.bytes(),
          .plain = attempt.plan.plain,
          .stream = stream,
          .on_full = attempt.plan.ring ? "ring" : "wait"};
}

absl::Status Job::Launch(const RunPlan& run, const std::optional<Attempt>& newest) {
  run_ = run;
  newest_ = newest;
  current_.reset();
  steps_staged_ = 0;
  launch_ = Incarnation::TimeOrdered();
  for (uint32_t rank = 0; rank < ranks_.size(); ++rank) {
    if (Lives(rank)) continue;
    ranks_[rank].reset();  // reaps it
    absl::StatusOr<std::unique_ptr<RankProcess>> started = RankProcess::Start(socket_);
    if (!started.ok()) return With(absl::StrCat("starting rank ", rank), started.status());
    ranks_[rank] = *std::move(started);
    MutexLock lock(mutex_);
    pids_[rank] = ranks_[rank]->pid();
  }
  if (!run.resume || !newest.has_value()) return absl::OkStatus();
  for (uint32_t rank = 0; rank < ranks_.size(); ++rank) {
    RankSave save = SaveOf(*newest, rank);
    save.stream = run.restore_by_stream;
    CKPT_RETURN_IF_ERROR(With(absl::StrCat("rank ", rank, " restores ", newest->id.ToString()),
                              ranks_[rank]->Restore(absl::StrCat(kRun, "@latest"), save)));
    ++restores_;
  }
  return absl::OkStatus();
}

absl::Status Job::Begin(const Attempt& attempt, bool replace) {
  history_.Begin(attempt);
  current_ = attempt;
  for (uint32_t rank = 0; rank < ranks_.size(); ++rank) {
    RankSave save = SaveOf(attempt, rank);
    save.replace = replace;
    CKPT_RETURN_IF_ERROR(ranks_[rank]->Save(save));
  }
  return absl::OkStatus();
}

Job::Reached Job::Look(bool committed) {
  Reached reached = Reached::kAll;
  for (uint32_t rank = 0; rank < ranks_.size(); ++rank) {
    const absl::Status status =
        committed ? ranks_[rank]->AwaitCommitted(kLook) : ranks_[rank]->AwaitStaged(kLook);
    if (status.ok()) continue;
    if (absl::IsDeadlineExceeded(status)) {
      reached = Reached::kPending;
      continue;
    }
    failure_ = With(absl::StrCat("rank ", rank), status);
    return Reached::kFailed;
  }
  return reached;
}

absl::Status Job::Await(bool committed, const std::atomic<bool>* stop) {
  const absl::Time hang = absl::Now() + kHang;
  Reached reached = Reached::kPending;
  while (reached == Reached::kPending) {
    if (stop != nullptr && *stop) return absl::OkStatus();
    if (absl::Now() > hang) {
      return absl::DeadlineExceededError(absl::StrCat(current_->id.ToString(), " is not ",
                                                      committed ? "committed" : "staged", " after ",
                                                      absl::FormatDuration(kHang)));
    }
    reached = Look(committed);
  }
  if (reached == Reached::kFailed) return failure_;
  if (committed) return history_.SawCommitted(current_->id).status();
  history_.Staged(current_->id);
  ++steps_staged_;
  return absl::OkStatus();
}

absl::Status Job::Save(const std::atomic<bool>& stop, const std::atomic<bool>& struck) {
  for (uint32_t number = 0; !stop; ++number) {
    const bool again = number == 0 && run_.newest_again && newest_.has_value();
    const uint64_t step = again ? newest_->id.step : history_.NextStep();
    const Attempt attempt{.id = {kRun, step, launch_},
                          .plan = schedule_.Step(run_.number, number),
                          .ranks = static_cast<uint32_t>(ranks_.size())};
    absl::Status status = Begin(attempt, again);
    if (status.ok()) status = Await(/*committed=*/false, &stop);
    if (status.ok() && !stop && attempt.plan.await_committed) {
      status = Await(/*committed=*/true, &stop);
    }
    if (absl::IsDataLoss(status) || absl::IsDeadlineExceeded(status)) return status;
    if (!status.ok()) {
      return struck ? absl::OkStatus() : With("a save that nobody disturbed failed", status);
    }
    if (!stop) current_.reset();
  }
  return absl::OkStatus();
}

absl::Status Job::Settle(bool daemon_died) {
  if (!current_.has_value()) return absl::OkStatus();
  bool all_live = true;
  for (uint32_t rank = 0; rank < ranks_.size(); ++rank) all_live = all_live && Lives(rank);
  if (all_live || !daemon_died) {
    const absl::Status status = Await(/*committed=*/false, nullptr);
    if (status.ok() || absl::IsDeadlineExceeded(status)) return status;
  }
  bool any_lives = false;
  for (uint32_t rank = 0; rank < ranks_.size(); ++rank) {
    if (!Lives(rank)) continue;
    any_lives = true;
    if (!absl::IsDeadlineExceeded(ranks_[rank]->AwaitStaged(absl::ZeroDuration()))) continue;
    const absl::StatusOr<nlohmann::json> connected = ranks_[rank]->Ask({{"do", "connect"}});
    CKPT_RETURN_IF_ERROR(With(absl::StrCat("rank ", rank, " gives up"), connected.status()));
    if ((*connected)["code"] != 0) {
      return absl::UnavailableError(absl::StrCat(
          "rank ", rank, " cannot connect again: ", (*connected)["message"].get<std::string>()));
    }
  }
  // Of parts that an earlier daemon left it knows that nobody may come.
  return any_lives || !daemon_died ? SaveOnce() : absl::OkStatus();
}

// The daemon waits for the other ranks of a checkpoint of which it has parts, until a later launch
// saves.
absl::Status Job::SaveOnce() {
  RunPlan run = run_;
  run.resume = false;
  CKPT_RETURN_IF_ERROR(Launch(run, newest_));
  CKPT_RETURN_IF_ERROR(Begin({.id = {kRun, history_.NextStep(), launch_},
                              .plan = {.part_bytes = kSmall},
                              .ranks = static_cast<uint32_t>(ranks_.size())},
                             /*replace=*/false));
  return With("after the recovery", Await(/*committed=*/false, nullptr));
}

bool Job::Lives(uint32_t rank) {
  MutexLock lock(mutex_);
  return pids_[rank] != 0;
}

void Job::Kill(uint32_t rank) {
  MutexLock lock(mutex_);
  if (pids_[rank] != 0) kill(pids_[rank], SIGKILL);
  pids_[rank] = 0;
}

void Job::KillAll() {
  for (uint32_t rank = 0; rank < ranks_.size(); ++rank) Kill(rank);
}

}  // namespace ckpt::testing
