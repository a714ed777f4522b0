#include "server/rpc/checkpoint_finder.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/checkpoint_id.h"
#include "common/limits.h"
#include "common/nearest_names.h"
#include "common/status_macros.h"
#include "server/observe/log.h"
#include "server/persist/verify_on_disk.h"
#include "server/rpc/caller.h"
#include "server/rpc/checkpoint_info.h"

namespace ckpt {
namespace {

constexpr size_t kNamesShown = 5;
constexpr size_t kRunsComparedMax = 10000;
// How long the result of a whole read is believed.
constexpr absl::Duration kVerifiedFor = absl::Minutes(1);
constexpr size_t kVerifiedMax = 1024;
// How soon one who waits for another's read notices that his caller has gone.
constexpr absl::Duration kPollEvery = absl::Milliseconds(100);

}  // namespace

absl::Status ValidateSelector(const v1::Selector& selector) {
  CKPT_RETURN_IF_ERROR(ValidateRun(selector.run()));
  if (!selector.incarnation().empty()) {
    CKPT_RETURN_IF_ERROR(
        Incarnation::FromBytes(selector.incarnation(), "selector.incarnation").status());
    if (selector.which_case() != v1::Selector::kStep) {
      return absl::InvalidArgumentError("selector.incarnation goes with selector.step only");
    }
  }
  switch (selector.which_case()) {
    case v1::Selector::kStep:
      return ValidateStep(selector.step());
    case v1::Selector::kTag:
      return ValidateTag(selector.tag());
    case v1::Selector::kLatest:
      if (selector.latest()) return absl::OkStatus();
      break;
    case v1::Selector::kLatestValid:
      if (selector.latest_valid()) return absl::OkStatus();
      break;
    case v1::Selector::WHICH_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "selector must say which checkpoint: a step, a tag, latest = true or latest_valid = true");
}

absl::StatusOr<CheckpointRecord> CheckpointFinder::Find(const v1::Selector& selector,
                                                        const Rights& rights,
                                                        absl::FunctionRef<bool()> cancelled) {
  CKPT_RETURN_IF_ERROR(ValidateSelector(selector));
  absl::StatusOr<CheckpointRecord> found;
  switch (selector.which_case()) {
    case v1::Selector::kStep: {
      std::optional<Incarnation> incarnation;
      if (!selector.incarnation().empty()) {
        CKPT_ASSIGN_OR_RETURN(
            incarnation, Incarnation::FromBytes(selector.incarnation(), "selector.incarnation"));
      }
      found = index_->FindStep(selector.run(), selector.step(), incarnation);
      if (absl::IsNotFound(found.status())) return StepNotFound(selector, rights);
      return found;
    }
    case v1::Selector::kTag:
      found = index_->FindTag(selector.run(), selector.tag());
      if (absl::IsNotFound(found.status())) return TagNotFound(selector, rights);
      return found;
    case v1::Selector::kLatest:
      return FindNewest(selector.run(), rights,
                        [&](CheckpointUid uid, const CheckpointRecord& record) {
                          return damage_.IsDamaged(uid) && !InMemory(record, uid, *memory_)
                                     ? Found::kDamaged
                                     : Found::kValid;
                        });
    default:
      return FindNewest(selector.run(), rights,
                        [&](CheckpointUid uid, const CheckpointRecord& record) {
                          return Validate(uid, record, cancelled);
                        });
  }
}

absl::StatusOr<CheckpointRecord> CheckpointFinder::FindNewest(const std::string& run,
                                                              const Rights& rights,
                                                              Judge judge) {
  uint64_t step_max = kStepMax;
  std::vector<std::string> damaged;
  const auto all_damaged = [&] {
    return absl::DataLossError(
        absl::StrCat("no checkpoint of run '", run,
                     "' is undamaged; damaged steps: ", absl::StrJoin(damaged, ", "),
                     "; who names a step gets what of it is good"));
  };
  while (true) {
    absl::StatusOr<CheckpointRecord> found = index_->FindLatest(run, step_max, true);
    if (absl::IsNotFound(found.status())) {
      return damaged.empty() ? LatestNotFound(run, rights) : all_damaged();
    }
    CKPT_RETURN_IF_ERROR(found.status());
    CKPT_ASSIGN_OR_RETURN(
        const CheckpointUid uid,
        CheckpointUid::FromBytes(found->manifest.checkpoint_uid(), "checkpoint_uid"));
    CKPT_ASSIGN_OR_RETURN(const Found what, judge(uid, *found));
    if (what == Found::kValid) return found;
    if (what == Found::kGone) continue;  // deleted meanwhile
    const std::optional<DamageRecord> damage = damage_.Find(uid);
    const uint64_t step = found->manifest.id().step();
    observe::Error("checkpoint is damaged: falling back to an older one",
                   {{"run", run}, {"step", step}, {"first_damage", damage ? damage->first : ""}});
    damaged.push_back(absl::StrCat(step));
    if (step == 0) return all_damaged();
    step_max = step - 1;
  }
}

absl::StatusOr<CheckpointFinder::Found> CheckpointFinder::Validate(
    CheckpointUid uid, const CheckpointRecord& record, absl::FunctionRef<bool()> cancelled) {
  {
    MutexLock lock(verifying_);
    while (being_read_.contains(uid)) {
      if (cancelled()) return CallerHasGone();
      read_.WaitUntil(verifying_, absl::Now() + kPollEvery);
    }
    const auto known = verified_.find(uid);
    if (known != verified_.end() && absl::Now() - known->second < kVerifiedFor) {
      return Found::kValid;
    }
    if (damage_.IsDamaged(uid)) return Found::kDamaged;
    being_read_.insert(uid);
  }
  const absl::StatusOr<Found> found = Read(uid, record, cancelled);
  MutexLock lock(verifying_);
  being_read_.erase(uid);
  if (found.ok() && *found == Found::kValid) {
    if (verified_.size() >= kVerifiedMax) verified_.clear();
    verified_[uid] = absl::Now();
  }
  read_.NotifyAll();
  return found;
}

absl::StatusOr<CheckpointFinder::Found> CheckpointFinder::Read(
    CheckpointUid uid, const CheckpointRecord& record, absl::FunctionRef<bool()> cancelled) {
  CKPT_ASSIGN_OR_RETURN(const VerificationProgress result,
                        VerifyOnDisk(folder_, uid, {.known = &record.manifest},
                                     [&](const VerificationProgress&) { return !cancelled(); }));
  const absl::Status there = index_->GetCheckpoint(uid).status();
  if (absl::IsNotFound(there)) return Found::kGone;
  CKPT_RETURN_IF_ERROR(there);
  damage_.Found(uid, result);
  return result.labels_only ? Found::kValid : Found::kDamaged;
}

absl::StatusOr<std::optional<CheckpointRecord>> CheckpointFinder::FindAhead(
    const v1::Selector& selector, const Rights& rights, absl::FunctionRef<bool()> cancelled) {
  if (!selector.has_latest_valid()) return std::nullopt;
  CKPT_ASSIGN_OR_RETURN(CheckpointRecord found, Find(selector, rights, cancelled));
  return found;
}

absl::StatusOr<CheckpointRecord> CheckpointFinder::FindNow(
    const v1::Selector& selector, const Rights& rights,
    const std::optional<CheckpointRecord>& ahead) {
  if (!ahead.has_value()) return Find(selector, rights, [] { return false; });
  const v1::CheckpointManifest& manifest = ahead->manifest;
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid,
                        CheckpointUid::FromBytes(manifest.checkpoint_uid(), "checkpoint_uid"));
  absl::StatusOr<CheckpointRecord> found = index_->GetCheckpoint(uid);
  if (absl::IsNotFound(found.status())) {
    return absl::NotFoundError(absl::StrCat(manifest.id().run(), "@", manifest.id().step(),
                                            ", the latest valid one, was deleted meanwhile"));
  }
  return found;
}

absl::StatusOr<CheckpointRecord> CheckpointFinder::FindForNextPage(const std::string& run,
                                                                   CheckpointUid uid) {
  absl::StatusOr<CheckpointRecord> found = index_->GetCheckpoint(uid);
  if (absl::IsNotFound(found.status()) || (found.ok() && found->manifest.id().run() != run)) {
    return absl::NotFoundError("the checkpoint was deleted between two pages");
  }
  return found;
}

bool CheckpointFinder::RunIsIndexed(const std::string& run) {
  bool found = false;
  // In name order the run itself comes first of all that begin with it.
  index_
      ->ForEachRun(run, "",
                   [&](const v1::RunInfo& info) {
                     found = info.run() == run;
                     return false;
                   })
      .IgnoreError();
  return found;
}

absl::Status CheckpointFinder::RunNotFound(const std::string& run, const Rights& rights) {
  std::vector<std::string> names;
  index_
      ->ForEachRun("", "",
                   [&](const v1::RunInfo& info) {
                     if (rights.May(Verb::kRead, info.run())) names.push_back(info.run());
                     return names.size() < kRunsComparedMax;
                   })
      .IgnoreError();
  if (names.empty()) {
    return absl::NotFoundError(absl::StrCat(
        "there is no run '", run, "': this daemon has no committed checkpoint ",
        rights.MayEverywhere(Verb::kRead) ? "at all" : "that this caller may read"));
  }
  std::vector<std::string> nearest = NearestNames(run, names, kNamesShown);
  const bool any_near = !nearest.empty();
  if (!any_near) {
    names.resize(std::min(names.size(), kNamesShown));
    nearest = names;
  }
  return absl::NotFoundError(
      absl::StrCat("there is no run '", run, "'; ",
                   any_near ? "nearest: " : "there are: ", absl::StrJoin(nearest, ", ")));
}

absl::Status CheckpointFinder::LatestNotFound(const std::string& run, const Rights& rights) {
  const absl::StatusOr<CheckpointRecord> partial = index_->FindLatest(run, kStepMax, false);
  if (!partial.ok()) return RunNotFound(run, rights);
  const v1::CheckpointManifest& manifest = partial->manifest;
  return absl::FailedPreconditionError(absl::StrCat(
      "run '", run, "' has no checkpoint of its whole world here; the newest share is step ",
      manifest.id().step(), " with ", manifest.share_size(), " of ", manifest.world_size(),
      " ranks: name the step to restore that"));
}

absl::Status CheckpointFinder::StepNotFound(const v1::Selector& selector, const Rights& rights) {
  const std::string& run = selector.run();
  const uint64_t step = selector.step();
  if (!selector.incarnation().empty()) {
    const auto other = index_->FindStep(run, step, std::nullopt);
    if (other.ok()) {
      return absl::NotFoundError(absl::StrCat("run '", run, "' has a committed step ", step,
                                              ", but not of that incarnation"));
    }
  }
  // The newest, and those next to the one asked for.
  std::set<uint64_t> steps;
  const auto add = [&](std::optional<uint64_t> below, size_t count) {
    index_
        ->ForEachCheckpoint(run, below,
                            [&](const CheckpointRecord& record) {
                              steps.insert(record.manifest.id().step());
                              return --count > 0;
                            })
        .IgnoreError();
  };
  add(std::nullopt, 3);
  if (steps.empty()) return RunNotFound(run, rights);
  add(step, 3);
  return absl::NotFoundError(
      absl::StrCat("run '", run, "' has no committed step ", step,
                   "; committed are (newest and nearest below): ", absl::StrJoin(steps, ", ")));
}

absl::Status CheckpointFinder::TagNotFound(const v1::Selector& selector, const Rights& rights) {
  std::set<std::string> tags;
  size_t looked_at = 0;
  const absl::Status status =
      index_->ForEachCheckpoint(selector.run(), std::nullopt, [&](const CheckpointRecord& record) {
        tags.insert(record.labels.tags().begin(), record.labels.tags().end());
        return ++looked_at < 1000 && tags.size() < 10;
      });
  if (!status.ok() || looked_at == 0) return RunNotFound(selector.run(), rights);
  return absl::NotFoundError(absl::StrCat(
      "run '", selector.run(), "' has no tag '", selector.tag(), "'; ",
      tags.empty() ? "it has no tags" : absl::StrCat("tags: ", absl::StrJoin(tags, ", "))));
}

}  // namespace ckpt
