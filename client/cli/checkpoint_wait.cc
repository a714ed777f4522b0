// ckptctl checkpoint wait RUN@STEP
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/verb.h"
#include "common/checkpoint_id.h"
#include "common/ids.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

absl::StatusOr<ExitCode> WaitForCheckpoint(VerbContext& context) {
  const std::string& name = context.arguments.positionals()[0];
  CKPT_ASSIGN_OR_RETURN(const v1::Selector selector, ParseSelector(name));
  if (selector.which_case() != v1::Selector::kStep) {
    return absl::InvalidArgumentError(
        absl::StrCat("checkpoint wait needs a step's number, as ", selector.run(),
                     "@1200: what latest or a tag names is committed already"));
  }
  v1::WaitCheckpointRequest request;
  CKPT_ASSIGN_OR_RETURN(const v1::CheckpointState state,
                        ParseState(context.arguments.Get("state", "committed")));
  request.set_state(state);
  request.mutable_id()->set_run(selector.run());
  request.mutable_id()->set_step(selector.step());
  if (context.arguments.Has("incarnation")) {
    CKPT_ASSIGN_OR_RETURN(
        const Incarnation incarnation,
        Incarnation::FromHex(context.arguments.Get("incarnation"), "--incarnation"));
    request.mutable_id()->set_incarnation(incarnation.bytes());
  }
  v1::WaitCheckpointResponse response;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.catalog().WaitCheckpoint(call, request, &response);
  }));
  const v1::CheckpointInfo& info = response.checkpoint();
  PrintRecord(context.format, CheckpointJson(info), {{NameOf(info.id()), StateText(info)}});
  return kExitOk;
}

}  // namespace

Verb CheckpointWait() {
  return {
      .command = {.name = "checkpoint wait",
                  .summary = "Wait until a checkpoint has reached a state",
                  .positionals = {{.name = "RUN@STEP", .help = "a step's number"}},
                  .flags = {{.name = "state",
                             .value = "STATE",
                             .help = "staged or committed (default)"},
                            {.name = "incarnation",
                             .value = "HEX",
                             .help = "of which launch; default: the newest that is not aborted"}},
                  .details = "The checkpoint must have begun (exit code 3 otherwise). Exit code 8 "
                             "when it is aborted,\n7 when --timeout passes first; without "
                             "--timeout it waits as long as it takes."},
      .default_timeout = absl::InfiniteDuration(),
      .run = WaitForCheckpoint};
}

}  // namespace ckpt::cli
