#include "server/retention/policies.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/checkpoint_id.h"
#include "common/limits.h"
#include "common/retention_policy.h"
#include "common/status_macros.h"
#include "server/storage/names.h"

namespace ckpt {
namespace {

bool HasRules(const v1::RetentionPolicy& policy) { return !PrintRetentionRules(policy).empty(); }

}  // namespace

RetentionPolicies::RetentionPolicies(DataFolder* folder, Settings settings)
    : folder_(folder), settings_(std::move(settings)) {
  absl::StatusOr<std::optional<v1::RetentionPolicies>> read = folder_->ReadRetention();
  MutexLock lock(mutex_);
  if (read.ok()) {
    found_ = read->has_value();
    if (found_) runs_ = **std::move(read);
    return;
  }
  found_ = true;
  read_ =
      absl::Status(read.status().code(),
                   absl::StrCat(read.status().message(),
                                "; no checkpoint is deleted by retention meanwhile: put ",
                                "the file back; or stop ckptd, remove ", folder_->path(), "/",
                                names::kRetention, ", start it, set the policies of single runs ",
                                "again and say `ckptctl retention confirm`"));
}

absl::StatusOr<HoldingPolicy> RetentionPolicies::Of(const std::string& run) const {
  CKPT_RETURN_IF_ERROR(read_);
  {
    MutexLock lock(mutex_);
    const auto found = runs_.runs().find(run);
    if (found != runs_.runs().end()) {
      return HoldingPolicy{found->second, v1::RETENTION_SOURCE_RUN, "set for this run"};
    }
  }
  return Inherited(run);
}

HoldingPolicy RetentionPolicies::Inherited(const std::string& run) const {
  for (const RetentionSection& section : settings_.sections) {
    if (section.pattern.Matches(run)) {
      return HoldingPolicy{section.policy, v1::RETENTION_SOURCE_FILE, section.where};
    }
  }
  if (HasRules(settings_.defaults)) {
    return HoldingPolicy{settings_.defaults, v1::RETENTION_SOURCE_FLAGS, "ckptd's flags"};
  }
  return HoldingPolicy{.where = "no policy was set"};
}

absl::Status RetentionPolicies::Set(const std::string& run,
                                    const std::optional<v1::RetentionPolicy>& policy) {
  CKPT_RETURN_IF_ERROR(ValidateRun(run));
  if (policy.has_value()) CKPT_RETURN_IF_ERROR(ValidateRetentionPolicy(*policy));
  CKPT_RETURN_IF_ERROR(read_);
  MutexLock lock(mutex_);
  v1::RetentionPolicies changed = runs_;
  if (policy.has_value()) {
    (*changed.mutable_runs())[run] = *policy;
  } else if (changed.mutable_runs()->erase(run) == 0) {
    return absl::OkStatus();
  }
  if (changed.runs_size() > static_cast<int>(kRetentionPoliciesMax)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("at most ", kRetentionPoliciesMax,
                     " runs have policies of their own: unset some, or use --retention-file"));
  }
  CKPT_RETURN_IF_ERROR(folder_->WriteRetention(changed));
  runs_ = std::move(changed);
  return absl::OkStatus();
}

bool RetentionPolicies::any() const {
  if (!read_.ok()) return false;
  if (HasRules(settings_.defaults)) return true;
  for (const RetentionSection& section : settings_.sections) {
    if (HasRules(section.policy)) return true;
  }
  MutexLock lock(mutex_);
  return std::any_of(runs_.runs().begin(), runs_.runs().end(),
                     [](const auto& entry) { return HasRules(entry.second); });
}

}  // namespace ckpt
