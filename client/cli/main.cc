// ckptctl: the online tool. A caller of the daemon's gRPC services like any other; it never opens a
// data folder (ckptutil does that, offline).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
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
#include "client/cli/token.h"
#include "client/cli/verb.h"
#include "common/nearest_names.h"
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
                                                         CheckpointPin(),
                                                         CheckpointUnpin(),
                                                         CheckpointAnnotate(),
                                                         CheckpointRm(),
                                                         CheckpointExport(),
                                                         CheckpointImport(),
                                                         CheckpointVerify(),
                                                         TensorLs(),
                                                         RetentionShow(),
                                                         RetentionSet(),
                                                         RetentionUnset(),
                                                         RetentionPlan(),
                                                         RetentionConfirm(),
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
       .help = "the daemon's socket; default $CKPTD_SOCKET, then /run/ckptd/ckptd.sock",
       .is_path = true},
      {.name = "address",
       .value = "HOST:PORT",
       .help = "instead of the socket: what ckptd --listen was given"},
      {.name = "token-file",
       .value = "FILE",
       .help = "the file with the token to call with; default $CKPTD_TOKEN, then none",
       .is_path = true},
      {.name = "tls-ca",
       .value = "FILE",
       .help = "PEM, for --address: who signed the daemon's certificate; default $CKPTCTL_TLS_CA",
       .is_path = true},
      {.name = "tls-cert",
       .value = "FILE",
       .help = "PEM, for --address: the certificate to show; default $CKPTCTL_TLS_CERT",
       .is_path = true},
      {.name = "tls-key",
       .value = "FILE",
       .help = "PEM, for --address: its key; default $CKPTCTL_TLS_KEY",
       .is_path = true},
      {.name = "tls-name",
       .value = "NAME",
       .help = "the name in the daemon's certificate; default $CKPTCTL_TLS_NAME, then the host"},
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
                  "\nckptctl VERB --help tells about one verb, ckptctl --version about itself.\n\n",
                  kExitCodeHelp);
  return help;
}

// Flags may stand before the verb: ckptctl -o json run ls. Returns where the verb begins.
size_t SkipFlags(const std::vector<std::string>& words) {
  size_t i = 0;
  while (i < words.size() && words[i].size() > 1 && words[i][0] == '-') {
    const std::string& word = words[i];
    const bool valued =
        word == "-o" || std::any_of(CommonFlags().begin(), CommonFlags().end(),
                                    [&word](const FlagSpec& flag) {
                                      return !flag.value.empty() && word == "--" + flag.name;
                                    });
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
  const std::string& noun = words[at];
  std::vector<std::string> names;
  std::vector<std::string> of_noun;
  for (const Verb& verb : Verbs()) {
    const std::string& name = verb.command.name;
    names.push_back(name);
    if (absl::StartsWith(name, noun + " ")) of_noun.push_back(name.substr(noun.size() + 1));
  }
  if (!of_noun.empty()) {
    const std::string list = absl::StrJoin(of_noun, ", ");
    if (at + 1 >= words.size()) {
      return absl::InvalidArgumentError(absl::StrCat(noun, " needs a verb: ", list));
    }
    const std::vector<std::string> near = NearestNames(words[at + 1], of_noun, 1);
    return absl::InvalidArgumentError(absl::StrCat(
        "unknown verb \"", noun, " ", absl::Utf8SafeCEscape(words[at + 1]), "\": ",
        near.empty() ? absl::StrCat(noun, " has ", list)
                     : absl::StrCat("did you mean \"", noun, " ", near[0], "\"?")));
  }
  const std::string given = at + 1 < words.size() ? absl::StrCat(noun, " ", words[at + 1]) : noun;
  std::vector<std::string> near = NearestNames(given, names, 1);
  if (near.empty()) near = NearestNames(noun, names, 1);
  return absl::InvalidArgumentError(
      absl::StrCat("unknown verb \"", absl::Utf8SafeCEscape(given), "\"",
                   near.empty() ? "" : absl::StrCat(": did you mean \"", near[0], "\"?"),
                   " (ckptctl --help lists them)"));
}

constexpr const char* kTlsFlags[] = {"tls-ca", "tls-cert", "tls-key", "tls-name"};

std::string FlagOrEnvironment(const Arguments& arguments, absl::string_view flag,
                              const char* variable) {
  if (arguments.Has(flag)) return arguments.Get(flag);
  const char* value = std::getenv(variable);
  return value != nullptr ? value : "";
}

absl::StatusOr<std::unique_ptr<Connection>> ConnectionOf(const Arguments& arguments,
                                                         absl::Duration timeout) {
  if (!arguments.Has("address")) {
    for (const char* flag : kTlsFlags) {
      if (!arguments.Has(flag)) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "--", flag, " is for --address HOST:PORT: on a unix socket there is no TLS"));
    }
    return Connection::Make(arguments.Get("socket"), timeout);
  }
  if (arguments.Has("socket")) {
    return absl::InvalidArgumentError("give --socket or --address, not both");
  }
  TlsOptions tls;
  tls.ca_file = FlagOrEnvironment(arguments, "tls-ca", "CKPTCTL_TLS_CA");
  tls.certificate_file = FlagOrEnvironment(arguments, "tls-cert", "CKPTCTL_TLS_CERT");
  tls.key_file = FlagOrEnvironment(arguments, "tls-key", "CKPTCTL_TLS_KEY");
  tls.server_name = FlagOrEnvironment(arguments, "tls-name", "CKPTCTL_TLS_NAME");
  return Connection::MakeRemote(arguments.Get("address"), std::move(tls), timeout);
}

absl::StatusOr<ExitCode> RunVerb(const Verb& verb, const Arguments& arguments) {
  CKPT_ASSIGN_OR_RETURN(const OutputFormat format,
                        ParseOutputFormat(arguments.Get("output", "table")));
  CKPT_ASSIGN_OR_RETURN(const absl::Duration timeout,
                        arguments.Duration("timeout", verb.default_timeout));
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Connection> connection,
                        ConnectionOf(arguments, timeout));
  CKPT_ASSIGN_OR_RETURN(std::string token, FindToken(arguments.Get("token-file")));
  connection->UseToken(std::move(token));
  VerbContext context{arguments, format, *connection};
  return verb.run(context);
}

absl::StatusOr<ExitCode> Main(std::vector<std::string> words) {
  const size_t at = SkipFlags(words);
  const auto verb_words = words.begin() + static_cast<ptrdiff_t>(at);
  if (std::find(words.begin(), verb_words, "--version") != verb_words) {
    std::puts("ckptctl " CKPT_VERSION);
    return kExitOk;
  }
  if (at == words.size()) {
    CKPT_RETURN_IF_ERROR(ParseArguments({}, CommonFlags(), words).status());
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
  words.erase(verb_words, verb_words + static_cast<ptrdiff_t>(name_words));
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
