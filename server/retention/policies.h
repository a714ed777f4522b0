// Which policy holds for a run: the one that SetRetention gave it, else the first matching section
// of the policy file, else the flags', else none. Those of single runs are kept in the data folder
// (<data>/RETENTION), so that neither a restart nor a rebuilt index loses them. Thread-safe.
#ifndef CKPT_SERVER_RETENTION_POLICIES_H_
#define CKPT_SERVER_RETENTION_POLICIES_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/retention.pb.h"
#include "common/mutex.h"
#include "server/retention/policy_file.h"
#include "server/storage/data_folder.h"

namespace ckpt {

struct HoldingPolicy {
  v1::RetentionPolicy policy;
  v1::RetentionSource source = v1::RETENTION_SOURCE_NONE;
  std::string where;  // for people
};

class RetentionPolicies {
 public:
  // What the daemon was told at its start. `defaults` without a rule: there are none.
  struct Settings {
    v1::RetentionPolicy defaults;
    std::vector<RetentionSection> sections;
  };
  // Reads the policies of single runs; a file that is damaged is an error of every later call.
  RetentionPolicies(DataFolder* folder, Settings settings);

  // DATA_LOSS: the file is damaged, and what it said of this run is not known.
  absl::StatusOr<HoldingPolicy> Of(const std::string& run) const;
  // What holds where SetRetention gave the run none.
  HoldingPolicy Inherited(const std::string& run) const;
  // Durable when it returns. nullopt: none of its own any more. INVALID_ARGUMENT, DATA_LOSS,
  // RESOURCE_EXHAUSTED: more than kRetentionPoliciesMax.
  absl::Status Set(const std::string& run, const std::optional<v1::RetentionPolicy>& policy);
  // False where no run can have a rule.
  bool any() const;
  absl::Status status() const { return read_; }
  bool found() const { return found_; }  // there was such a file when this was made

 private:
  DataFolder* const folder_;
  const Settings settings_;
  absl::Status read_;
  bool found_ = false;
  mutable Mutex mutex_;
  v1::RetentionPolicies runs_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RETENTION_POLICIES_H_
