// In this order, each only over what the ones before have left open or kept by a rule:
//
//   1. what nothing may delete: newest, newest-of-launch, pinned, tagged, in-flight, common-step
//   2. the rules that keep: keep-last, keep-every, keep-best; no-rule where there is none of them
//   3. the rest is unlisted, and deleted
//   4. bounds take from 2: max-age, then max-bytes, the oldest first
#include "server/retention/rules.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/byte_size.h"
#include "common/retention_policy.h"

namespace ckpt {
namespace {

class Judgement {
 public:
  Judgement(const RunFacts& run, const v1::RetentionPolicy& policy)
      : run_(run),
        policy_(policy),
        verdicts_(run.checkpoints.size()),
        untouchable_(run.checkpoints.size(), false) {}

  std::vector<RetentionVerdict> Take() && {
    Protect();
    KeepByRules();
    DeleteUnlisted();
    BoundAge();
    BoundBytes();
    return std::move(verdicts_);
  }

 private:
  const CheckpointFacts& At(size_t i) const { return run_.checkpoints[i]; }
  size_t size() const { return run_.checkpoints.size(); }

  // The first reason stays.
  void Keep(size_t i, const char* rule, std::string reason) {
    if (verdicts_[i].rule.empty()) verdicts_[i] = {true, rule, std::move(reason)};
  }
  void Untouchable(size_t i, const char* rule, std::string reason) {
    untouchable_[i] = true;
    Keep(i, rule, std::move(reason));
  }

  void Protect() {
    ProtectNewest();
    for (size_t i = 0; i < size(); ++i) {
      const v1::Labels& labels = At(i).labels;
      if (labels.pinned()) Untouchable(i, "pinned", "pinned");
      if (labels.tags_size() > 0) {
        Untouchable(i, "tagged", absl::StrCat("tagged ", absl::StrJoin(labels.tags(), ", ")));
      }
    }
    ProtectPredecessors();
    ProtectCommonStep();
  }

  // What `latest` answers; and where the last launch began further back than an earlier one had
  // come, what that launch would lose.
  void ProtectNewest() {
    if (size() == 0) return;
    Untouchable(0, "newest", "the newest committed checkpoint");
    for (size_t i = 0; i < size(); ++i) {
      if (!At(i).whole) continue;
      Untouchable(i, "newest", "the newest committed checkpoint of a whole world");
      break;
    }
    Incarnation last;
    for (size_t i = 0; i < size(); ++i) last = std::max(last, At(i).incarnation);
    for (size_t i = 0; i < size(); ++i) {
      if (At(i).incarnation != last) continue;
      Untouchable(i, "newest-of-launch", "the newest that the last launch committed");
      break;
    }
  }

  void ProtectPredecessors() {
    for (const uint64_t step : run_.activity.steps_in_flight) {
      for (size_t i = 0; i < size(); ++i) {
        if (At(i).step > step) continue;
        Untouchable(i, "in-flight", absl::StrCat("step ", step, " is not durable yet"));
        break;
      }
    }
  }

  void ProtectCommonStep() {
    const std::optional<uint64_t> common = run_.activity.common_step;
    for (size_t i = 0; i < size(); ++i) {
      if (At(i).whole || (common.has_value() && At(i).step < *common)) continue;
      Untouchable(
          i, "common-step",
          common.has_value()
              ? absl::StrCat("a share of the world, not older than step ", *common,
                             " that its ranks agreed on")
              : "a share of the world, and which step its ranks agree on is not known here");
    }
  }

  bool HasKeepingRule() const {
    return policy_.keep_last() > 0 || policy_.keep_every() > 0 || policy_.has_keep_best();
  }

  void KeepByRules() {
    for (size_t i = 0; i < size(); ++i) {
      if (!HasKeepingRule()) Keep(i, "no-rule", "no rule of the policy says otherwise");
      if (i < policy_.keep_last()) {
        Keep(i, "keep-last",
             absl::StrCat("one of the newest ", policy_.keep_last(), " (keep-last)"));
      }
      if (policy_.keep_every() > 0 && At(i).step % policy_.keep_every() == 0) {
        Keep(i, "keep-every",
             absl::StrCat("a multiple of ", policy_.keep_every(), " (keep-every)"));
      }
    }
    if (policy_.has_keep_best()) KeepBest(policy_.keep_best());
  }

  void KeepBest(const v1::KeepBest& best) {
    std::vector<std::pair<double, size_t>> ranked;  // smallest first, of equal ones the newest
    for (size_t i = 0; i < size(); ++i) {
      const auto found = At(i).labels.metrics().find(best.metric());
      if (found == At(i).labels.metrics().end() || std::isnan(found->second)) continue;
      const bool smaller = best.direction() == v1::KeepBest::DIRECTION_MIN;
      ranked.emplace_back(smaller ? found->second : -found->second, i);
    }
    std::sort(ranked.begin(), ranked.end());
    for (size_t place = 0; place < ranked.size() && place < best.count(); ++place) {
      const size_t i = ranked[place].second;
      Keep(i, "keep-best",
           absl::StrCat("number ", place + 1, " by ", best.metric(), " = ",
                        At(i).labels.metrics().at(best.metric()), " (keep-best)"));
    }
  }

  void DeleteUnlisted() {
    for (RetentionVerdict& verdict : verdicts_) {
      if (verdict.rule.empty()) verdict = {false, "unlisted", "named by no rule that keeps"};
    }
  }

  void BoundAge() {
    if (!policy_.has_max_age()) return;
    const absl::Time oldest = run_.now - absl::Seconds(policy_.max_age().seconds());
    for (size_t i = 0; i < size(); ++i) {
      if (untouchable_[i] || !verdicts_[i].keep || At(i).committed_at >= oldest) continue;
      verdicts_[i] = {false, "max-age",
                      absl::StrCat("committed ", absl::FormatDuration(absl::Trunc(
                                       run_.now - At(i).committed_at, absl::Seconds(1))),
                                   " ago (max-age)")};
    }
  }

  void BoundBytes() {
    if (policy_.max_bytes() == 0) return;
    uint64_t bytes = 0;
    for (size_t i = 0; i < size(); ++i) {
      if (verdicts_[i].keep) bytes += At(i).bytes;
    }
    for (size_t i = size(); i-- > 0 && bytes > policy_.max_bytes();) {
      if (untouchable_[i] || !verdicts_[i].keep) continue;
      verdicts_[i] = {false, "max-bytes",
                      absl::StrCat("with it the run keeps ", PrintByteSize(bytes), " (max-bytes)")};
      bytes -= At(i).bytes;
    }
  }

  const RunFacts& run_;
  const v1::RetentionPolicy& policy_;
  std::vector<RetentionVerdict> verdicts_;
  std::vector<bool> untouchable_;
};

}  // namespace

std::vector<RetentionVerdict> JudgeCheckpoints(const RunFacts& run,
                                               const v1::RetentionPolicy& policy) {
  return Judgement(run, policy).Take();
}

}  // namespace ckpt
