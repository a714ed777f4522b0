#include "client/cli/dry_run.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/leaf_record.h"
#include "client/cli/selection_flags.h"
#include "common/byte_size.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt::cli {

absl::Status DryRun(VerbContext& context, const v1::Selector& selector,
                    const v1::Selection& selection) {
  v1::PlanRestoreRequest request;
  *request.mutable_selector() = selector;
  *request.mutable_selection() = selection;
  request.set_summary_only(true);
  grpc::ClientContext call;
  context.connection.Prepare(call);
  const auto reader = context.connection.restore().PlanRestore(&call, request);
  v1::CheckpointId id;
  std::optional<v1::PlanSummary> summary;
  v1::PlanRestoreResponse response;
  while (reader->Read(&response)) {
    if (response.has_header()) id = response.header().checkpoint().id();
    if (response.has_summary()) summary = response.summary();
  }
  CKPT_RETURN_IF_ERROR(context.connection.FromGrpc(reader->Finish()));
  if (!summary) {
    return absl::UnimplementedError(
        "the daemon does not tell what a restore would take; is it an older version?");
  }
  if (summary->leaves() == 0) CKPT_RETURN_IF_ERROR(NothingSelected(context.arguments, id));
  Json json;
  json["run"] = id.run();
  json["step"] = id.step();
  json["leaf_count"] = summary->leaves();
  json["tensor_count"] = summary->tensors();
  json["data_bytes"] = summary->bytes();
  json["bytes_from_memory"] = summary->bytes_from_memory();
  json["bytes_from_disk"] = summary->bytes_from_disk();
  std::vector<std::pair<std::string, std::string>> lines = {
      {"checkpoint", NameOf(id)},
      {"selected", TotalText(summary->tensors(), summary->leaves() - summary->tensors(),
                             summary->bytes())},
      {"from memory", PrintByteSize(summary->bytes_from_memory())},
      {"from disk", PrintByteSize(summary->bytes_from_disk())}};
  if (summary->bytes_from_memory() + summary->bytes_from_disk() > summary->bytes()) {
    lines.emplace_back("note",
                       absl::StrCat("whole blocks of up to ", PrintByteSize(kHashBlockBytes),
                                    " are read, as each has one hash"));
  }
  PrintRecord(context.format, json, lines);
  return absl::OkStatus();
}

}  // namespace ckpt::cli
