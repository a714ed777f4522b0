#include "tests/crash/history.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/digest.h"

namespace ckpt::testing {

TestState Attempt::state() const {
  // A value holds it as a signed integer.
  const uint64_t seed = (Xxh3(id.incarnation.bytes()) ^ id.step) >> 1;
  return plan.plain ? TestState::Plain(seed, bytes()) : TestState::Mixed(seed, bytes());
}

History::History(const std::string& path, bool retention)
    : began_(absl::Now()), retention_(retention), file_(path) {}

void History::Write(absl::string_view text) {
  file_ << absl::StrFormat("%10.6f ", absl::ToDoubleSeconds(absl::Now() - began_))
        << std::string(text) << std::endl;
}

void History::Note(absl::string_view text) {
  MutexLock lock(mutex_);
  Write(text);
}

void History::Begin(Attempt attempt) {
  MutexLock lock(mutex_);
  Write(absl::StrCat("begin ", attempt.id.run, "@", attempt.id.step, " incarnation ",
                     attempt.id.incarnation.hex(), ": ", attempt.ranks, " ranks, ", attempt.bytes(),
                     " bytes", attempt.plan.plain ? ", plain" : "",
                     attempt.plan.ring ? ", ring" : ""));
  const CheckpointId id = attempt.id;
  attempts_.emplace(id, std::move(attempt));
}

uint64_t History::NextStep() const {
  MutexLock lock(mutex_);
  return attempts_.empty() ? 1 : attempts_.rbegin()->first.step + 1;
}

void History::Staged(const CheckpointId& id) {
  MutexLock lock(mutex_);
  Write(absl::StrCat("staged ", id.ToString()));
  attempts_.at(id).staged = true;
}

absl::StatusOr<Attempt> History::SawCommitted(const CheckpointId& id) {
  MutexLock lock(mutex_);
  const auto found = attempts_.find(id);
  if (found == attempts_.end()) {
    return absl::DataLossError(absl::StrCat("nobody saved ", id.ToString(), ", but it is there"));
  }
  if (!found->second.committed) Write(absl::StrCat("seen committed ", id.ToString()));
  found->second.committed = true;
  return found->second;
}

bool History::Tagged(const CheckpointId& id) const {
  return std::any_of(tags_.begin(), tags_.end(), [&id](const auto& entry) {
    const Tag& tag = entry.second;
    return tag.holder == id ||
           std::find(tag.asked.begin(), tag.asked.end(), id) != tag.asked.end();
  });
}

bool History::AskDelete(const CheckpointId& id) {
  MutexLock lock(mutex_);
  if (Tagged(id)) return false;
  Write(absl::StrCat("ask to delete ", id.ToString()));
  attempts_.at(id).delete_asked = true;
  return true;
}

absl::Status History::DeleteAnswered(const CheckpointId& id, bool asked_before,
                                     const absl::Status& answer) {
  MutexLock lock(mutex_);
  Write(absl::StrCat("delete ", id.ToString(), " is answered: ", answer.ToString()));
  if (!answer.ok() && !absl::IsNotFound(answer)) return absl::OkStatus();
  const auto later = std::next(attempts_.find(id));
  const bool replaced = later != attempts_.end() && later->first.step == id.step;
  if (!answer.ok() && !asked_before && !replaced) {
    return absl::DataLossError(absl::StrCat(id.ToString(), " was listed and is not found: ",
                                            answer.message()));
  }
  attempts_.at(id).gone = true;
  return absl::OkStatus();
}

void History::AskTag(const std::string& tag, const CheckpointId& id) {
  MutexLock lock(mutex_);
  Write(absl::StrCat("ask to tag ", id.ToString(), " as ", tag));
  tags_[tag].asked.push_back(id);
}

void History::TagAnswered(const std::string& tag, const CheckpointId& id) {
  MutexLock lock(mutex_);
  Write(absl::StrCat("tagged ", id.ToString(), " as ", tag));
  tags_[tag] = Tag{.holder = id, .asked = {}};
}

void History::PowerCut() {
  MutexLock lock(mutex_);
  Write("power cut");
  ++power_cuts_;
  for (auto& [id, attempt] : attempts_) attempt.staged = attempt.staged && attempt.committed;
}

uint64_t History::power_cuts() const {
  MutexLock lock(mutex_);
  return power_cuts_;
}

absl::Status History::AtRest(const std::set<CheckpointId>& there) {
  MutexLock lock(mutex_);
  for (const CheckpointId& id : there) {
    if (!attempts_.contains(id)) {
      return absl::DataLossError(absl::StrCat("nobody saved ", id.ToString(), ", but it is there"));
    }
  }
  std::set<uint64_t> steps;
  for (const CheckpointId& id : there) steps.insert(id.step);
  std::set<CheckpointId> held;  // by a tag that nobody was just moving
  for (const auto& [name, tag] : tags_) {
    if (tag.holder.has_value() && tag.asked.empty()) held.insert(*tag.holder);
  }
  std::map<uint64_t, CheckpointId> newest;  // by step
  for (const auto& [id, attempt] : attempts_) {  // ascending
    if (attempt.committed || there.contains(id)) newest[id.step] = id;
  }
  for (auto& [id, attempt] : attempts_) {
    attempt.replaced = attempt.replaced || (newest.contains(id.step) && id < newest[id.step]);
    if (there.contains(id)) {
      if (attempt.gone) {
        return absl::DataLossError(
            absl::StrCat(id.ToString(), " was deleted, or missing once, and is there again"));
      }
      attempt.committed = true;
      attempt.delete_asked = false;
      continue;
    }
    const auto newer = std::distance(steps.upper_bound(id.step), steps.end());
    const bool may_be_retired = retention_ && !held.contains(id) &&
                                static_cast<size_t>(newer) >= kKept;
    const bool retired = attempt.promised() && !attempt.replaced && !attempt.gone && may_be_retired;
    retired_ += retired ? 1 : 0;
    if (attempt.promised() && !attempt.delete_asked && !attempt.replaced && !attempt.gone &&
        !may_be_retired) {
      return absl::DataLossError(absl::StrCat(
          id.ToString(), attempt.committed ? " was committed" : " was staged by all ranks",
          " and is lost"));
    }
    attempt.gone = true;
  }
  return absl::OkStatus();
}

absl::Status History::TagAtRest(const std::string& tag, const std::optional<CheckpointId>& holder) {
  MutexLock lock(mutex_);
  Tag& known = tags_[tag];
  const bool may = holder == known.holder ||
                   (holder.has_value() && std::find(known.asked.begin(), known.asked.end(),
                                                    *holder) != known.asked.end());
  if (!may) {
    return absl::DataLossError(absl::StrCat(
        "tag ", tag, " is on ", holder.has_value() ? holder->ToString() : "nothing", ", not on ",
        known.holder.has_value() ? known.holder->ToString() : "nothing"));
  }
  known = Tag{.holder = holder, .asked = {}};
  return absl::OkStatus();
}

uint64_t History::retired() const {
  MutexLock lock(mutex_);
  return retired_;
}

std::vector<Attempt> History::attempts() const {
  MutexLock lock(mutex_);
  std::vector<Attempt> all;
  for (const auto& [id, attempt] : attempts_) all.push_back(attempt);
  return all;
}

std::optional<Attempt> History::Find(const CheckpointId& id) const {
  MutexLock lock(mutex_);
  const auto found = attempts_.find(id);
  if (found == attempts_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::string> History::tags() const {
  MutexLock lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, tag] : tags_) names.push_back(name);
  return names;
}

}  // namespace ckpt::testing
