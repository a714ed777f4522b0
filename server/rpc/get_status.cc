// GetStatus: what the daemon holds and does at this moment.
#include <unistd.h>

#include "absl/time/time.h"
#include "common/status_macros.h"
#include "server/rpc/admin.h"

namespace ckpt {

absl::Status GetStatus(Admin& admin, const v1::GetStatusRequest&, v1::GetStatusResponse& response) {
  response.set_version(admin.version);
  response.mutable_started_at()->set_seconds(absl::ToUnixSeconds(admin.started_at));
  response.mutable_started_at()->set_nanos(
      static_cast<int32_t>(absl::ToUnixNanos(admin.started_at) % 1'000'000'000));
  response.set_process_id(static_cast<uint64_t>(::getpid()));
  response.set_data_folder(admin.folder->path());
  response.set_memory_folder(admin.memory_folder);
  const MemoryUsage memory = admin.tier->usage();
  response.set_memory_budget_bytes(memory.budget_bytes);
  response.set_memory_used_bytes(memory.used_bytes);
  response.set_memory_not_durable_bytes(memory.not_durable_bytes);
  response.set_huge_pages(memory.huge_pages);
  if (const absl::StatusOr<DiskSpace> space = admin.folder->Space(); space.ok()) {
    response.set_disk_free_bytes(space->free_bytes);
    response.set_disk_total_bytes(space->total_bytes);
  }
  response.set_sessions(static_cast<uint32_t>(admin.sessions->count()));
  response.set_open_saves(admin.table->open_saves());
  response.set_persisting_parts(admin.persister->parts_at_work());
  response.set_open_plans(static_cast<uint32_t>(admin.plans->count()));
  response.set_committed_checkpoints(admin.index->CheckpointCount());
  const ScrubStatus scrub = admin.scrubber->status();
  response.set_scrub_bytes_per_second_max(admin.scrubber->bytes_per_second());
  response.set_scrubbed_bytes(scrub.bytes);
  response.set_scrub_damaged_places(scrub.damaged_places);
  response.set_scrub_repaired_files(scrub.repaired_files);
  response.set_scrub_checkpoints_due(scrub.checkpoints_due);
  if (scrub.pass_ended_at > absl::InfinitePast()) {
    response.mutable_scrub_pass_ended_at()->set_seconds(absl::ToUnixSeconds(scrub.pass_ended_at));
  }
  response.set_damaged_checkpoints(admin.damage->count());
  response.set_draining(admin.table->draining());
  response.set_adopted_parts(admin.adopted_parts);
  CKPT_ASSIGN_OR_RETURN(const bool awaits, admin.retention->AwaitsConfirmation());
  response.set_retention_awaits_confirmation(awaits);
  response.set_retention_policies_damaged(!admin.retention->policies_status().ok());
  for (const auto& [section, used] : admin.table->QuotasInUse()) {
    v1::QuotaUse& use = *response.add_quotas();
    use.set_pattern(section.pattern.text());
    use.set_disk_bytes(used.disk_bytes);
    use.set_disk_bytes_max(section.limits.disk_bytes);
    use.set_memory_bytes(used.memory_bytes);
    use.set_memory_bytes_max(section.limits.memory_bytes);
    use.set_checkpoints(used.checkpoints);
    use.set_checkpoints_max(section.limits.checkpoints);
    use.set_open_saves(used.open_saves);
    use.set_open_saves_max(section.limits.open_saves);
  }
  return absl::OkStatus();
}

}  // namespace ckpt
