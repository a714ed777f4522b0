// In this order, each only over what the ones before have left open or kept by a rule:
//
//   1. what nothing may delete: newest, newest-of-launch, pinned, tagged, in-flight, common-step
//   2. the rules that keep: keep-last, keep-every, keep-best; no-rule where there is none of them
//   3. the rest is unlisted, and deleted
//   4. bounds take from 2: max-age, then max-bytes, of damaged ones the oldest first, then of all
//
// A checkpoint that is known to be damaged fills no place: what 1, keep-last and keep-best say of
// the newest or the best so many, they say of undamaged ones, and of the damaged ones before these.
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

  // Untouchable: the first that `fits`, and where that is damaged the first that is not.
  template <typename Fits>
  void ProtectFirst(const char* rule, const std::string& reason, Fits fits) {
    bool sound_only = false;
    for (size_t i = 0; i < size(); ++i) {
      if (!fits(At(i)) || (sound_only && At(i).damaged)) continue;
      Untouchable(i, rule,
                  sound_only ? absl::StrCat(reason, " that is not known to be damaged") : reason);
      if (!At(i).damaged) return;
      sound_only = true;
    }
  }

  // What `latest` answers; and where the last launch began further back than an earlier one had
  // come, what that launch would lose.
  void ProtectNewest() {
    if (size() == 0) return;
    ProtectFirst("newest", "the newest committed checkpoint",
                 [](const CheckpointFacts&) { return true; });
    ProtectFirst("newest", "the newest committed checkpoint of a whole world",
                 [](const CheckpointFacts& facts) { return facts.whole; });
    Incarnation last;
    for (size_t i = 0; i < size(); ++i) last = std::max(last, At(i).incarnation);
    ProtectFirst("newest-of-launch", "the newest that the last launch committed",
                 [&](const CheckpointFacts& facts) { return facts.incarnation == last; });
  }

  void ProtectPredecessors() {
    for (const uint64_t step : run_.activity.steps_in_flight) {
      ProtectFirst("in-flight", absl::StrCat("until step ", step, " is durable, the last up to it"),
                   [&](const CheckpointFacts& facts) { return facts.step <= step; });
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

  // Of a checkpoint that a rule counts: a damaged one is kept with those that do.
  std::string Uncounted(size_t i, std::string reason) const {
    return At(i).damaged ? absl::StrCat("damaged, and not counted as ", reason) : reason;
  }

  void KeepByRules() {
    uint64_t newest = 0;  // of keep-last
    for (size_t i = 0; i < size(); ++i) {
      if (!HasKeepingRule()) Keep(i, "no-rule", "no rule of the policy says otherwise");
      if (newest < policy_.keep_last()) {
        Keep(i, "keep-last",
             Uncounted(i, absl::StrCat("one of the newest ", policy_.keep_last(), " (keep-last)")));
        if (!At(i).damaged) ++newest;
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
    uint64_t places = 0;
    for (const auto& [value, i] : ranked) {
      if (places == best.count()) break;
      Keep(i, "keep-best",
           Uncounted(i, absl::StrCat("number ", places + 1, " by ", best.metric(), " = ",
                                     At(i).labels.metrics().at(best.metric()), " (keep-best)")));
      if (!At(i).damaged) ++places;
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
    for (const bool damaged_only : {true, false}) {
      for (size_t i = size(); i-- > 0 && bytes > policy_.max_bytes();) {
        if (untouchable_[i] || !verdicts_[i].keep || (damaged_only && !At(i).damaged)) continue;
        verdicts_[i] = {false, "max-bytes",
                        absl::StrCat("with it the run keeps ", PrintByteSize(bytes),
                                     " (max-bytes)", At(i).damaged ? "; it is damaged" : "")};
        bytes -= At(i).bytes;
      }
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
