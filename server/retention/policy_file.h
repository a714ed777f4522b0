// The file of --retention-file: sections of rules, one for each kind of run.
//
//     # The first section whose pattern matches a run's name holds for it, and no other.
//     [team/eval-**]
//     keep-last = 10
//     [**]
//     keep-last = 3
//     keep-every = 10000
//
// Sections and patterns as in common/run_sections.h. A section without rules keeps everything.
#ifndef CKPT_SERVER_RETENTION_POLICY_FILE_H_
#define CKPT_SERVER_RETENTION_POLICY_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/retention.pb.h"
#include "common/run_pattern.h"

namespace ckpt {

struct RetentionSection {
  RunPattern pattern;
  v1::RetentionPolicy policy;
  std::string where;  // "/etc/ckptd-retention.conf:2 [team/*]"
};

// INVALID_ARGUMENT: it cannot be read, or the line that is wrong and why.
absl::StatusOr<std::vector<RetentionSection>> ReadRetentionFile(const std::string& path);
// The same of its text; `name` goes into errors.
absl::StatusOr<std::vector<RetentionSection>> ParseRetentionFile(absl::string_view text,
                                                                 const std::string& name);

}  // namespace ckpt

#endif  // CKPT_SERVER_RETENTION_POLICY_FILE_H_
