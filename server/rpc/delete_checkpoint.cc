// DeleteCheckpoint: hidden at once, unlinked at the last reference.
#include <string>

#include "absl/strings/str_cat.h"
#include "common/checkpoint_id.h"
#include "common/status_macros.h"
#include "server/observe/log.h"
#include "server/rpc/catalog.h"
#include "server/rpc/checkpoint_info.h"

namespace ckpt {
namespace {

// One that is being written under that name: deleting it is the writer's business.
absl::Status RefuseLive(Catalog& catalog, const v1::Selector& selector) {
  for (const v1::CheckpointInfo& info : catalog.live->Live(selector.run())) {
    const bool named =
        info.id().step() == selector.step() &&
        (selector.incarnation().empty() || selector.incarnation() == info.id().incarnation());
    if (named && (info.state() == v1::CHECKPOINT_STATE_WRITING ||
                  info.state() == v1::CHECKPOINT_STATE_STAGED)) {
      return absl::FailedPreconditionError(
          absl::StrCat(selector.run(), "@", selector.step(),
                       " is still being written; wait until it is committed or aborted"));
    }
  }
  return absl::OkStatus();
}

absl::Status DeleteOnce(Catalog& catalog, const v1::DeleteCheckpointRequest& request,
                        Cancelled cancelled, v1::DeleteCheckpointResponse& response) {
  CKPT_ASSIGN_OR_RETURN(const auto ahead, catalog.finder->FindAhead(request.selector(),
                                                                    *catalog.rights, cancelled));
  MutexLock lock(catalog.retention->changing());
  const absl::StatusOr<CheckpointRecord> record =
      catalog.finder->FindNow(request.selector(), *catalog.rights, ahead);
  if (absl::IsNotFound(record.status()) && request.selector().has_step()) {
    CKPT_RETURN_IF_ERROR(RefuseLive(catalog, request.selector()));
  }
  CKPT_RETURN_IF_ERROR(record.status());
  const std::string name =
      absl::StrCat(record->manifest.id().run(), "@", record->manifest.id().step());
  if (record->labels.pinned()) {
    return absl::FailedPreconditionError(absl::StrCat(
        name, " is pinned; take the pin off before deleting it (ckptctl checkpoint unpin)"));
  }
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid, UidOf(*record));
  *response.mutable_checkpoint() =
      InfoOf(*record, *catalog.memory, *catalog.live, catalog.finder->damage());
  const absl::Status deleted = catalog.persister->Delete(uid);
  // Hidden, though perhaps not all of its files are gone: the next start sees to them.
  const bool hidden = absl::IsNotFound(catalog.index->GetCheckpoint(uid).status());
  if (!hidden || absl::IsNotFound(deleted)) return deleted;  // or a commit has replaced it
  CheckpointDeleted(*record, *catalog.memory, *catalog.live, catalog.finder->damage());
  observe::Info("checkpoint deleted", {{"run", record->manifest.id().run()},
                                       {"step", record->manifest.id().step()},
                                       {"uid", uid.hex()}});
  if (!deleted.ok()) {
    observe::Warning("some of its files are left until the next start",
                     {{"checkpoint", name}, {"error", deleted}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DeleteCheckpoint(Catalog& catalog, const v1::DeleteCheckpointRequest& request,
                              Cancelled cancelled, v1::DeleteCheckpointResponse& response) {
  CKPT_RETURN_IF_ERROR(ValidateSelector(request.selector()));
  absl::Status deleted;
  do {
    deleted = DeleteOnce(catalog, request, cancelled, response);
  } while (absl::IsResourceExhausted(deleted) && !cancelled() && catalog.persister->AwaitRoom());
  return deleted;
}

}  // namespace ckpt
