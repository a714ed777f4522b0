// ckptctl status
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/verb.h"
#include "common/byte_size.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

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
  json["draining"] = status.draining();
  json["huge_pages"] = status.huge_pages();
  return json;
}

absl::StatusOr<ExitCode> ShowStatus(VerbContext& context) {
  v1::GetStatusResponse status;
  CKPT_RETURN_IF_ERROR(context.connection.Call([&](grpc::ClientContext* call) {
    return context.connection.admin().GetStatus(call, {}, &status);
  }));
  const absl::Time started = ToTime(status.started_at());
  PrintRecord(
      context.format, StatusJson(status),
      {{"ckptd",
        absl::StrCat(status.version(), ", process ", status.process_id(), ", up ",
                     PrintAge(absl::Now() - started), " (since ", PrintTime(started), ")")},
       {"saves", status.draining() ? "DRAINING: no new ones are admitted" : "admitted"},
       {"memory",
        absl::StrCat(PrintByteSize(status.memory_used_bytes()), " of ",
                     PrintByteSize(status.memory_budget_bytes()), " used, ",
                     PrintByteSize(status.memory_not_durable_bytes()), " not yet durable, in ",
                     status.memory_folder(), status.huge_pages() ? " (huge pages)" : "")},
       {"disk",
        absl::StrCat(PrintByteSize(status.disk_free_bytes()), " of ",
                     PrintByteSize(status.disk_total_bytes()), " free in ", status.data_folder())},
       {"work", absl::StrCat(status.sessions(), " sessions, ", status.open_saves(), " open saves, ",
                             status.persisting_parts(), " parts being persisted, ",
                             status.open_plans(), " open restores")},
       {"checkpoints", absl::StrCat(status.committed_checkpoints(), " committed; ",
                                    status.adopted_parts(), " parts adopted at the last start")}});
  return kExitOk;
}

}  // namespace

Verb Status() {
  return {.command = {.name = "status",
                      .summary = "What the daemon is doing: memory, disk, sessions, work"},
          .run = ShowStatus};
}

}  // namespace ckpt::cli
