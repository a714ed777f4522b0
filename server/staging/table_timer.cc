// Deadlines: ranks that never begin, streams that do not come back, ranks that stall.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "server/staging/checkpoint_table_impl.h"

namespace ckpt {
namespace {

constexpr absl::Duration kBusyPoll = absl::Milliseconds(200);
constexpr absl::Duration kIdlePoll = absl::Seconds(5);
constexpr absl::Duration kSweepEvery = absl::Hours(1);
constexpr absl::Duration kIndexAgainEvery = absl::Seconds(5);
// Between its values and its Finish a client that shares memory has nothing to say: a short join
// deadline must not cut a long copy off.
constexpr absl::Duration kStallPatienceMin = absl::Minutes(2);
// Committed ones stay for ranks that resume to hear the end of it; the index has the rest.
constexpr absl::Duration kKeepCommitted = absl::Minutes(2);

std::vector<uint32_t> MissingRanks(const LiveCheckpoint& checkpoint) {
  std::vector<uint32_t> missing;
  for (uint32_t rank : checkpoint.share) {
    if (!checkpoint.parts.contains(rank)) missing.push_back(rank);
  }
  return missing;
}

// Empty: nothing is wrong with this part.
std::string Overdue(const LivePart& part, absl::Time now, absl::Duration grace) {
  if (part.finished) return "";
  if (part.stream == 0) {
    if (now < part.broken_since + grace) return "";
    if (!part.refused.empty()) {
      return absl::StrCat("rank ", part.claim.rank, " was refused and did not try again within ",
                          absl::FormatDuration(grace), ": ", part.refused);
    }
    return absl::StrCat("rank ", part.claim.rank,
                        "'s connection broke, and it did not resume within ",
                        absl::FormatDuration(grace));
  }
  const absl::Duration patience = std::max(part.claim.join_deadline, kStallPatienceMin);
  if (part.opening || now < part.heard_at + patience) return "";
  if (part.buffer != nullptr) {
    const uint64_t credit = part.buffer->credit();
    const bool waits_for_disk =
        part.buffer->written() >= credit && credit < part.layout->part_bytes();
    if (waits_for_disk) return "";
  }
  return absl::StrCat("rank ", part.claim.rank, " stalled: nothing came from it for ",
                      absl::FormatDuration(patience));
}

}  // namespace

void CheckpointTableImpl::Tick() {
  {
    MutexLock lock(mutex_);
    if (adopting_) return;
  }
  RetryAdopted();
  Deferred deferred;
  MutexLock lock(mutex_);
  const absl::Time now = options_.clock->Now();
  std::vector<std::pair<CheckpointPtr, std::string>> overdue;
  DropAborted(now);
  for (auto it = checkpoints_.begin(); it != checkpoints_.end();) {
    const CheckpointPtr checkpoint = it->second;
    if (checkpoint->state == v1::CHECKPOINT_STATE_COMMITTED &&
        now >= checkpoint->ended_at + std::max(options_.grace, kKeepCommitted)) {
      checkpoints_.erase(it++);
      continue;
    }
    ++it;
    if (checkpoint->state != v1::CHECKPOINT_STATE_WRITING) continue;
    if (!checkpoint->AllJoined() && now >= checkpoint->join_deadline) {
      overdue.emplace_back(
          checkpoint,
          checkpoint->adopted
              ? absl::StrCat(PrintRanks(MissingRanks(*checkpoint)),
                             " had not finished when the daemon was restarted, and did not begin ",
                             "again within ", absl::FormatDuration(checkpoint->join_patience))
              : absl::StrCat(PrintRanks(MissingRanks(*checkpoint)), " did not begin within ",
                             absl::FormatDuration(checkpoint->join_patience), " (join deadline)"));
      continue;
    }
    // However busy its ranks seem: what never ends holds memory, disk and quota.
    const absl::Time since =
        checkpoint->adopted ? checkpoint->join_deadline : checkpoint->begun_at;
    if (now >= since + options_.save_lifetime) {
      overdue.emplace_back(
          checkpoint,
          absl::StrCat("it was not staged within ", absl::FormatDuration(options_.save_lifetime),
                       " of its first rank's Begin (--save-lifetime)"));
      continue;
    }
    for (const auto& [rank, part] : checkpoint->parts) {
      std::string why = Overdue(*part, now, options_.grace);
      if (why.empty()) continue;
      overdue.emplace_back(checkpoint, std::move(why));
      break;
    }
  }
  for (const auto& [checkpoint, why] : overdue) Abort(checkpoint, why, deferred);
  if (!unindexed_.empty() && now >= indexed_again_at_ + kIndexAgainEvery) {
    indexed_again_at_ = now;
    InBackground([this] { IndexAgain(); });
  }
  if (!forgetting_runs_ && std::max(newest_.size(), launches_.size()) > forget_runs_above_) {
    forgetting_runs_ = true;
    InBackground([this] { ForgetRuns(); });
  }
  if (now >= aborted_swept_at_ + kSweepEvery) {
    aborted_swept_at_ = now;
    InBackground([this, now] {
      (void)index_.ForgetAbortedBefore(now - options_.keep_aborted);
      index_.ForgetLayoutsUnusedSince(now - kSweepEvery);
    });
  }
}

absl::flat_hash_set<std::string> CheckpointTableImpl::RunsHere() const {
  absl::flat_hash_set<std::string> runs;
  for (const auto& [id, checkpoint] : checkpoints_) runs.insert(id.run);
  return runs;
}

// A run's newest incarnation is in the index as soon as its checkpoint was committed or aborted, and
// so before that one leaves the table. What a launch resumed from is asked for by retention, of runs
// that have something committed.
void CheckpointTableImpl::ForgetRuns() {
  std::vector<std::string> gone;
  {
    MutexLock lock(mutex_);
    const absl::flat_hash_set<std::string> here = RunsHere();
    for (const auto& [run, launch] : launches_) {
      if (!here.contains(run)) gone.push_back(run);
    }
  }
  std::erase_if(gone, [this](const std::string& run) {
    return !absl::IsNotFound(index_.FindLatest(run, kStepMax, /*whole_only=*/false).status());
  });
  MutexLock lock(mutex_);
  const absl::flat_hash_set<std::string> here = RunsHere();
  for (const std::string& run : gone) {
    if (!here.contains(run)) launches_.erase(run);
  }
  if (unindexed_.empty()) {
    absl::erase_if(newest_, [&](const auto& entry) { return !here.contains(entry.first); });
  }
  // Twice as many before the next look: of each new run it costs one look at the index.
  forget_runs_above_ = options_.runs_kept_min + 2 * std::max(newest_.size(), launches_.size());
  forgetting_runs_ = false;
}

void CheckpointTableImpl::RunTimer() {
  while (true) {
    Tick();
    const bool collected = tier_.Collect();
    MutexLock lock(mutex_);
    const absl::Time began = absl::Now();
    auto busy = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return std::any_of(checkpoints_.begin(), checkpoints_.end(),
                         [](const auto& entry) { return entry.second->live(); });
    };
    while (!stopped_) {
      const absl::Time until = began + (!collected || busy() ? kBusyPoll : kIdlePoll);
      if (absl::Now() >= until) break;
      timer_changed_.WaitUntil(mutex_, until);
    }
    if (stopped_) return;
  }
}

}  // namespace ckpt
