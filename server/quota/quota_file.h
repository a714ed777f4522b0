// The file of --quota-file:
//
//     [team-a/**]
//     disk-bytes = 2TiB
//     memory-bytes = 8GiB
//     checkpoints = 1000
//     open-saves = 4
//
// Sections and patterns as in common/run_sections.h; a limit holds for all runs of its section
// together, what is not named is not limited.
#ifndef CKPT_SERVER_QUOTA_QUOTA_FILE_H_
#define CKPT_SERVER_QUOTA_QUOTA_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/quota/quotas.h"

namespace ckpt {

// INVALID_ARGUMENT: it cannot be read, or the line that is wrong and why.
absl::StatusOr<std::vector<QuotaSection>> ReadQuotaFile(const std::string& path);
// The same of its text; `name` goes into errors.
absl::StatusOr<std::vector<QuotaSection>> ParseQuotaFile(absl::string_view text,
                                                         const std::string& name);

}  // namespace ckpt

#endif  // CKPT_SERVER_QUOTA_QUOTA_FILE_H_
