// What catalog calls say of a committed checkpoint.
#ifndef CKPT_SERVER_RPC_CHECKPOINT_INFO_H_
#define CKPT_SERVER_RPC_CHECKPOINT_INFO_H_

#include "absl/status/statusor.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/ids.h"
#include "server/index/index.h"
#include "server/persist/known_damage.h"
#include "server/staging/checkpoint_table.h"
#include "server/staging/memory_copies.h"

namespace ckpt {

v1::CheckpointInfo InfoOf(const CheckpointRecord& record, const MemoryCopies& memory,
                          CheckpointView& live, const KnownDamage& damage);
// All of its parts.
bool InMemory(const CheckpointRecord& record, CheckpointUid uid, const MemoryCopies& memory);
// It is deleted: its memory copies and what was known of its damage go, and whoever watches is
// told.
void CheckpointDeleted(const CheckpointRecord& record, MemoryCopies& memory, CheckpointView& live,
                       KnownDamage& damage);
// INTERNAL where the record has none (a damaged index).
absl::StatusOr<CheckpointUid> UidOf(const CheckpointRecord& record);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_CHECKPOINT_INFO_H_
