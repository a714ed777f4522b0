#include "server/settings.h"

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "common/byte_size.h"
#include "common/retention_policy.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

// Room for ".lock" and ".fd" behind it: a unix socket's path has at most 107 bytes.
constexpr size_t kSocketPathBytesMax = 104;

absl::Status Wrong(absl::string_view expected, absl::string_view got) {
  return absl::InvalidArgumentError(
      absl::StrCat("expected ", expected, ", got '", absl::CHexEscape(got.substr(0, 200)), "'"));
}

absl::StatusOr<std::string> ParsePath(absl::string_view text) {
  if (text.empty()) return Wrong("a path", text);
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      return Wrong("a path without control characters", text);
    }
  }
  std::error_code error;
  const auto absolute = std::filesystem::absolute(std::string(text), error);
  if (error) return Wrong("a path", text);
  std::string path = absolute.lexically_normal().string();
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text, absl::Duration min,
                                             absl::Duration max) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration < min || duration > max) {
    return Wrong(absl::StrCat("a duration such as 30s, 5m or 1h30m, from ",
                              absl::FormatDuration(min), " to ", absl::FormatDuration(max)),
                 text);
  }
  return duration;
}

absl::StatusOr<uint64_t> ParseCount(absl::string_view text, uint64_t min, uint64_t max) {
  uint64_t count = 0;
  if (!absl::SimpleAtoi(text, &count) || count < min || count > max) {
    return Wrong(absl::StrCat("a number from ", min, " to ", max), text);
  }
  return count;
}

template <std::string Config::*kMember>
absl::Status ApplyPath(Config& config, absl::string_view value) {
  CKPT_ASSIGN_OR_RETURN(config.*kMember, ParsePath(value));
  return absl::OkStatus();
}

absl::Status ApplySocket(Config& config, absl::string_view value) {
  CKPT_ASSIGN_OR_RETURN(config.socket, ParsePath(value));
  if (config.socket.size() > kSocketPathBytesMax) {
    return Wrong(absl::StrCat("a socket path of at most ", kSocketPathBytesMax,
                              " bytes (the kernel's limit for unix sockets)"),
                 value);
  }
  return absl::OkStatus();
}

absl::Status ApplySocketMode(Config& config, absl::string_view value) {
  const std::string text(value);
  char* end = nullptr;
  const unsigned long mode = std::strtoul(text.c_str(), &end, 8);
  if (text.empty() || text.size() > 4 || !absl::ascii_isdigit(text[0]) || *end != '\0' ||
      mode > 0777 || (mode & 0600) != 0600) {
    return Wrong("an octal mode from 0600 to 0777 that lets the owner read and write", value);
  }
  config.socket_mode = static_cast<uint32_t>(mode);
  return absl::OkStatus();
}

absl::Status ApplyListen(Config& config, absl::string_view value) {
  const size_t colon = value.rfind(':');
  uint32_t port = 0;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(value.substr(colon + 1), &port) || port > 65535 ||
      value.find_first_of(" \t/,") != absl::string_view::npos) {
    return Wrong("HOST:PORT, such as 127.0.0.1:7070 or [::1]:7070", value);
  }
  config.listen = std::string(value);
  return absl::OkStatus();
}

absl::Status ParseSwitch(absl::string_view text, bool& on) {
  if (text != "true" && text != "false") return Wrong("true or false", text);
  on = text == "true";
  return absl::OkStatus();
}

absl::Status ApplyInsecureTcp(Config& config, absl::string_view value) {
  return ParseSwitch(value, config.insecure_tcp);
}

// A comma list of user or group numbers.
absl::Status ApplyIds(std::vector<uint32_t>& ids, absl::string_view value) {
  ids.clear();
  for (const absl::string_view word : absl::StrSplit(value, ',')) {
    uint32_t id = 0;
    if (!absl::SimpleAtoi(word, &id)) {
      return Wrong("a comma list of numbers, such as 1000,1001 (id prints them)", value);
    }
    ids.push_back(id);
  }
  return absl::OkStatus();
}

absl::Status ApplySocketRights(Config& config, absl::string_view value) {
  config.socket_rights = ParseVerbs(value);
  if (config.socket_rights.has_value() || value == "none") return absl::OkStatus();
  return Wrong("none, or a comma list of read, write and admin", value);
}

absl::Status ApplyMemoryBudget(Config& config, absl::string_view value) {
  CKPT_ASSIGN_OR_RETURN(config.memory_budget, ParseByteSize(value));
  if (config.memory_budget < kMemoryBudgetMin || config.memory_budget > (uint64_t{1} << 50)) {
    return Wrong("a size from 1MiB to 1024TiB", value);
  }
  return absl::OkStatus();
}

absl::Status ApplyScrubRate(Config& config, absl::string_view value) {
  CKPT_ASSIGN_OR_RETURN(config.scrub_rate, ParseByteSize(value));
  if (config.scrub_rate > 0 &&
      (config.scrub_rate < (64 << 10) || config.scrub_rate > (uint64_t{1} << 40))) {
    return Wrong("0, or a size from 64KiB to 1TiB, for each second", value);
  }
  return absl::OkStatus();
}

// The rules' own table says what each is and takes (common/retention_policy.h).
template <size_t kRule>
absl::Status ApplyRetention(Config& config, absl::string_view value) {
  return SetRetentionRule(RetentionRules()[kRule].name, value, config.retention);
}

}  // namespace

const std::vector<Setting>& Settings() {
  static const auto* settings = new std::vector<Setting>{
      {"socket", "Sockets", "PATH", "/run/ckptd/ckptd.sock",
       "Unix socket of the gRPC services; PATH.fd hands out descriptors, PATH.lock guards it.",
       ApplySocket},
      {"socket-mode", "Sockets", "MODE", "0660", "Who may connect: the mode of both sockets.",
       ApplySocketMode},
      {"listen", "Sockets", "HOST:PORT", "none",
       "Serve on TCP as well. Needs --tls-cert, --tls-key and --tls-client-ca, or --insecure-tcp.",
       ApplyListen},
      {"tls-cert", "Sockets", "FILE", "none",
       "PEM: the certificate that --listen shows, then its chain. These three are read again when "
       "they change.",
       ApplyPath<&Config::tls_cert>},
      {"tls-key", "Sockets", "FILE", "none", "PEM: the private key of --tls-cert.",
       ApplyPath<&Config::tls_key>},
      {"tls-client-ca", "Sockets", "FILE", "none",
       "PEM: whose certificates callers of --listen must show; others are refused.",
       ApplyPath<&Config::tls_client_ca>},
      {"insecure-tcp", "Sockets", "", "false",
       "Instead of TLS: whoever reaches --listen may read, write and delete checkpoints.",
       ApplyInsecureTcp},
      {"session-max", "Sockets", "N", "4096", "Client processes connected at once.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.sessions_max, ParseCount(value, 1, 65536));
         return absl::OkStatus();
       }},
      {"allow-uid", "Access", "UIDS", "whoever the sockets' mode lets in",
       "Users whose processes may connect to the sockets, such as 1000,1001; root and the daemon's "
       "own always may.",
       [](Config& config, absl::string_view value) { return ApplyIds(config.allow_uids, value); }},
      {"allow-gid", "Access", "GIDS", "whoever the sockets' mode lets in",
       "The same by group, a process's own or a supplementary one.",
       [](Config& config, absl::string_view value) { return ApplyIds(config.allow_gids, value); }},
      {"socket-rights", "Access", "VERBS", "read,write,admin",
       "What callers on the socket may do to all runs without a token; none: they need one.",
       ApplySocketRights},
      {"token-file", "Access", "FILE", "none",
       "Bearer tokens, a line each: SHA256-OF-TOKEN NAME RUN-PATTERN read,write,admin. Over TCP "
       "one is needed then. Read again when it changes.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.token_file, ParsePath(value));
         return absl::OkStatus();
       }},
      {"data-dir", "Storage", "FOLDER", "/var/lib/ckptd",
       "Where checkpoints become durable. Made if missing; one daemon at a time.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.data_dir, ParsePath(value));
         return absl::OkStatus();
       }},
      {"memory-dir", "Storage", "FOLDER", "/dev/shm/ckptd-<from the data folder>",
       "Where parts are staged: a folder on a tmpfs.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.memory_dir, ParsePath(value));
         return absl::OkStatus();
       }},
      {"memory-budget", "Storage", "SIZE", "a quarter of the memory",
       "Bytes of staging memory that may exist at once, such as 4GiB. Larger parts go through a "
       "ring.",
       ApplyMemoryBudget},
      {"writer-threads", "Storage", "N", "4", "Threads that write data files.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.writer_threads, ParseCount(value, 1, 64));
         return absl::OkStatus();
       }},
      {"scrub-rate", "Storage", "SIZE", "32MiB",
       "Bytes per second at which committed checkpoints are read again and checked in the "
       "background; 0: never.",
       ApplyScrubRate},
      {"scrub-interval", "Storage", "DURATION", "168h",
       "A checkpoint is checked again so long after its last check, or its commit.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.scrub_interval,
                               ParseDuration(value, absl::Seconds(1), absl::Hours(24 * 3650)));
         return absl::OkStatus();
       }},
      {"keep-last", "Retention", "N", "nothing is deleted",
       "Of each run keep the newest N checkpoints that are not known to be damaged, and delete the "
       "others. What this and the next two name is kept.",
       ApplyRetention<0>},
      {"keep-every", "Retention", "N", "none",
       "Of each run keep the steps that are multiples of N.", ApplyRetention<1>},
      {"keep-best", "Retention", "METRIC:min:N", "none",
       "Of each run keep the N best by a metric, min or max (ckptctl checkpoint annotate attaches "
       "it).",
       ApplyRetention<2>},
      {"max-bytes", "Retention", "SIZE", "none",
       "Of each run delete the oldest checkpoints while all of them are more than this.",
       ApplyRetention<3>},
      {"max-age", "Retention", "AGE", "none",
       "Of each run delete what was committed longer ago, such as 30d. Never the newest, what is "
       "pinned or tagged.",
       ApplyRetention<4>},
      {"retention-file", "Retention", "FILE", "none",
       "Sections of such rules, [PATTERN] on the names of runs: the first that matches holds "
       "instead of the flags.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.retention_file, ParsePath(value));
         return absl::OkStatus();
       }},
      {"quota-file", "Quotas", "FILE", "none",
       "Sections [PATTERN] of disk-bytes, memory-bytes, checkpoints, open-saves: what the runs of "
       "each may have together.",
       ApplyPath<&Config::quota_file>},
      {"join-deadline", "Time limits", "DURATION", "10m",
       "From a checkpoint's first rank to its last, where the client names none, and of a rank's "
       "silence (2m at least); then it is aborted.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.join_deadline,
                               ParseDuration(value, absl::Milliseconds(100), absl::Hours(24)));
         return absl::OkStatus();
       }},
      {"grace", "Time limits", "DURATION", "30s",
       "How long a broken save may take to resume before its checkpoint is aborted.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.grace,
                               ParseDuration(value, absl::ZeroDuration(), absl::Hours(1)));
         return absl::OkStatus();
       }},
      {"save-lifetime", "Time limits", "DURATION", "6h",
       "From a checkpoint's first rank until all of it is staged, whatever its ranks do; then it "
       "is aborted.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.save_lifetime,
                               ParseDuration(value, absl::Milliseconds(100), absl::Hours(24 * 30)));
         return absl::OkStatus();
       }},
      {"drain-deadline", "Time limits", "DURATION", "1m",
       "After SIGTERM: how long to wait until what is staged is durable. The rest is adopted at "
       "the next start.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.drain_deadline,
                               ParseDuration(value, absl::ZeroDuration(), absl::Hours(24)));
         return absl::OkStatus();
       }},
      {"log-format", "Logging", "text|json", "text", "One line for each event, on standard error.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.log_format, observe::ParseLineFormat(value));
         return absl::OkStatus();
       }},
      {"log-level", "Logging", "LEVEL", "info", "debug, info, warning or error.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.log_level, observe::ParseSeverity(value));
         return absl::OkStatus();
       }},
      {"persist-delay", "Testing", "DURATION", "0",
       "Tests and demonstrations: leave what is staged in memory for so long before it is written.",
       [](Config& config, absl::string_view value) {
         CKPT_ASSIGN_OR_RETURN(config.persist_delay,
                               ParseDuration(value, absl::ZeroDuration(), absl::Hours(1)));
         return absl::OkStatus();
       }},
      {"hash-blocks", "Testing", "true|false", "true",
       "Benchmarks: false writes checkpoints without hashes. They fail every check and restore "
       "only unverified.",
       [](Config& config, absl::string_view value) {
         return ParseSwitch(value, config.hash_blocks);
       }},
  };
  return *settings;
}

const Setting* FindSetting(absl::string_view name) {
  for (const Setting& setting : Settings()) {
    if (name == setting.name) return &setting;
  }
  return nullptr;
}

}  // namespace ckpt
