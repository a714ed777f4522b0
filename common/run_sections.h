// A file of sections, each for the runs whose names match its pattern:
//
//     # The first section whose pattern matches a run's name holds for it, and no other.
//     [team/eval-**]
//     rule = value
//     [**]
//     rule = value
//
// In a pattern * is any run of characters but '/', ** any at all, ? one character. What the rules
// are is the caller's.
#ifndef CKPT_COMMON_RUN_SECTIONS_H_
#define CKPT_COMMON_RUN_SECTIONS_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/glob.h"

namespace ckpt {

struct RunSection {
  std::string pattern;
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

// A pattern made ready for many runs. Immutable.
class RunPattern {
 public:
  explicit RunPattern(absl::string_view pattern);
  bool Matches(absl::string_view run) const;

 private:
  Glob glob_;
};
bool RunMatches(absl::string_view pattern, absl::string_view run);
// What every run that matches begins with.
absl::string_view LiteralPrefix(absl::string_view pattern);

}  // namespace ckpt

#endif  // CKPT_COMMON_RUN_SECTIONS_H_
