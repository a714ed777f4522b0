// SaveService.Prepare: staging files before they are needed.
#ifndef CKPT_SERVER_RPC_PREPARE_H_
#define CKPT_SERVER_RPC_PREPARE_H_

#include "absl/status/statusor.h"
#include "ckpt/v1/save.pb.h"
#include "server/session/session.h"
#include "server/staging/checkpoint_table.h"
#include "server/staging/memory_tier.h"

namespace ckpt {

absl::StatusOr<v1::PrepareResponse> Prepare(const v1::PrepareRequest& request,
                                            SessionServer* sessions, const CheckpointTable& table,
                                            MemoryTier* tier);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_PREPARE_H_
