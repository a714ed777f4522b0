// ckptctl status
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

Json Limit(uint64_t limit) { return limit == 0 ? Json() : Json(limit); }

Json StatusJson(const v1::GetStatusResponse& status) {
  Json json;
  json["version"] = status.version();
  json["process_id"] = status.process_id();
  json["started_at"] = PrintTime(ToTime(status.started_at()));
  json["data_folder"] = status.data_folder();
  json["memory_folder"] = status.memory_folder();
  json["memory_budget_bytes"] = status.memory_budget_bytes();
  json["memory_used_bytes"] = status.memory_used_bytes();
  json["memory_not_durable_bytes"] = status.memory_not_durable_bytes();
  json["disk_free_bytes"] = status.disk_free_bytes();
  json["disk_total_bytes"] = status.disk_total_bytes();
  json["sessions"] = status.sessions();
  json["open_saves"] = status.open_saves();
  json["persisting_parts"] = status.persisting_parts();
  json["open_plans"] = status.open_plans();
  json["committed_checkpoints"] = status.committed_checkpoints();
  json["adopted_parts"] = status.adopted_parts();
  json["damaged_checkpoints"] = status.damaged_checkpoints();
  json["scrub_bytes_per_second_max"] = status.scrub_bytes_per_second_max();
  json["scrubbed_bytes"] = status.scrubbed_bytes();
  json["scrub_damaged_places"] = status.scrub_damaged_places();
  json["scrub_repaired_files"] = status.scrub_repaired_files();
  json["scrub_checkpoints_due"] = status.scrub_checkpoints_due();
  json["scrub_pass_ended_at"] = status.has_scrub_pass_ended_at()
                                    ? Json(PrintTime(ToTime(status.scrub_pass_ended_at())))
                                    : Json();
  json["draining"] = status.draining();
  json["huge_pages"] = status.huge_pages();
  json["retention_awaits_confirmation"] = status.retention_awaits_confirmation();
  json["retention_policies_damaged"] = status.retention_policies_damaged();
  json["quotas"] = Json::array();
  for (const v1::QuotaUse& use : status.quotas()) {
    Json quota;
    quota["pattern"] = use.pattern();
    quota["disk_bytes"] = use.disk_bytes();
    quota["disk_bytes_max"] = Limit(use.disk_bytes_max());
    quota["memory_bytes"] = use.memory_bytes();
    quota["memory_bytes_max"] = Limit(use.memory_bytes_max());
    quota["checkpoints"] = use.checkpoints();
    quota["checkpoints_max"] = Limit(use.checkpoints_max());
    quota["open_saves"] = use.open_saves();
    quota["open_saves_max"] = Limit(use.open_saves_max());
    json["quotas"].push_back(std::move(quota));
  }
  return json;
}

// What is limited, of one section.
std::string QuotaText(const v1::QuotaUse& use) {
  std::vector<std::string> limits;
  if (use.disk_bytes_max() > 0) {
    limits.push_back(absl::StrCat(PrintByteSize(use.disk_bytes()), " of ",
                                  PrintByteSize(use.disk_bytes_max()), " disk"));
  }
  if (use.memory_bytes_max() > 0) {
    limits.push_back(absl::StrCat(PrintByteSize(use.memory_bytes()), " of ",
                                  PrintByteSize(use.memory_bytes_max()), " memory"));
  }
  if (use.checkpoints_max() > 0) {
    limits.push_back(
        absl::StrCat(use.checkpoints(), " of ", Counted(use.checkpoints_max(), "checkpoint")));
  }
  if (use.open_saves_max() > 0) {
    limits.push_back(
        absl::StrCat(use.open_saves(), " of ", Counted(use.open_saves_max(), "open save")));
  }
  return absl::StrCat("[", use.pattern(), "] ",
                      limits.empty() ? "no limit" : absl::StrJoin(limits, ", "));
}

std::string ScrubText(const v1::GetStatusResponse& status) {
  if (status.scrub_bytes_per_second_max() == 0) return "off";
  std::string text = absl::StrCat(PrintByteSize(status.scrubbed_bytes()), " read since the start, ",
                                  Counted(status.scrub_damaged_places(), "damaged place"), " met, ",
                                  Counted(status.scrub_repaired_files(), "file"), " repaired; ");
  if (status.scrub_checkpoints_due() > 0) {
    absl::StrAppend(&text, Counted(status.scrub_checkpoints_due(), "checkpoint"), " to go");
  } else if (status.has_scrub_pass_ended_at()) {
    absl::StrAppend(&text, "last pass ended ", PrintTime(ToTime(status.scrub_pass_ended_at())));
  } else {
    absl::StrAppend(&text, "nothing was due yet");
  }
  return text;
}

absl::StatusOr<ExitCode> ShowStatus(VerbContext& context) {
  v1::GetStatusResponse status;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.admin().GetStatus(call, {}, &status);
  }));
  const absl::Time started = ToTime(status.started_at());
  std::vector<std::pair<std::string, std::string>> lines = {
      {"ckptd", absl::StrCat(status.version(), ", process ", status.process_id(), ", up ",
                             PrintAge(absl::Now() - started), " (since ", PrintTime(started), ")")},
      {"saves", status.draining() ? "DRAINING: no new ones are admitted" : "admitted"},
      {"memory", absl::StrCat(PrintByteSize(status.memory_used_bytes()), " of ",
                              PrintByteSize(status.memory_budget_bytes()), " used, ",
                              PrintByteSize(status.memory_not_durable_bytes()),
                              " not yet durable, in ", status.memory_folder(),
                              status.huge_pages() ? " (huge pages)" : " (no huge pages)")},
      {"disk",
       absl::StrCat(PrintByteSize(status.disk_free_bytes()), " of ",
                    PrintByteSize(status.disk_total_bytes()), " free in ", status.data_folder())},
      {"work", absl::StrCat(Counted(status.sessions(), "session"), ", ",
                            Counted(status.open_saves(), "open save"), ", ",
                            Counted(status.persisting_parts(), "part"), " being persisted, ",
                            Counted(status.open_plans(), "open restore"))},
      {"checkpoints",
       absl::StrCat(status.committed_checkpoints(), " committed; ",
                    Counted(status.adopted_parts(), "part"), " adopted at the last start",
                    status.damaged_checkpoints() == 0
                        ? ""
                        : absl::StrCat("; ", status.damaged_checkpoints(),
                                       " DAMAGED: checkpoint ls names them"))},
      {"scrub", ScrubText(status)},
      {"retention",
       status.retention_policies_damaged()
           ? "OFF: the file of policies is damaged (ckptctl retention show RUN)"
       : status.retention_awaits_confirmation()
           ? "OFF: the index was made anew, or policies have gone (ckptctl retention confirm)"
           : "by policy (ckptctl retention show RUN)"}};
  for (const v1::QuotaUse& use : status.quotas()) lines.emplace_back("quota", QuotaText(use));
  PrintRecord(context.format, StatusJson(status), lines);
  return kExitOk;
}

}  // namespace

Verb Status() {
  return {.command = {.name = "status",
                      .summary = "What the daemon is doing: memory, disk, sessions, work"},
          .run = ShowStatus};
}

}  // namespace ckpt::cli
