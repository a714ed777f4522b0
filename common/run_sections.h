// A file of sections, each for the runs whose names match its pattern:
//
//     # The first section whose pattern matches a run's name holds for it, and no other.
//     [team/eval-**]
//     rule = value
//     [**]
//     rule = value
//
// Patterns are those of common/run_pattern.h. What the rules are is the caller's.
#ifndef CKPT_COMMON_RUN_SECTIONS_H_
#define CKPT_COMMON_RUN_SECTIONS_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/run_pattern.h"

namespace ckpt {

struct RunSection {
  RunPattern pattern;
  std::string where;  // "/etc/ckptd-retention.conf:2 [team/*]"
};

// Calls `set` for each rule, with the number of its section: NOT_FOUND there means that there is no
// such rule. INVALID_ARGUMENT: the line that is wrong, and why; `name` is what it is called.
absl::StatusOr<std::vector<RunSection>> ParseRunSections(
    absl::string_view text, const std::string& name,
    absl::FunctionRef<absl::Status(size_t section, absl::string_view rule, absl::string_view value)>
        set);
// The text of such a file, at most 1 MiB. INVALID_ARGUMENT: it cannot be read; names `setting`.
absl::StatusOr<std::string> ReadRunSections(absl::string_view setting, const std::string& path);

}  // namespace ckpt

#endif  // CKPT_COMMON_RUN_SECTIONS_H_
