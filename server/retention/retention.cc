#include "server/retention/retention.h"

#include <utility>

#include "common/retention_policy.h"
#include "common/status_macros.h"
#include "google/protobuf/util/time_util.h"
#include "server/observe/log.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

constexpr size_t kDeletionsAtOnce = 8;  // before the lock is given to others

absl::StatusOr<CheckpointFacts> FactsOf(const CheckpointRecord& record) {
  const v1::CheckpointManifest& manifest = record.manifest;
  CheckpointFacts facts;
  CKPT_ASSIGN_OR_RETURN(facts.uid,
                        CheckpointUid::FromBytes(manifest.checkpoint_uid(), "checkpoint_uid"));
  CKPT_ASSIGN_OR_RETURN(facts.incarnation,
                        Incarnation::FromBytes(manifest.id().incarnation(), "incarnation"));
  facts.step = manifest.id().step();
  facts.bytes = record.data_bytes;
  facts.committed_at = absl::FromUnixNanos(
      google::protobuf::util::TimeUtil::TimestampToNanoseconds(manifest.committed_at()));
  facts.whole = static_cast<uint32_t>(manifest.share_size()) == manifest.world_size();
  facts.labels = record.labels;
  return facts;
}

}  // namespace

Retention::Retention(RetentionOptions options)
    : options_(std::move(options)), policies_(options_.folder, options_.settings) {
  if (!policies_.status().ok()) {
    observe::Error("the policies of single runs cannot be read", {{"error", policies_.status()}});
  }
  if (const absl::Status checked = CheckPolicies(); !checked.ok()) {
    observe::Error("the index could not be told of policies", {{"error", checked}});
  }
}

absl::Status Retention::CheckPolicies() {
  CKPT_ASSIGN_OR_RETURN(const bool known, options_.index->KnowsPolicies());
  if (policies_.found() == known) return absl::OkStatus();
  if (policies_.found()) return options_.index->SetKnowsPolicies(true);
  policies_lost_ = true;
  observe::Error(
      "the policies of single runs have gone: no checkpoint is deleted by retention until they "
      "were "
      "set again, or ckptd was started with their file, and somebody says `ckptctl retention "
      "confirm`",
      {{"file", names::kRetention}});
  return options_.index->AwaitConfirmation();
}

absl::StatusOr<bool> Retention::AwaitsConfirmation() const {
  if (policies_lost_) return true;
  return options_.index->AwaitsConfirmation();
}

Retention::~Retention() { Stop(); }

void Retention::Start(Surroundings surroundings) {
  surroundings_ = std::move(surroundings);
  const absl::StatusOr<bool> awaits = AwaitsConfirmation();
  if (awaits.value_or(false)) {
    observe::Warning(
        "the index was made anew from the manifests, or the policies of single runs have gone: "
        "retention deletes nothing until somebody has looked at the checkpoints and what holds for "
        "them, and says `ckptctl retention confirm`");
  }
  thread_ = std::thread([this] { Run(); });
}

void Retention::Stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    wake_.NotifyAll();
    looked_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool Retention::stopped() {
  MutexLock lock(mutex_);
  return stopped_;
}

void Retention::RunChanged(const std::string& run) {
  MutexLock lock(mutex_);
  changed_.insert(run);
  wake_.NotifyOne();
}

DiskRoom Retention::MakeRoom() {
  if (!policies_.any() || AwaitsConfirmation().value_or(true)) return DiskRoom::kNone;
  MutexLock lock(mutex_);
  if (stopped_) return DiskRoom::kNone;
  const uint64_t mine = ++asked_;
  wake_.NotifyOne();
  while (done_ < mine && !stopped_) looked_.Wait(mutex_);
  if (stopped_) return DiskRoom::kNone;
  return made_at_ >= mine ? DiskRoom::kMade : DiskRoom::kNotNow;
}

void Retention::Run() {
  while (true) {
    std::set<std::string> runs;
    uint64_t asked = 0;
    bool all = false;
    {
      MutexLock lock(mutex_);
      const absl::Time next = absl::Now() + options_.look_again;
      while (!stopped_ && !all_ && changed_.empty() && asked_ == done_) {
        if (!wake_.WaitUntil(mutex_, next)) all_ = true;
      }
      if (stopped_) return;
      asked = asked_;
      all = std::exchange(all_, false) || asked_ > done_;
      runs.swap(changed_);
    }
    if (all) runs = AllRuns();
    const bool made = LookAt(runs);
    options_.persister->LookAtBallast();
    MutexLock lock(mutex_);
    done_ = asked;
    if (made) made_at_ = asked;
    looked_.NotifyAll();
  }
}

std::set<std::string> Retention::AllRuns() {
  std::set<std::string> runs;
  if (!policies_.any()) return runs;
  const absl::Status listed = options_.index->ForEachRun("", "", [&](const v1::RunInfo& info) {
    runs.insert(info.run());
    return true;
  });
  if (!listed.ok()) observe::Warning("retention could not list the runs", {{"error", listed}});
  return runs;
}

bool Retention::LookAt(const std::set<std::string>& runs) {
  bool made = false;
  for (const std::string& run : runs) {
    absl::StatusOr<uint64_t> deleted = Trim(run);
    while (absl::IsResourceExhausted(deleted.status()) && options_.persister->AwaitRoom()) {
      deleted = Trim(run);
    }
    if (deleted.ok()) {
      made = made || *deleted > 0;
      continue;
    }
    observe::Warning("retention failed, and is tried again",
                     {{"run", run}, {"error", deleted.status()}});
  }
  return made;
}

absl::StatusOr<RunFacts> Retention::Gather(const std::string& run) const {
  RunFacts facts;
  // Before the index: one that commits in between only protects more.
  if (surroundings_.activity != nullptr) facts.activity = surroundings_.activity(run);
  facts.now = options_.now();
  absl::Status bad;
  CKPT_RETURN_IF_ERROR(options_.index->ForEachCheckpoint(
      run, std::nullopt, [&](const CheckpointRecord& record) {
        absl::StatusOr<CheckpointFacts> one = FactsOf(record);
        if (one.ok()) {
          one->damaged = surroundings_.damaged != nullptr && surroundings_.damaged(one->uid);
          facts.checkpoints.push_back(*std::move(one));
        } else {
          bad = one.status();
        }
        return bad.ok();
      }));
  CKPT_RETURN_IF_ERROR(bad);
  return facts;
}

absl::StatusOr<uint64_t> Retention::Trim(const std::string& run) {
  uint64_t deleted = 0;
  // Until nothing is left to delete: an attempt that was replaced and stayed for its tag comes to
  // light when the one that replaced it goes.
  size_t now = 1;
  while (now > 0) {
    now = 0;
    if (stopped()) return deleted;
    MutexLock lock(changing_);
    CKPT_ASSIGN_OR_RETURN(const bool awaits, AwaitsConfirmation());
    if (awaits) return deleted;
    CKPT_ASSIGN_OR_RETURN(const HoldingPolicy holding, policies_.Of(run));
    if (PrintRetentionRules(holding.policy).empty()) return deleted;
    CKPT_ASSIGN_OR_RETURN(const RunFacts facts, Gather(run));
    const std::vector<RetentionVerdict> verdicts = JudgeCheckpoints(facts, holding.policy);
    for (size_t i = verdicts.size(); i-- > 0 && now < kDeletionsAtOnce;) {  // the oldest first
      if (verdicts[i].keep || !MayGo(facts.checkpoints[i], run)) continue;
      CKPT_RETURN_IF_ERROR(Delete(facts.checkpoints[i], run, verdicts[i]));
      ++deleted;
      ++now;
    }
  }
  return deleted;
}

bool Retention::MayGo(const CheckpointFacts& facts, const std::string& run) {
  const absl::StatusOr<v1::Labels> labels = options_.folder->ReadLabels(facts.uid);
  if (labels.ok() && !labels->pinned() && labels->tags().empty()) return true;
  observe::Warning("kept by retention: its labels do not read, or say other than the index",
                   {{"run", run}, {"step", facts.step}, {"error", labels.status()}});
  return false;
}

absl::Status Retention::Delete(const CheckpointFacts& facts, const std::string& run,
                               const RetentionVerdict& verdict) {
  const absl::StatusOr<CheckpointRecord> record = options_.index->GetCheckpoint(facts.uid);
  if (absl::IsNotFound(record.status())) return absl::OkStatus();  // replaced meanwhile
  CKPT_RETURN_IF_ERROR(record.status());
  const absl::Status deleted = options_.persister->Delete(facts.uid);
  // Hidden, though perhaps not all of its files are gone: the next start sees to them.
  if (absl::IsNotFound(options_.index->GetCheckpoint(facts.uid).status())) {
    if (surroundings_.deleted != nullptr) surroundings_.deleted(*record);
    observe::Info("checkpoint deleted by retention", {{"run", run},
                                                      {"step", facts.step},
                                                      {"uid", facts.uid.hex()},
                                                      {"bytes", facts.bytes},
                                                      {"rule", verdict.rule},
                                                      {"reason", verdict.reason}});
  }
  return absl::IsNotFound(deleted) ? absl::OkStatus() : deleted;
}

absl::StatusOr<RetentionPlan> Retention::Plan(
    const std::string& run, const std::optional<v1::RetentionPolicy>& policy) const {
  RetentionPlan plan;
  if (policy.has_value()) {
    CKPT_RETURN_IF_ERROR(ValidateRetentionPolicy(*policy));
    plan.holding = {*policy, v1::RETENTION_SOURCE_UNSPECIFIED, "asked for"};
  } else {
    CKPT_ASSIGN_OR_RETURN(plan.holding, policies_.Of(run));
  }
  CKPT_ASSIGN_OR_RETURN(plan.awaits_confirmation, AwaitsConfirmation());
  CKPT_ASSIGN_OR_RETURN(RunFacts facts, Gather(run));
  plan.verdicts = JudgeCheckpoints(facts, plan.holding.policy);
  plan.checkpoints = std::move(facts.checkpoints);
  return plan;
}

absl::Status Retention::SetPolicy(const std::string& run,
                                  const std::optional<v1::RetentionPolicy>& policy) {
  {
    MutexLock lock(changing_);  // not while the old one is being carried out
    // Else the next start finds a file, and misses nothing.
    if (policies_lost_) CKPT_RETURN_IF_ERROR(options_.index->AwaitConfirmation());
    CKPT_RETURN_IF_ERROR(policies_.Set(run, policy));
  }
  // The next start does so otherwise.
  if (const absl::Status known = options_.index->SetKnowsPolicies(true); !known.ok()) {
    observe::Warning("the index could not be told of policies", {{"error", known}});
  }
  observe::Info(
      "retention policy of a run set",
      {{"run", run},
       {"policy", policy.has_value() ? PrintRetentionPolicy(*policy) : "none of its own"}});
  RunChanged(run);
  return absl::OkStatus();
}

absl::StatusOr<bool> Retention::Confirm() {
  CKPT_ASSIGN_OR_RETURN(const bool awaited, AwaitsConfirmation());
  if (!awaited) return false;
  if (policies_lost_) {
    CKPT_ASSIGN_OR_RETURN(const auto policies, options_.folder->ReadRetention());
    CKPT_RETURN_IF_ERROR(options_.index->SetKnowsPolicies(policies.has_value()));
  }
  CKPT_RETURN_IF_ERROR(options_.index->Confirm());
  policies_lost_ = false;
  observe::Info("what is listed was confirmed: retention is on");
  MutexLock lock(mutex_);
  all_ = true;
  wake_.NotifyOne();
  return true;
}

}  // namespace ckpt
