// A retention policy as people write it, one `rule = value` at a time: in ckptd's flags and policy
// file, and on ckptctl's command line. What the rules mean stands in retention.proto.
#ifndef CKPT_COMMON_RETENTION_POLICY_H_
#define CKPT_COMMON_RETENTION_POLICY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/retention.pb.h"

namespace ckpt {

struct RetentionRule {
  const char* name;   // keep-last
  const char* value;  // N
  const char* help;
};
// keep-last, keep-every, keep-best, max-bytes, max-age.
const std::vector<RetentionRule>& RetentionRules();

// Sets one rule. INVALID_ARGUMENT says what was expected and what came; NOT_FOUND: no such rule.
absl::Status SetRetentionRule(absl::string_view rule, absl::string_view value,
                              v1::RetentionPolicy& policy);

// INVALID_ARGUMENT: what came over the wire is no policy.
absl::Status ValidateRetentionPolicy(const v1::RetentionPolicy& policy);
// 1-100 bytes of [A-Za-z0-9._/-].
absl::Status ValidateMetricName(absl::string_view name);

// Every rule as SetRetentionRule takes it, {name, value}.
std::vector<std::pair<std::string, std::string>> PrintRetentionRules(
    const v1::RetentionPolicy& policy);
// "keep-last 3, max-age 30d"; "keep everything" where there is no rule.
std::string PrintRetentionPolicy(const v1::RetentionPolicy& policy);

}  // namespace ckpt

#endif  // CKPT_COMMON_RETENTION_POLICY_H_
