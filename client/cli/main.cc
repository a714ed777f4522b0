// ckptctl: the online tool. A caller of the daemon's gRPC services like any other; it never opens a
// data folder (ckptutil does that, offline).
#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/arguments.h"
#include "client/cli/connection.h"
#include "client/cli/exit_code.h"
#include "client/cli/output.h"
#include "client/cli/terminal.h"
#include "client/cli/verb.h"
#include "common/key.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

const std::vector<Verb>& Verbs() {
  static const auto* const verbs = new std::vector<Verb>{RunLs(),
                                                         CheckpointLs(),
                                                         CheckpointShow(),
                                                         CheckpointDiff(),
                                                         CheckpointWait(),
                                                         CheckpointWatch(),
                                                         CheckpointTag(),
                                                         CheckpointRm(),
                                                         CheckpointExport(),
                                                         CheckpointImport(),
                                                         CheckpointVerify(),
                                                         TensorLs(),
                                                         Health(),
                                                         Status(),
                                                         Drain()};
  return *verbs;
}

const std::vector<FlagSpec>& CommonFlags() {
  static const auto* const flags = new std::vector<FlagSpec>{
      {.name = "output",
       .value = "FORMAT",
       .help = "table (default), json or jsonl",
       .letter = 'o'},
      {.name = "socket",
       .value = "PATH",
       .help = "the daemon's socket; default $CKPTD_SOCKET, then /run/ckptd/ckptd.sock"},
      {.name = "timeout", .value = "TIME", .help = "give up after 30s, 5m, ... with exit code 7"},
      {.name = "help", .help = "this text", .letter = 'h'}};
  return *flags;
}

std::string GeneralHelp() {
  std::string help =
      "ckptctl looks at and manages the checkpoints of a running ckptd.\n\n"
      "Usage: ckptctl VERB [arguments] [flags]\n\n"
      "A checkpoint is named RUN@STEP, RUN@latest, RUN@latest-valid or RUN@TAG.\n\nVerbs:\n";
  for (const Verb& verb : Verbs()) {
    absl::StrAppendFormat(&help, "  %-19s %s\n", verb.command.name, verb.command.summary);
  }
  absl::StrAppend(&help, "\nFlags of every verb:\n", FlagHelp(CommonFlags()),
                  "\nckptctl VERB --help tells about one verb.\n\n", kExitCodeHelp);
  return help;
}

// Flags may stand before the verb: ckptctl -o json run ls. Returns where the verb begins.
size_t SkipFlags(const std::vector<std::string>& words) {
  size_t i = 0;
  while (i < words.size() && words[i].size() > 1 && words[i][0] == '-') {
    const std::string& word = words[i];
    const bool valued =
        word == "-o" || word == "--output" || word == "--socket" || word == "--timeout";
    i += valued ? 2 : 1;
  }
  return std::min(i, words.size());
}

// The verb that begins at words[at], and how many words name it.
const Verb* FindVerb(const std::vector<std::string>& words, size_t at, size_t& name_words) {
  const std::string one = words[at];
  const std::string two = at + 1 < words.size() ? absl::StrCat(one, " ", words[at + 1]) : one;
  for (const Verb& verb : Verbs()) {
    if (verb.command.name != one && verb.command.name != two) continue;
    name_words = verb.command.name == two && two != one ? 2 : 1;
    return &verb;
  }
  return nullptr;
}

bool AsksForHelp(const std::vector<std::string>& words) {
  return std::any_of(words.begin(), words.end(),
                     [](const std::string& word) { return word == "--help" || word == "-h"; });
}

// "checkpoint --help", "checkpoint -h", "--help checkpoint": the verbs of a group. Empty: something
// else was asked.
std::string GroupHelp(const std::vector<std::string>& words, size_t at) {
  const bool names_verb = at + 1 < words.size() && !absl::StartsWith(words[at + 1], "-");
  if (names_verb || !AsksForHelp(words)) return "";
  std::string help;
  for (const Verb& verb : Verbs()) {
    if (!absl::StartsWith(verb.command.name, words[at] + " ")) continue;
    absl::StrAppendFormat(&help, "  %-19s %s\n", verb.command.name, verb.command.summary);
  }
  if (help.empty()) return "";
  return absl::StrCat("Usage: ckptctl ", words[at], " VERB [arguments] [flags]\n\nVerbs:\n", help,
                      "\nckptctl ", words[at], " VERB --help tells about one verb.\n");
}

absl::Status UnknownVerb(const std::vector<std::string>& words, size_t at) {
  std::vector<std::string> names;
  std::vector<std::string> of_group;
  for (const Verb& verb : Verbs()) {
    names.push_back(verb.command.name);
    if (absl::StartsWith(verb.command.name, words[at] + " ")) of_group.push_back(verb.command.name);
  }
  if (!of_group.empty() && at + 1 >= words.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(words[at], " needs a verb: ", absl::StrJoin(of_group, ", ")));
  }
  const std::string given =
      at + 1 < words.size() ? absl::StrCat(words[at], " ", words[at + 1]) : words[at];
  std::vector<std::string> near = NearestNames(given, names, 1);
  if (near.empty()) near = NearestNames(words[at], names, 1);
  return absl::InvalidArgumentError(
      absl::StrCat("unknown verb \"", absl::Utf8SafeCEscape(given), "\"",
                   near.empty() ? "" : absl::StrCat(": did you mean \"", near[0], "\"?"),
                   " (ckptctl --help lists them)"));
}

absl::StatusOr<ExitCode> RunVerb(const Verb& verb, const Arguments& arguments) {
  CKPT_ASSIGN_OR_RETURN(const OutputFormat format,
                        ParseOutputFormat(arguments.Get("output", "table")));
  CKPT_ASSIGN_OR_RETURN(const absl::Duration timeout,
                        arguments.Duration("timeout", verb.default_timeout));
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Connection> connection,
                        Connection::Make(arguments.Get("socket"), timeout));
  VerbContext context{arguments, format, *connection};
  return verb.run(context);
}

absl::StatusOr<ExitCode> Main(std::vector<std::string> words) {
  const size_t at = SkipFlags(words);
  if (at == words.size()) {
    const bool asked = AsksForHelp(words);
    std::fputs(GeneralHelp().c_str(), asked ? stdout : stderr);
    return asked ? kExitOk : kExitUsage;
  }
  if (words[at] == "help") {
    std::fputs(GeneralHelp().c_str(), stdout);
    return kExitOk;
  }
  size_t name_words = 0;
  const Verb* verb = FindVerb(words, at, name_words);
  if (verb == nullptr) {
    const std::string help = GroupHelp(words, at);
    if (help.empty()) return UnknownVerb(words, at);
    std::fputs(help.c_str(), stdout);
    return kExitOk;
  }
  words.erase(words.begin() + static_cast<ptrdiff_t>(at),
              words.begin() + static_cast<ptrdiff_t>(at + name_words));
  CKPT_ASSIGN_OR_RETURN(const Arguments arguments,
                        ParseArguments(verb->command, CommonFlags(), words));
  if (arguments.Has("help")) {
    std::fputs(HelpText(verb->command, CommonFlags()).c_str(), stdout);
    std::fputs(absl::StrCat("\n", kExitCodeHelp).c_str(), stdout);
    return kExitOk;
  }
  return RunVerb(*verb, arguments);
}

}  // namespace
}  // namespace ckpt::cli

int main(int argc, char** argv) {
  absl::StatusOr<ckpt::cli::ExitCode> code =
      ckpt::cli::Main(std::vector<std::string>(argv + 1, argv + argc));
  if (!code.ok()) {
    ckpt::cli::PrintError(code.status());
    return ckpt::cli::ToExitCode(code.status());
  }
  if (std::fflush(stdout) != 0) {
    std::perror("ckptctl: writing the output");
    return ckpt::cli::kExitFailed;
  }
  return *code;
}
