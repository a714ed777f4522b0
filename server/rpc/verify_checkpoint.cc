// VerifyCheckpoint: reads every byte on disk, streams how far it is and what is damaged.
#include <string>

#include "common/status_macros.h"
#include "server/observe/log.h"
#include "server/rpc/catalog.h"
#include "server/rpc/checkpoint_info.h"

namespace ckpt {

absl::Status VerifyCheckpoint(Catalog& catalog, const v1::VerifyCheckpointRequest& request,
                              Cancelled cancelled, SendTo<v1::VerifyCheckpointResponse> send) {
  CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record,
                        catalog.finder->Find(request.selector(), *catalog.rights, cancelled));
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid, UidOf(record));
  size_t damage_sent = 0;
  const auto tell = [&](const VerificationProgress& progress, bool done) {
    v1::VerifyCheckpointResponse response;
    *response.mutable_id() = record.manifest.id();
    response.set_bytes_done(progress.bytes_done);
    response.set_bytes_total(progress.bytes_total);
    // Each line is sent once; a message stays well below the limit.
    for (size_t damage_bytes = 0; damage_sent < progress.damage.size() && damage_bytes < (1 << 20);
         ++damage_sent) {
      damage_bytes += progress.damage[damage_sent].size();
      response.add_damage(progress.damage[damage_sent]);
    }
    response.set_done(done && damage_sent == progress.damage.size());
    return send(response);
  };
  CKPT_ASSIGN_OR_RETURN(const VerificationProgress result,
                        VerifyOnDisk(catalog.folder, uid, {.known = &record.manifest},
                                     [&](const VerificationProgress& progress) {
                                       return !cancelled() && tell(progress, false);
                                     }));
  catalog.finder->damage().Found(uid, result);
  do {
    if (!tell(result, true)) return CallerHasGone();
  } while (damage_sent < result.damage.size());
  if (!result.damage.empty()) {
    observe::Error("checkpoint is damaged", {{"run", record.manifest.id().run()},
                                             {"step", record.manifest.id().step()},
                                             {"places", result.damage.size()},
                                             {"first", result.damage.front()}});
  }
  return absl::OkStatus();
}

}  // namespace ckpt
