// What a selection would take to read, told by the daemon: nothing is read and nothing kept open.
#ifndef CKPT_CLIENT_CLI_DRY_RUN_H_
#define CKPT_CLIENT_CLI_DRY_RUN_H_

#include "absl/status/status.h"
#include "ckpt/v1/restore.pb.h"
#include "client/cli/verb.h"

namespace ckpt::cli {

// Asks and prints: how many tensors and bytes, and from which tier. NOT_FOUND where nothing is
// selected.
absl::Status DryRun(VerbContext& context, const v1::Selector& selector,
                    const v1::Selection& selection);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_DRY_RUN_H_
