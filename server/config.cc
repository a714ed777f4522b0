#include "server/config.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/digest.h"
#include "common/nearest_names.h"
#include "common/status_macros.h"
#include "server/settings.h"

#ifndef CKPT_VERSION
#define CKPT_VERSION "unversioned"
#endif

namespace ckpt {
namespace {

constexpr size_t kConfigFileBytesMax = 1 << 20;

std::string EnvironmentName(absl::string_view name) {
  return absl::StrCat("CKPTD_", absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}})));
}

std::string Suggestion(absl::string_view name) {
  std::string best;
  for (const Setting& setting : Settings()) {
    if (name.size() >= 3 && (absl::StartsWith(setting.name, name.substr(0, 3)) ||
                             absl::StrContains(setting.name, name))) {
      absl::StrAppend(&best, best.empty() ? "" : ", ", "--", setting.name);
    }
  }
  return best.empty() ? "; see ckptd --help" : absl::StrCat("; did you mean ", best, "?");
}

struct Given {
  std::string value;
  std::string where;  // for errors: "--grace", "CKPTD_GRACE", "/etc/ckptd.conf:3 (grace)"
};
using GivenSettings = std::map<std::string, Given>;

absl::Status Put(GivenSettings& given, absl::string_view name, Given entry) {
  const auto [it, inserted] = given.emplace(std::string(name), entry);
  if (!inserted && it->second.value != entry.value) {
    return absl::InvalidArgumentError(absl::StrCat(
        entry.where, " is given twice, with different values: '",
        absl::CHexEscape(it->second.value), "' and '", absl::CHexEscape(entry.value), "'"));
  }
  return absl::OkStatus();
}

struct ParsedArguments {
  CommandLine::Action action = CommandLine::Action::kServe;
  GivenSettings given;
};

absl::StatusOr<ParsedArguments> ParseArguments(const std::vector<std::string>& arguments) {
  ParsedArguments parsed;
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      parsed.action = CommandLine::Action::kHelp;
      return parsed;
    }
    if (argument == "--version") {
      parsed.action = CommandLine::Action::kVersion;
      return parsed;
    }
    if (!absl::ConsumePrefix(&argument, "--") || argument.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("unexpected argument '", absl::CHexEscape(arguments[i]),
                       "': ckptd takes only flags; see ckptd --help"));
    }
    const size_t equals = argument.find('=');
    const std::string name(argument.substr(0, equals));
    const Setting* setting = FindSetting(name);
    if (setting == nullptr && name != "config") {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown flag --", absl::CHexEscape(name), Suggestion(name)));
    }
    std::string value;
    if (equals != absl::string_view::npos) {
      value = std::string(argument.substr(equals + 1));
    } else if (setting != nullptr && setting->value[0] == '\0') {
      value = "true";
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " needs a value"));
    }
    CKPT_RETURN_IF_ERROR(Put(parsed.given, name, {value, absl::StrCat("--", name)}));
  }
  return parsed;
}

absl::StatusOr<GivenSettings> ParseEnvironment(const std::vector<std::string>& environment,
                                               std::vector<std::string>& notes) {
  std::vector<std::string> names;
  for (const Setting& setting : Settings()) names.push_back(setting.name);
  GivenSettings given;
  for (const std::string& entry : environment) {
    if (!absl::StartsWith(entry, "CKPTD_")) continue;
    const size_t equals = entry.find('=');
    if (equals == std::string::npos) continue;
    const std::string variable = entry.substr(0, equals);
    std::string name = absl::AsciiStrToLower(variable.substr(6));
    name = absl::StrReplaceAll(name, {{"_", "-"}});
    if (FindSetting(name) == nullptr && name != "config") {
      const std::vector<std::string> near = NearestNames(name, names, 1);
      if (!near.empty()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "environment variable ", absl::CHexEscape(variable),
            " is no setting of ckptd; did you mean ", EnvironmentName(near[0]),
            "? Unset it otherwise"));
      }
      // Not an error: a Kubernetes service named ckptd puts CKPTD_PORT and more into every pod.
      notes.push_back(absl::StrCat("environment variable ", absl::CHexEscape(variable),
                                   " is no setting of ckptd and is ignored"));
      continue;
    }
    given.emplace(name, Given{entry.substr(equals + 1), variable});
  }
  return given;
}

absl::StatusOr<GivenSettings> ParseFile(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat("--config: ", path, " is a folder, not a file"));
  }
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  if (!file) {
    return absl::InvalidArgumentError(
        absl::StrCat("--config: ", path, " cannot be read: ", std::strerror(errno)));
  }
  if (!(content << file.rdbuf())) {
    return absl::InvalidArgumentError(absl::StrCat("--config: ", path, " is empty"));
  }
  if (content.str().size() > kConfigFileBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("configuration file is too long: ", path));
  }
  GivenSettings given;
  int number = 0;
  const std::string text = content.str();
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const std::string where = absl::StrCat(path, ":", number);
    const size_t equals = line.find('=');
    if (equals == absl::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": expected `key = value`, got '", absl::CHexEscape(line), "'"));
    }
    const std::string name(absl::StripAsciiWhitespace(line.substr(0, equals)));
    const std::string value(absl::StripAsciiWhitespace(line.substr(equals + 1)));
    if (FindSetting(name) == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          where, ": unknown setting '", absl::CHexEscape(name), "'", Suggestion(name)));
    }
    CKPT_RETURN_IF_ERROR(Put(given, name, {value, absl::StrCat(where, " (", name, ")")}));
  }
  return given;
}

bool Inside(const std::string& path, const std::string& folder) {
  return path == folder || absl::StartsWith(path, folder == "/" ? folder : folder + "/");
}

// Who can get in by TCP is said in full, or nobody can.
absl::Status CheckListen(const Config& config) {
  std::string given, missing;
  for (const auto& [name, value] : {std::pair("--tls-cert", &config.tls_cert),
                                    std::pair("--tls-key", &config.tls_key),
                                    std::pair("--tls-client-ca", &config.tls_client_ca)}) {
    std::string& names = value->empty() ? missing : given;
    absl::StrAppend(&names, names.empty() ? "" : " and ", name);
  }
  if (config.listen.empty() && (config.insecure_tcp || !given.empty())) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.insecure_tcp ? "--insecure-tcp" : given,
                     " without --listen HOST:PORT: there is no TCP port to which that applies"));
  }
  if (config.insecure_tcp && !given.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--insecure-tcp and ", given,
                     " contradict one another: with --insecure-tcp the TCP port is "
                     "neither encrypted nor authenticated; leave out one or the other"));
  }
  if (!given.empty() && !missing.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        given, " without ", missing,
        ": TLS needs all of --tls-cert, --tls-key and --tls-client-ca (the CA whose certificates "
        "callers show)"));
  }
  if (!config.listen.empty() && !config.insecure_tcp && given.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--listen ", config.listen,
        " would let anybody who reaches it read, write and delete checkpoints: give --tls-cert, "
        "--tls-key and --tls-client-ca, or --insecure-tcp if that is what you want, or leave "
        "--listen out"));
  }
  return absl::OkStatus();
}

// What can be judged only when all settings are known.
absl::Status CheckTogether(const Config& config) {
  CKPT_RETURN_IF_ERROR(CheckListen(config));
  if (Inside(config.memory_dir, config.data_dir) || Inside(config.data_dir, config.memory_dir)) {
    return absl::InvalidArgumentError(absl::StrCat("--memory-dir (", config.memory_dir,
                                                   ") and --data-dir (", config.data_dir,
                                                   ") must not lie in one another"));
  }
  if (Inside(config.socket, config.data_dir) || Inside(config.socket, config.memory_dir)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--socket (", config.socket, ") must not lie in the data or memory folder"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CommandLine> ReadConfig(const ConfigSources& sources) {
  CommandLine result;
  CKPT_ASSIGN_OR_RETURN(ParsedArguments parsed, ParseArguments(sources.arguments));
  result.action = parsed.action;
  if (result.action != CommandLine::Action::kServe) return result;
  CKPT_ASSIGN_OR_RETURN(const GivenSettings environment,
                        ParseEnvironment(sources.environment, result.notes));

  GivenSettings file;
  const Given* config_file = nullptr;
  if (const auto it = environment.find("config"); it != environment.end()) {
    config_file = &it->second;
  }
  if (const auto it = parsed.given.find("config"); it != parsed.given.end()) {
    config_file = &it->second;
  }
  if (config_file != nullptr) {
    CKPT_ASSIGN_OR_RETURN(file, ParseFile(config_file->value));
  }

  for (const Setting& setting : Settings()) {
    for (const GivenSettings* source :
         {&std::as_const(parsed.given), &environment, &std::as_const(file)}) {
      const auto it = source->find(setting.name);
      if (it == source->end()) continue;
      if (const absl::Status status = setting.apply(result.config, it->second.value);
          !status.ok()) {
        return absl::InvalidArgumentError(absl::StrCat(it->second.where, ": ", status.message()));
      }
      break;
    }
  }
  if (result.config.memory_dir.empty()) {
    result.config.memory_dir = DefaultMemoryFolder(result.config.data_dir);
  }
  CKPT_RETURN_IF_ERROR(CheckTogether(result.config));
  return result;
}

std::string DefaultMemoryFolder(const std::string& data_dir) {
  return absl::StrCat("/dev/shm/ckptd-", absl::BytesToHexString(Sha256(data_dir).substr(0, 8)));
}

uint64_t DefaultMemoryBudget() {
  uint64_t bytes = uint64_t{4} << 30;
  struct sysinfo info;
  if (::sysinfo(&info) == 0) bytes = uint64_t{info.totalram} * info.mem_unit;
  // A container's own bound, where it has one (cgroup v2, then v1).
  for (const char* path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    uint64_t limit = 0;
    if (file >> limit && limit > 0) bytes = std::min(bytes, limit);
  }
  return std::max(kMemoryBudgetMin, (bytes / 4) >> 20 << 20);
}

std::string VersionText() { return absl::StrCat("ckptd ", CKPT_VERSION); }

std::string HelpText() {
  std::string text = absl::StrCat(
      VersionText(), ": keeps the checkpoints of training jobs on this node.\n\n",
      "Usage: ckptd [--flag VALUE | --flag=VALUE]...\n\n"
      "Each flag has a twin in the environment (--memory-budget: CKPTD_MEMORY_BUDGET) and a line "
      "in the file of\n--config (memory-budget = 4GiB). The flag wins over the environment, the "
      "environment over the file.\n");
  std::string group;
  for (const Setting& setting : Settings()) {
    if (group != setting.group) {
      group = setting.group;
      absl::StrAppend(&text, "\n", group, ":\n");
    }
    const std::string left =
        absl::StrCat("--", setting.name, setting.value[0] == '\0' ? "" : " ", setting.value);
    absl::StrAppendFormat(&text, "  %-27s %s\n  %-27s [%s; %s]\n", left, setting.help, "",
                          setting.fallback, EnvironmentName(setting.name));
  }
  absl::StrAppend(&text,
                  "\nMore:\n"
                  "  --config FILE               Lines of `key = value`; # begins a comment. "
                  "[none; CKPTD_CONFIG]\n"
                  "  --version                   Print the version.\n"
                  "  --help                      Print this.\n"
                  "\nSIGTERM or SIGINT: stop admitting saves, finish what is staged, exit 0. A "
                  "second one: exit at once, with 128 + its number.\n"
                  "Exit codes: 0 done; 1 could not start or failed (the reason is on standard "
                  "error); 2 wrong settings.\n");
  return text;
}

}  // namespace ckpt
