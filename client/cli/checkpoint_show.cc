// ckptctl checkpoint show RUN@STEP
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/checkpoint_record.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/checkpoint_id.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

Json PartJson(const v1::PartInfo& part) {
  Json json;
  json["rank"] = part.rank();
  json["data_bytes"] = part.data_bytes();
  json["shard_count"] = part.shard_count();
  json["in_memory"] = part.in_memory();
  json["disk_files"] = std::vector<std::string>(part.disk_files().begin(), part.disk_files().end());
  return json;
}

void PrintCheckpoint(OutputFormat format, const v1::GetCheckpointResponse& response) {
  const v1::CheckpointInfo& info = response.checkpoint();
  Json json = CheckpointJson(info);
  json["note"] = response.labels().note();
  json["parts"] = Json::array();
  for (const v1::PartInfo& part : response.parts()) json["parts"].push_back(PartJson(part));

  std::vector<std::pair<std::string, std::string>> lines = {
      {"checkpoint", NameOf(info.id())},
      {"state", StateText(info)},
      {"ranks", RanksText(info)},
      {"data",
       absl::StrCat(PrintByteSize(info.data_bytes()), " in ",
                    Counted(info.shard_count(), "shard"))},
      {"incarnation", absl::BytesToHexString(info.id().incarnation())},
      {"uid", absl::BytesToHexString(info.checkpoint_uid())}};
  if (info.has_begun_at()) lines.emplace_back("begun", PrintTime(ToTime(info.begun_at())));
  if (info.has_durable_at()) lines.emplace_back("durable", PrintTime(ToTime(info.durable_at())));
  if (info.has_committed_at()) {
    lines.emplace_back("committed", absl::StrCat(PrintTime(ToTime(info.committed_at())), " (",
                                                 AgeText(info), " ago)"));
  }
  if (info.has_compared_step()) {
    lines.emplace_back("identical",
                       absl::StrCat(PercentText(info.identical_bytes(), info.data_bytes()),
                                    " to step ", info.compared_step(), " (",
                                    PrintByteSize(info.identical_bytes()), ")"));
  }
  if (info.tags_size() > 0) lines.emplace_back("tags", absl::StrJoin(info.tags(), ", "));
  if (info.pinned()) lines.emplace_back("pinned", "yes");
  if (!info.metrics().empty()) lines.emplace_back("metrics", MetricsText(info.metrics()));
  if (!response.labels().note().empty()) lines.emplace_back("note", response.labels().note());
  if (info.damaged_places() > 0) {
    lines.emplace_back("damaged", absl::StrCat(Counted(info.damaged_places(), "place"), ": ",
                                               info.damage()));
  }
  if (!info.abort_reason().empty()) lines.emplace_back("reason", info.abort_reason());
  PrintRecord(format, json, lines);
  if (format != OutputFormat::kTable || response.parts().empty()) return;
  std::puts("");
  RecordPrinter parts(format,
                      {{"RANK", true}, {"DATA", true}, {"SHARDS", true}, {"MEMORY"}, {"FILES"}});
  for (const v1::PartInfo& part : response.parts()) {
    parts.Add(Json(), {absl::StrCat(part.rank()), PrintByteSize(part.data_bytes()),
                       absl::StrCat(part.shard_count()), part.in_memory() ? "yes" : "-",
                       absl::StrJoin(part.disk_files(), " ")});
  }
  parts.Finish("");
  if (response.next_page_token().empty()) return;
  const uint64_t left = info.parts_durable() - static_cast<uint64_t>(response.parts_size());
  std::puts(
      absl::StrCat("... and ", Counted(left, "more rank"), ": -o json tells of all").c_str());
}

absl::StatusOr<ExitCode> ShowCheckpoint(VerbContext& context) {
  v1::GetCheckpointRequest request;
  CKPT_ASSIGN_OR_RETURN(*request.mutable_selector(),
                        ParseSelector(context.arguments.positionals()[0]));
  request.set_page_size(kPageItemsMax);
  v1::GetCheckpointResponse response;
  const auto get = [&](v1::GetCheckpointResponse& page) {
    return context.connection.Call([&](grpc::ClientContext* call) {
      return context.connection.catalog().GetCheckpoint(call, request, &page);
    });
  };
  CKPT_RETURN_IF_ERROR(get(response));
  // People look at some ranks, programs at all.
  while (context.format != OutputFormat::kTable && !response.next_page_token().empty()) {
    request.set_page_token(response.next_page_token());
    v1::GetCheckpointResponse page;
    CKPT_RETURN_IF_ERROR(get(page));
    response.mutable_parts()->MergeFrom(page.parts());
    response.set_next_page_token(page.next_page_token());
  }
  PrintCheckpoint(context.format, response);
  return kExitOk;
}

}  // namespace

Verb CheckpointShow() {
  return {.command = {.name = "checkpoint show",
                      .summary = "Show one checkpoint: its state, labels, and what each rank gave",
                      .positionals = {{.name = "RUN@STEP",
                                       .help = "or RUN@latest, RUN@latest-valid, RUN@TAG"}}},
          .run = ShowCheckpoint};
}

}  // namespace ckpt::cli
