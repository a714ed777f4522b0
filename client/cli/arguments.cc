#include "client/cli/arguments.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/nearest_names.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace ckpt::cli {
namespace {

const FlagSpec* FindFlag(absl::Span<const FlagSpec> own, absl::Span<const FlagSpec> common,
                         absl::string_view name) {
  for (const auto& flags : {own, common}) {
    for (const FlagSpec& flag : flags) {
      const bool by_letter = name.size() == 1 && flag.letter != 0 && flag.letter == name[0];
      if (by_letter || flag.name == name) return &flag;
    }
  }
  return nullptr;
}

absl::Status UnknownFlag(const CommandSpec& command, absl::Span<const FlagSpec> common,
                         absl::string_view word, absl::string_view name) {
  std::vector<std::string> names;
  for (const FlagSpec& flag : command.flags) names.push_back(flag.name);
  for (const FlagSpec& flag : common) names.push_back(flag.name);
  const std::vector<std::string> near = NearestNames(name, names, 1);
  return absl::InvalidArgumentError(
      absl::StrCat("unknown flag ", absl::Utf8SafeCEscape(word),
                   near.empty() ? "" : absl::StrCat(": did you mean --", near[0], "?")));
}

std::string Usage(const PositionalSpec& positional) {
  std::string text = positional.name;
  if (positional.count_max > 1) absl::StrAppend(&text, "...");
  return positional.count_min == 0 ? absl::StrCat("[", text, "]") : text;
}

absl::Status CheckPositionals(const CommandSpec& command, size_t given) {
  size_t least = 0;
  size_t most = 0;
  std::vector<std::string> usage;
  for (const PositionalSpec& positional : command.positionals) {
    least += positional.count_min;
    most = positional.count_max > SIZE_MAX - most ? SIZE_MAX : most + positional.count_max;
    usage.push_back(Usage(positional));
  }
  if (given >= least && given <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      given < least ? "too few arguments" : "too many arguments", ": usage is ckptctl ",
      command.name, usage.empty() ? "" : " ", absl::StrJoin(usage, " ")));
}

absl::Status CheckUtf8(absl::string_view name, absl::string_view value) {
  if (IsUtf8(value)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is not valid UTF-8: ", Quoted(value)));
}

// Each belongs to the last one described whose turn has come.
absl::Status CheckPositionalsUtf8(const CommandSpec& command,
                                  absl::Span<const std::string> positionals) {
  auto spec = command.positionals.begin();
  size_t used = 0;
  for (const std::string& positional : positionals) {
    if (used == spec->count_max) {
      ++spec;
      used = 0;
    }
    ++used;
    if (!spec->is_path) CKPT_RETURN_IF_ERROR(CheckUtf8(spec->name, positional));
  }
  return absl::OkStatus();
}

}  // namespace

bool Arguments::Has(absl::string_view flag) const { return flags_.contains(std::string(flag)); }

std::string Arguments::Get(absl::string_view flag, absl::string_view otherwise) const {
  const auto found = flags_.find(std::string(flag));
  return found == flags_.end() ? std::string(otherwise) : found->second.back();
}

std::vector<std::string> Arguments::All(absl::string_view flag) const {
  const auto found = flags_.find(std::string(flag));
  return found == flags_.end() ? std::vector<std::string>() : found->second;
}

absl::StatusOr<absl::Duration> Arguments::Duration(absl::string_view flag,
                                                   absl::Duration otherwise) const {
  if (!Has(flag)) return otherwise;
  absl::Duration duration;
  const std::string text = Get(flag);
  if (!absl::ParseDuration(text, &duration) || duration <= absl::ZeroDuration() ||
      duration == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag,
                     " must be a time greater than 0, such as 500ms, 30s, 5m or 1h30m, not \"",
                     absl::Utf8SafeCEscape(text), "\""));
  }
  return duration;
}

absl::StatusOr<uint64_t> Arguments::Number(absl::string_view flag, uint64_t otherwise) const {
  if (!Has(flag)) return otherwise;
  uint64_t number = 0;
  if (!absl::SimpleAtoi(Get(flag), &number)) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, " must be a whole number, not \"",
                                                   absl::Utf8SafeCEscape(Get(flag)), "\""));
  }
  return number;
}

absl::StatusOr<Arguments> ParseArguments(const CommandSpec& command,
                                         absl::Span<const FlagSpec> common,
                                         absl::Span<const std::string> words) {
  Arguments arguments;
  absl::Status error;
  const auto fail = [&error](absl::Status status) {
    if (error.ok()) error = std::move(status);
  };
  bool flags_ended = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const absl::string_view word = words[i];
    if (flags_ended || word.size() < 2 || word[0] != '-') {
      arguments.positionals_.emplace_back(word);
      continue;
    }
    if (word == "--") {
      flags_ended = true;
      continue;
    }
    const bool is_long = word[1] == '-';
    const size_t equals = is_long ? word.find('=') : 2;
    const absl::string_view name =
        is_long ? word.substr(2, equals == absl::string_view::npos ? equals : equals - 2)
                : word.substr(1, 1);
    const bool attached = is_long ? equals != absl::string_view::npos : word.size() > 2;
    const FlagSpec* flag = FindFlag(command.flags, common, name);
    if (flag == nullptr || (is_long && flag->name != name)) {
      fail(UnknownFlag(command, common, word, name));
      continue;
    }
    std::string value;
    if (flag->value.empty()) {
      if (attached)
        fail(absl::InvalidArgumentError(absl::StrCat(word, ": the flag takes no value")));
    } else if (attached) {
      value = std::string(word.substr(is_long ? equals + 1 : 2));
    } else if (i + 1 < words.size()) {
      value = words[++i];
    } else {
      fail(absl::InvalidArgumentError(absl::StrCat(word, " needs a value: ", flag->value)));
    }
    if (!flag->is_path) fail(CheckUtf8(absl::StrCat("--", flag->name), value));
    std::vector<std::string>& values = arguments.flags_[flag->name];
    if (!values.empty() && !flag->repeated && !flag->value.empty()) {
      fail(absl::InvalidArgumentError(absl::StrCat("--", flag->name, " is given twice")));
    }
    values.push_back(std::move(value));
  }
  if (arguments.Has("help")) return arguments;
  if (error.ok()) error = CheckPositionals(command, arguments.positionals_.size());
  if (error.ok()) error = CheckPositionalsUtf8(command, arguments.positionals_);
  if (!error.ok()) return error;
  return arguments;
}

std::string FlagHelp(absl::Span<const FlagSpec> flags) {
  std::vector<std::string> left;
  size_t width = 0;
  for (const FlagSpec& flag : flags) {
    std::string text = flag.letter != 0 ? absl::StrFormat("  -%c, --%s", flag.letter, flag.name)
                                        : absl::StrCat("      --", flag.name);
    if (!flag.value.empty()) absl::StrAppend(&text, " ", flag.value);
    width = std::max(width, text.size());
    left.push_back(std::move(text));
  }
  std::string help;
  for (size_t i = 0; i < left.size(); ++i) {
    absl::StrAppendFormat(&help, "%-*s  %s\n", static_cast<int>(width), left[i], flags[i].help);
  }
  return help;
}

std::string HelpText(const CommandSpec& command, absl::Span<const FlagSpec> common) {
  std::string help = absl::StrCat("ckptctl ", command.name);
  size_t width = 0;
  for (const PositionalSpec& positional : command.positionals) {
    absl::StrAppend(&help, " ", Usage(positional));
    width = std::max(width, positional.name.size());
  }
  absl::StrAppend(&help, " [flags]\n\n", command.summary, "\n");
  if (!command.positionals.empty()) absl::StrAppend(&help, "\n");
  for (const PositionalSpec& positional : command.positionals) {
    absl::StrAppendFormat(&help, "  %-*s  %s\n", static_cast<int>(width), positional.name,
                          positional.help);
  }
  if (!command.details.empty()) absl::StrAppend(&help, "\n", command.details, "\n");
  if (!command.flags.empty()) absl::StrAppend(&help, "\nFlags:\n", FlagHelp(command.flags));
  absl::StrAppend(&help, "\nFlags of every verb:\n", FlagHelp(common));
  return help;
}

}  // namespace ckpt::cli
