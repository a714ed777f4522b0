// The calls of RetentionService, one file each, apart from gRPC. Errors as in retention.proto.
#ifndef CKPT_SERVER_RPC_RETENTION_CALLS_H_
#define CKPT_SERVER_RPC_RETENTION_CALLS_H_

#include "absl/status/status.h"
#include "ckpt/v1/retention.pb.h"
#include "server/access/rights.h"
#include "server/retention/retention.h"
#include "server/rpc/caller.h"
#include "server/rpc/checkpoint_finder.h"

namespace ckpt {

absl::Status SetRetention(Retention& retention, const v1::SetRetentionRequest& request);
absl::Status GetRetention(const Retention& retention, const v1::GetRetentionRequest& request,
                          v1::GetRetentionResponse& response);
absl::Status PlanRetention(const Retention& retention, CheckpointFinder& finder,
                           const Rights& rights, const v1::PlanRetentionRequest& request,
                           SendTo<v1::PlanRetentionResponse> send);
absl::Status ConfirmRetention(Retention& retention, v1::ConfirmRetentionResponse& response);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_RETENTION_CALLS_H_
