// What the daemon is told at start: flags, environment, an optional file, defaults - in this order
// of precedence - checked as a whole before anything is touched.
//
// Each setting has one name: `--memory-budget 4GiB`, `CKPTD_MEMORY_BUDGET=4GiB`, and in a file
// `memory-budget = 4GiB`. The table of settings stands in settings.cc; the help text is made from
// it.
#ifndef CKPT_SERVER_CONFIG_H_
#define CKPT_SERVER_CONFIG_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/retention.pb.h"
#include "server/access/rights.h"
#include "server/observe/log.h"

namespace ckpt {

struct Config {
  std::string socket = "/run/ckptd/ckptd.sock";  // absolute after ReadConfig
  uint32_t socket_mode = 0660;
  std::string listen;  // host:port of a TCP socket; empty: none
  bool insecure_tcp = false;
  std::string tls_cert;  // PEM files of the TCP port; all three or none
  std::string tls_key;
  std::string tls_client_ca;
  uint64_t sessions_max = 4096;

  std::vector<uid_t> allow_uids;  // both empty: whoever the sockets' mode lets in
  std::vector<gid_t> allow_gids;
  std::optional<Verb> socket_rights = Verb::kAdmin;  // without a token; nullopt: none
  std::string token_file;                            // empty: there are no tokens

  std::string data_dir = "/var/lib/ckptd";
  std::string memory_dir;      // default: DefaultMemoryFolder(data_dir)
  uint64_t memory_budget = 0;  // bytes; 0: not set (see daemon/folders.h)
  uint64_t writer_threads = 4;

  uint64_t scrub_rate = 32 << 20;  // bytes per second; 0: off
  absl::Duration scrub_interval = absl::Hours(24 * 7);

  v1::RetentionPolicy retention;  // of every run that has no other; without a rule: none
  std::string retention_file;     // policies by run; empty: none

  std::string quota_file;  // quotas by run; empty: none

  absl::Duration join_deadline = absl::Minutes(10);
  absl::Duration grace = absl::Seconds(30);
  absl::Duration save_lifetime = absl::Hours(6);
  absl::Duration drain_deadline = absl::Seconds(60);

  absl::Duration persist_delay;  // tests and demonstrations: staged parts wait so long in memory
  bool hash_blocks = true;       // benchmarks: false saves what fails every check

  observe::LineFormat log_format = observe::LineFormat::kText;
  observe::Severity log_level = observe::Severity::kInfo;
};

// What a command line asks for.
struct CommandLine {
  enum class Action { kServe, kHelp, kVersion };
  Action action = Action::kServe;
  Config config;
  std::vector<std::string> notes;  // worth a warning in the log: an unknown CKPTD_ variable
};

// Where the settings come from; a test gives its own.
struct ConfigSources {
  std::vector<std::string> arguments;    // without the program's name
  std::vector<std::string> environment;  // NAME=value
};

// INVALID_ARGUMENT names the setting, where it was set, what is wrong with it and what would be
// right. Reads the configuration file if there is one; touches nothing else.
absl::StatusOr<CommandLine> ReadConfig(const ConfigSources& sources);

// /dev/shm/ckptd-<16 hex digits made from the data folder's path>: two daemons never share one.
std::string DefaultMemoryFolder(const std::string& data_dir);
// A quarter of what this process may use of the machine's memory, in whole MiB.
uint64_t DefaultMemoryBudget();

// What `ckptd --help` prints: settings by group, with defaults and environment names.
std::string HelpText();
// "ckptd 0.1.0"
std::string VersionText();

}  // namespace ckpt

#endif  // CKPT_SERVER_CONFIG_H_
