// ckptctl checkpoint ls RUN
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

void AddCheckpointRow(RecordPrinter& printer, const v1::CheckpointInfo& info) {
  std::string remarks = absl::StrJoin(info.tags(), ",");
  if (info.pinned()) absl::StrAppend(&remarks, remarks.empty() ? "" : " ", "(pinned)");
  if (info.in_memory()) absl::StrAppend(&remarks, remarks.empty() ? "" : " ", "(in memory)");
  if (!info.abort_reason().empty()) {
    absl::StrAppend(&remarks, remarks.empty() ? "" : " ", info.abort_reason());
  }
  printer.Add(CheckpointJson(info),
              {absl::StrCat(info.id().step()), StateText(info), RanksText(info),
               PrintByteSize(info.data_bytes()), AgeText(info),
               absl::BytesToHexString(info.id().incarnation()).substr(0, 12), remarks});
}

absl::StatusOr<ExitCode> ListCheckpoints(VerbContext& context) {
  const std::string& run = context.arguments.positionals()[0];
  if (absl::StrContains(run, '@')) {
    return absl::InvalidArgumentError(absl::StrCat(
        "checkpoint ls takes a run's name alone, without @; to see one checkpoint: ckptctl "
        "checkpoint show ",
        absl::Utf8SafeCEscape(run)));
  }
  CKPT_ASSIGN_OR_RETURN(uint64_t left, context.arguments.Number("limit", UINT64_MAX));
  if (left == 0) return absl::InvalidArgumentError("--limit must be at least 1");
  RecordPrinter printer(context.format, {{"STEP", true},
                                         {"STATE"},
                                         {"RANKS", true},
                                         {"DATA", true},
                                         {"AGE", true},
                                         {"INCARNATION"},
                                         {"REMARKS"}});
  v1::ListCheckpointsRequest request;
  request.set_run(run);
  request.set_include_aborted(context.arguments.Has("all"));
  do {
    request.set_page_size(static_cast<uint32_t>(std::min<uint64_t>(left, kPageItemsMax)));
    v1::ListCheckpointsResponse response;
    CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
      return context.connection.catalog().ListCheckpoints(call, request, &response);
    }));
    for (const v1::CheckpointInfo& info : response.checkpoints()) {
      if (left == 0) break;
      AddCheckpointRow(printer, info);
      --left;
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty() && left > 0);
  printer.Finish("no checkpoints");
  return kExitOk;
}

}  // namespace

Verb CheckpointLs() {
  return {
      .command =
          {.name = "checkpoint ls",
           .summary = "List the checkpoints of a run, newest step first",
           .positionals = {{.name = "RUN", .help = "the run's name"}},
           .flags = {{.name = "all", .help = "aborted ones too, with the reason", .letter = 'a'},
                     {.name = "limit", .value = "N", .help = "at most N", .letter = 'n'}},
           .details = "Of each step it lists the attempt that counts. One that was replaced and "
                      "stays, because it is tagged,\nis not listed: its tag finds it."},
      .run = ListCheckpoints};
}

}  // namespace ckpt::cli
