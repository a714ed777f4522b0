// Changing the labels of a committed checkpoint: tags, pin, metrics, note.
#ifndef CKPT_SERVER_RPC_CHECKPOINT_LABELS_H_
#define CKPT_SERVER_RPC_CHECKPOINT_LABELS_H_

#include "absl/status/status.h"
#include "server/rpc/catalog.h"

namespace ckpt {

// To their file first, which is the truth, then to the index; then whoever watches is told, and
// retention looks at the run. The caller has read them under retention's lock and still holds it.
absl::Status StoreLabels(Catalog& catalog, const CheckpointRecord& record,
                         const v1::Labels& labels);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_CHECKPOINT_LABELS_H_
