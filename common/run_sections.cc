#include "common/run_sections.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ckpt {
namespace {

constexpr size_t kSectionFileBytesMax = 1 << 20;

}  // namespace

absl::StatusOr<std::vector<RunSection>> ParseRunSections(
    absl::string_view text, const std::string& name,
    absl::FunctionRef<absl::Status(size_t section, absl::string_view rule, absl::string_view value)>
        set) {
  std::vector<RunSection> sections;
  std::set<std::string> patterns;
  std::set<std::string> rules;  // of the last section
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const std::string where = absl::StrCat(name, ":", number);
    const auto wrong = [&where](absl::string_view what) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": ", what));
    };
    if (line.front() == '[') {
      if (line.back() != ']') return wrong("a section is [PATTERN]");
      const absl::string_view pattern =
          absl::StripAsciiWhitespace(line.substr(1, line.size() - 2));
      absl::StatusOr<RunPattern> parsed = RunPattern::Parse(pattern);
      if (!parsed.ok()) return wrong(parsed.status().message());
      if (!patterns.insert(std::string(pattern)).second) {
        return wrong(absl::StrCat("a second section [", pattern, "], which would never be used"));
      }
      sections.push_back({.pattern = *std::move(parsed),
                          .where = absl::StrCat(where, " [", pattern, "]")});
      rules.clear();
      continue;
    }
    const size_t equals = line.find('=');
    if (equals == absl::string_view::npos) {
      return wrong(absl::StrCat("expected [PATTERN] or `rule = value`, got '",
                                absl::CHexEscape(line.substr(0, 100)), "'"));
    }
    if (sections.empty()) return wrong("a rule before the first section; begin with [**]");
    const std::string rule(absl::StripAsciiWhitespace(line.substr(0, equals)));
    const absl::Status given =
        set(sections.size() - 1, rule, absl::StripAsciiWhitespace(line.substr(equals + 1)));
    if (absl::IsNotFound(given)) return wrong(given.message());
    if (!given.ok()) return wrong(absl::StrCat(rule, ": ", given.message()));
    if (!rules.insert(rule).second) return wrong(absl::StrCat(rule, " is given twice"));
  }
  return sections;
}

absl::StatusOr<std::string> ReadRunSections(absl::string_view setting, const std::string& path) {
  std::error_code error;
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  const int why = errno;
  std::stringstream content;
  const bool is_folder = std::filesystem::is_directory(path, error);
  // Nothing in it: streaming nothing out of a file counts as a failure.
  const bool is_empty = !is_folder && file && file.peek() == std::ifstream::traits_type::eof();
  if (!is_empty && (is_folder || !file || !(content << file.rdbuf()))) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", setting, ": ", path,
                     is_folder ? " is a folder"
                               : absl::StrCat(" cannot be read", why == 0 ? "" : ": ",
                                              why == 0 ? "" : std::strerror(why))));
  }
  if (content.str().size() > kSectionFileBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("--", setting, ": ", path, " is too long"));
  }
  return content.str();
}

}  // namespace ckpt
