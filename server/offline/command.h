// ckptutil as a function: arguments in, text and exit code out. One verb is one file; each opens
// the data folder itself, which takes its lock: a folder that a daemon has open is refused.
#ifndef CKPT_SERVER_OFFLINE_COMMAND_H_
#define CKPT_SERVER_OFFLINE_COMMAND_H_

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "server/persist/persister.h"
#include "server/storage/data_folder.h"

namespace ckpt::offline {

// Scripts rely on these numbers; they mean what they mean for ckptctl.
enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,    // anything without a number of its own
  kExitUsage = 2,     // the command line
  kExitNotFound = 3,  // no data folder there, no such checkpoint
  kExitRefused = 5,   // in use, written by a newer version, or not a data folder
  kExitDamaged = 6,   // bytes that fail their checks; each is named
  kExitNoRoom = 9,    // the disk is full
  kExitDenied = 10,   // permissions
};

using Json = nlohmann::ordered_json;

// Keys and values are the user's own: bytes that are no UTF-8 must not end the program.
std::string Printed(const Json& json);

struct Arguments {
  std::string verb;
  std::string folder;
  std::string selector;  // dump: RUN@STEP, or empty
  bool json = false;
  bool quiet = false;  // verify: no progress
};

struct Output {
  std::ostream& text;    // stdout: results
  std::ostream& errors;  // stderr: what went wrong, and progress
  bool progress = false;
};

// Everything after the program's name.
int RunCommand(const std::vector<std::string>& arguments, const Output& output);

// Reads everything under the commit points and checks every hash.
absl::StatusOr<ExitCode> Verify(const Arguments& arguments, const Output& output);
absl::StatusOr<ExitCode> Dump(const Arguments& arguments, const Output& output);
absl::StatusOr<ExitCode> RebuildIndex(const Arguments& arguments, const Output& output);
// What RebuildIndex does to a folder that is open.
absl::StatusOr<RecoveryReport> RebuildIndexOf(DataFolder* folder,
                                              IndexEnvironment* environment = nullptr);

absl::StatusOr<std::unique_ptr<DataFolder>> OpenFolder(const std::string& path);

}  // namespace ckpt::offline

#endif  // CKPT_SERVER_OFFLINE_COMMAND_H_
