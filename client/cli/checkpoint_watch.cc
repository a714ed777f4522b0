// ckptctl checkpoint watch [RUN]
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

void PrintEvent(OutputFormat format, const v1::WatchCheckpointsResponse& event, bool existed) {
  const v1::CheckpointInfo& info = event.checkpoint();
  if (format != OutputFormat::kTable) {
    Json json = CheckpointJson(info);
    json["deleted"] = event.deleted();
    json["existed"] = existed;
    PrintJsonLine(json);
    return;
  }
  std::string line = absl::StrFormat(
      "%s  %-28s %-18s %10s", PrintTime(absl::Now()), Printable(NameOf(info.id())),
      event.deleted() ? "DELETED" : StateText(info), PrintByteSize(info.data_bytes()));
  if (!info.abort_reason().empty()) absl::StrAppend(&line, "  ", Printable(info.abort_reason()));
  std::puts(line.c_str());
  std::fflush(stdout);
}

absl::StatusOr<ExitCode> WatchCheckpoints(VerbContext& context) {
  CKPT_ASSIGN_OR_RETURN(uint64_t left, context.arguments.Number("count", UINT64_MAX));
  v1::WatchCheckpointsRequest request;
  const auto& positionals = context.arguments.positionals();
  if (!positionals.empty()) request.set_run(positionals[0]);
  grpc::ClientContext call;
  context.connection.Prepare(call);
  const auto reader = context.connection.catalog().WatchCheckpoints(&call, request);
  v1::WatchCheckpointsResponse event;
  bool answered = false;
  bool existed = true;
  while (left > 0 && reader->Read(&event)) {
    answered = true;
    if (event.snapshot_end()) {
      existed = false;
      if (context.arguments.Has("once")) left = 0;
    }
    if (!event.has_checkpoint()) continue;
    if (existed && context.arguments.Has("new")) continue;
    PrintEvent(context.format, event, existed);
    --left;
  }
  if (left == 0) {
    call.TryCancel();
    while (reader->Read(&event)) {
    }
    reader->Finish();
    return kExitOk;
  }
  const grpc::Status ended = reader->Finish();
  if (answered && ended.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return absl::DeadlineExceededError(
        absl::StrCat("watched for ", absl::FormatDuration(context.connection.timeout()),
                     ", as --timeout says"));
  }
  CKPT_RETURN_IF_ERROR(context.connection.FromGrpc(ended, &call));
  return kExitOk;
}

}  // namespace

Verb CheckpointWatch() {
  return {
      .command =
          {.name = "checkpoint watch",
           .summary = "Print what exists, then every change as it happens",
           .positionals = {{.name = "RUN",
                            .help = "only this run; default: all of them",
                            .count_min = 0}},
           .flags = {{.name = "new", .help = "leave out what exists already"},
                     {.name = "once", .help = "end after what exists already"},
                     {.name = "count", .value = "N", .help = "end after N lines", .letter = 'n'}},
           .details = "Runs until interrupted, until the daemon stops (exit code 4) or "
                      "--timeout passes (7).\nWith -o json it prints JSON lines, as a "
                      "stream has no end."},
      .default_timeout = absl::InfiniteDuration(),
      .run = WatchCheckpoints};
}

}  // namespace ckpt::cli
