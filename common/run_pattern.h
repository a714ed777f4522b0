// Patterns on the names of runs, as they stand in files that an operator writes: * matches any run
// of characters but '/', ** any at all, ? one character.
#ifndef CKPT_COMMON_RUN_PATTERN_H_
#define CKPT_COMMON_RUN_PATTERN_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/glob.h"

namespace ckpt {

// Immutable; may be used from several threads.
class RunPattern {
 public:
  // INVALID_ARGUMENT: empty, too long, or a character that neither a run's name nor a pattern has.
  static absl::StatusOr<RunPattern> Parse(absl::string_view text);
  bool Matches(absl::string_view run) const;
  const std::string& text() const { return text_; }
  // What every run that matches begins with.
  absl::string_view LiteralPrefix() const;

 private:
  explicit RunPattern(absl::string_view text);
  std::string text_;
  Glob glob_;
};

}  // namespace ckpt

#endif  // CKPT_COMMON_RUN_PATTERN_H_
