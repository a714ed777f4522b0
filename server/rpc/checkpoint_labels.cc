#include "server/rpc/checkpoint_labels.h"

#include "common/status_macros.h"
#include "server/rpc/checkpoint_info.h"

namespace ckpt {

absl::Status StoreLabels(Catalog& catalog, const CheckpointRecord& record,
                         const v1::Labels& labels) {
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid, UidOf(record));
  CKPT_RETURN_IF_ERROR(catalog.persister->PutLabels(uid, labels));
  CheckpointRecord changed = record;
  changed.labels = labels;
  catalog.live->Announce(InfoOf(changed, *catalog.memory, *catalog.live, catalog.finder->damage()),
                         /*deleted=*/false);
  catalog.retention->RunChanged(record.manifest.id().run());
  return absl::OkStatus();
}

}  // namespace ckpt
