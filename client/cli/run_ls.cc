// ckptctl run ls [PREFIX]
#include "absl/strings/str_cat.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

absl::StatusOr<ExitCode> ListRuns(VerbContext& context) {
  const auto& positionals = context.arguments.positionals();
  RecordPrinter printer(context.format,
                        {{"RUN"}, {"CHECKPOINTS", true}, {"LATEST", true}, {"DATA", true}});
  v1::ListRunsRequest request;
  if (!positionals.empty()) request.set_prefix(positionals[0]);
  request.set_page_size(kPageItemsMax);
  do {
    v1::ListRunsResponse response;
    CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
      return context.connection.catalog().ListRuns(call, request, &response);
    }));
    for (const v1::RunInfo& run : response.runs()) {
      Json json;
      json["run"] = run.run();
      json["checkpoint_count"] = run.checkpoint_count();
      json["latest_committed_step"] =
          run.has_latest_committed_step() ? Json(run.latest_committed_step()) : Json();
      json["data_bytes"] = run.data_bytes();
      printer.Add(
          json, {run.run(), absl::StrCat(run.checkpoint_count()),
                 run.has_latest_committed_step() ? absl::StrCat(run.latest_committed_step()) : "-",
                 PrintByteSize(run.data_bytes())});
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  printer.Finish(positionals.empty()
                     ? "no runs yet"
                     : absl::StrCat("no run begins with ", Quoted(positionals[0])));
  return kExitOk;
}

}  // namespace

Verb RunLs() {
  return {
      .command = {.name = "run ls",
                  .summary = "List the runs that have checkpoints here",
                  .positionals = {{.name = "PREFIX",
                                   .help = "only runs whose name begins so",
                                   .count_min = 0}},
                  .details = "CHECKPOINTS and DATA count every committed attempt, also one that "
                             "was replaced and stays\nbecause it is tagged; checkpoint ls lists "
                             "one for each step."},
      .run = ListRuns};
}

}  // namespace ckpt::cli
