// What catalog calls say of a committed checkpoint.
#ifndef CKPT_SERVER_RPC_CHECKPOINT_INFO_H_
#define CKPT_SERVER_RPC_CHECKPOINT_INFO_H_

#include "absl/status/statusor.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/ids.h"
#include "server/index/index.h"
#include "server/staging/memory_copies.h"

namespace ckpt {

v1::CheckpointInfo InfoOf(const CheckpointRecord& record, const MemoryCopies& memory);
// INTERNAL where the record has none (a damaged index).
absl::StatusOr<CheckpointUid> UidOf(const CheckpointRecord& record);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_CHECKPOINT_INFO_H_
