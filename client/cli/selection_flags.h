// The flags by which verbs select leaves of a checkpoint, the same for all of them.
#ifndef CKPT_CLIENT_CLI_SELECTION_FLAGS_H_
#define CKPT_CLIENT_CLI_SELECTION_FLAGS_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/restore.pb.h"
#include "client/cli/arguments.h"
#include "client/cli/verb.h"

namespace ckpt::cli {

// `own` and behind them --include, --regex, --key, --dtype, --min-size, --max-size, --top-level and
// --rank, and each of --exclude, --exclude-regex, -dtype, -top-level and -rank.
std::vector<FlagSpec> WithSelectionFlags(std::vector<FlagSpec> own);
// For verbs that read bytes.
FlagSpec SliceFlag();
// How they work together, for --help.
extern const char kSelectionHelp[];

// OK where no flag selects. NOT_FOUND: they leave nothing of this checkpoint; names them.
absl::Status NothingSelected(const Arguments& arguments, const v1::CheckpointId& id);

// What the flags select; slices without their boxes. INVALID_ARGUMENT tells all that is wrong with
// them.
absl::StatusOr<v1::Selection> SelectionOf(const Arguments& arguments);
// The same with the boxes of --slice, which follow from the shapes of the tensors: asks the daemon
// for them. NOT_FOUND where keys of --key or --slice are not there: names the first ten, with the
// nearest.
absl::StatusOr<v1::Selection> SlicedSelectionOf(VerbContext& context, const v1::Selector& selector);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_SELECTION_FLAGS_H_
