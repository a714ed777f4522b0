#include "server/retention/policy_file.h"

#include "common/retention_policy.h"
#include "common/run_sections.h"
#include "common/status_macros.h"

namespace ckpt {

absl::StatusOr<std::vector<RetentionSection>> ParseRetentionFile(absl::string_view text,
                                                                 const std::string& name) {
  std::vector<v1::RetentionPolicy> policies;
  const auto set = [&policies](size_t section, absl::string_view rule, absl::string_view value) {
    if (policies.size() <= section) policies.resize(section + 1);
    return SetRetentionRule(rule, value, policies[section]);
  };
  CKPT_ASSIGN_OR_RETURN(const std::vector<RunSection> found, ParseRunSections(text, name, set));
  policies.resize(found.size());
  std::vector<RetentionSection> sections;
  for (size_t i = 0; i < found.size(); ++i) {
    sections.push_back(
        {.pattern = found[i].pattern, .policy = policies[i], .where = found[i].where});
  }
  return sections;
}

absl::StatusOr<std::vector<RetentionSection>> ReadRetentionFile(const std::string& path) {
  CKPT_ASSIGN_OR_RETURN(const std::string text, ReadRunSections("retention-file", path));
  return ParseRetentionFile(text, path);
}

}  // namespace ckpt
