// What ckptctl's exit status means. Scripts rely on these numbers: they are only ever added to.
#ifndef CKPT_CLIENT_CLI_EXIT_CODE_H_
#define CKPT_CLIENT_CLI_EXIT_CODE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ckpt::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitFailed = 1,       // anything without a number of its own
  kExitUsage = 2,        // the command line, or an argument that the daemon refused
  kExitNotFound = 3,     // run, step, tag, key or file
  kExitUnavailable = 4,  // no daemon there, or it is draining or stopping
  kExitRefused = 5,      // exists already, wrong state, or no --yes
  kExitDamaged = 6,      // bytes that fail their checks
  kExitTimeout = 7,      // --timeout, or drain's --deadline
  kExitAborted = 8,  // the checkpoint was aborted
  kExitNoRoom = 9,   // disk, memory, a quota, or calls at once
  kExitDenied = 10,     // permissions; a token that is missing or unknown
  kExitDifferent = 11,  // checkpoint diff --exit-code
};

// One line for each code, for --help.
inline constexpr char kExitCodeHelp[] =
    "Exit codes:\n"
    "  0  done\n"
    "  1  failed for a reason without a number of its own\n"
    "  2  the command line is wrong, or an argument was refused\n"
    "  3  no such run, step, tag, key or file\n"
    "  4  no daemon answers there, or it is draining or stopping\n"
    "  5  refused: it exists already, is in another state, or --yes is missing\n"
    "  6  damaged data was found\n"
    "  7  --timeout or --deadline passed\n"
    "  8  the checkpoint was aborted\n"
    "  9  no room: disk, memory, a quota, or too many calls at once\n"
    " 10  permission denied, or a token that is missing or unknown\n"
    " 11  the checkpoints differ (checkpoint diff --exit-code)\n";

inline ExitCode ToExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return kExitUsage;
    case absl::StatusCode::kNotFound:
      return kExitNotFound;
    case absl::StatusCode::kUnavailable:
      return kExitUnavailable;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kFailedPrecondition:
      return kExitRefused;
    case absl::StatusCode::kDataLoss:
      return kExitDamaged;
    case absl::StatusCode::kDeadlineExceeded:
      return kExitTimeout;
    case absl::StatusCode::kAborted:
      return kExitAborted;
    case absl::StatusCode::kResourceExhausted:
      return kExitNoRoom;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return kExitDenied;
    default:
      return kExitFailed;
  }
}

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_EXIT_CODE_H_
