#include "common/run_pattern.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/limits.h"

namespace ckpt {
namespace {

// Globs divide keys at '.'; runs are divided at '/', and may have dots in them.
std::string AsKey(absl::string_view run) {
  std::string key(run);
  for (char& c : key) c = c == '/' ? '.' : c == '.' ? '/' : c;
  return key;
}

}  // namespace

RunPattern::RunPattern(absl::string_view text) : text_(text), glob_(AsKey(text)) {}

absl::StatusOr<RunPattern> RunPattern::Parse(absl::string_view text) {
  bool good = !text.empty() && text.size() <= kRunBytesMax;
  for (const char c : text.substr(0, kRunBytesMax)) {
    good = good && (absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-' || c == '/' ||
                    c == '*' || c == '?');
  }
  if (good) return RunPattern(text);
  return absl::InvalidArgumentError(
      absl::StrCat("a pattern is at most ", kRunBytesMax,
                   " letters, digits, '.', '_', '-', '/', '*' and '?', got '",
                   absl::CHexEscape(text.substr(0, 100)), "'"));
}

bool RunPattern::Matches(absl::string_view run) const { return glob_.Matches(AsKey(run)); }

absl::string_view RunPattern::LiteralPrefix() const {
  return absl::string_view(text_).substr(0, text_.find_first_of("*?"));
}

}  // namespace ckpt
