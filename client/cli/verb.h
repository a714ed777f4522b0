// What a verb is: its command line and what runs it. Each verb's file defines one maker that is
// declared here; main.cc lists them.
#ifndef CKPT_CLIENT_CLI_VERB_H_
#define CKPT_CLIENT_CLI_VERB_H_

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/arguments.h"
#include "client/cli/connection.h"
#include "client/cli/exit_code.h"
#include "client/cli/output.h"

namespace ckpt::cli {

struct VerbContext {
  const Arguments& arguments;
  OutputFormat format;
  Connection& connection;
};

struct Verb {
  CommandSpec command;
  // Of the whole verb, unless --timeout says otherwise.
  absl::Duration default_timeout = absl::Seconds(30);
  // The exit code where the verb itself has one to choose; errors are printed by main.
  absl::StatusOr<ExitCode> (*run)(VerbContext& context) = nullptr;
};

Verb RunLs();
Verb CheckpointLs();
Verb CheckpointShow();
Verb CheckpointDiff();
Verb CheckpointWait();
Verb CheckpointWatch();
Verb CheckpointTag();
Verb CheckpointPin();
Verb CheckpointUnpin();
Verb CheckpointAnnotate();
Verb CheckpointRm();
Verb CheckpointExport();
Verb CheckpointImport();
Verb CheckpointVerify();
Verb TensorLs();
Verb RetentionShow();
Verb RetentionSet();
Verb RetentionUnset();
Verb RetentionPlan();
Verb RetentionConfirm();
Verb Health();
Verb Status();
Verb Drain();

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_VERB_H_
