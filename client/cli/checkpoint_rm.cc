// ckptctl checkpoint rm RUN@STEP...
//
// 1. Every name is resolved to an exact checkpoint, so that what is confirmed is what is deleted,
//    whatever is committed meanwhile. A name that does not exist ends the verb here.
// 2. The person at the terminal confirms (or --yes).
// 3. They are deleted one after another; the first error ends it and says what was deleted.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/terminal.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/checkpoint_id.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

absl::StatusOr<std::vector<v1::CheckpointInfo>> ResolveExactly(VerbContext& context) {
  std::vector<v1::CheckpointInfo> found;
  for (const std::string& name : context.arguments.positionals()) {
    v1::GetCheckpointRequest request;
    CKPT_ASSIGN_OR_RETURN(*request.mutable_selector(), ParseSelector(name));
    v1::GetCheckpointResponse response;
    CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
      return context.connection.catalog().GetCheckpoint(call, request, &response);
    }));
    const auto same = [&response](const v1::CheckpointInfo& other) {
      return other.checkpoint_uid() == response.checkpoint().checkpoint_uid();
    };
    if (std::none_of(found.begin(), found.end(), same)) found.push_back(response.checkpoint());
  }
  return found;
}

absl::StatusOr<ExitCode> RemoveCheckpoints(VerbContext& context) {
  CKPT_ASSIGN_OR_RETURN(const std::vector<v1::CheckpointInfo> doomed, ResolveExactly(context));
  std::vector<std::string> names;
  uint64_t bytes = 0;
  for (const v1::CheckpointInfo& info : doomed) {
    names.push_back(NameOf(info.id()));
    bytes += info.data_bytes();
  }
  CKPT_RETURN_IF_ERROR(Confirm(
      context.arguments.Has("yes"),
      absl::StrCat("delete ", absl::StrJoin(names, ", "), " (", PrintByteSize(bytes), ")")));
  RecordPrinter printer(context.format, {{"DELETED"}, {"DATA", true}});
  for (const v1::CheckpointInfo& info : doomed) {
    v1::DeleteCheckpointRequest request;
    *request.mutable_selector() = ExactSelector(info.id());
    v1::DeleteCheckpointResponse response;
    const absl::Status status = context.connection.Call([&](grpc::ClientContext* call) {
      return context.connection.catalog().DeleteCheckpoint(call, request, &response);
    });
    if (!status.ok()) {
      printer.Finish("nothing was deleted");
      return absl::Status(status.code(),
                          absl::StrCat("deleting ", NameOf(info.id()), ": ", status.message()));
    }
    printer.Add(CheckpointJson(info), {NameOf(info.id()), PrintByteSize(info.data_bytes())});
  }
  printer.Finish("");
  return kExitOk;
}

}  // namespace

Verb CheckpointRm() {
  return {
      .command = {.name = "checkpoint rm",
                  .summary = "Delete checkpoints (asks first)",
                  .positionals = {{.name = "RUN@STEP",
                                   .help = "or RUN@latest, RUN@latest-valid, RUN@TAG",
                                   .count_max = 1000}},
                  .flags = {{.name = "yes", .help = "don't ask", .letter = 'y'}},
                  .details = "A deleted checkpoint is hidden at once; its files go when nobody "
                             "reads them any more.\nWithout a terminal nobody can be asked, and "
                             "--yes is needed (exit code 5)."},
      .run = RemoveCheckpoints};
}

}  // namespace ckpt::cli
