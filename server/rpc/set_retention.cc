// SetRetention and ConfirmRetention: what an operator says about deletions.
#include <optional>

#include "common/status_macros.h"
#include "server/rpc/retention_calls.h"

namespace ckpt {

absl::Status SetRetention(Retention& retention, const v1::SetRetentionRequest& request) {
  std::optional<v1::RetentionPolicy> policy;
  if (request.has_policy()) policy = request.policy();
  return retention.SetPolicy(request.run(), policy);
}

absl::Status ConfirmRetention(Retention& retention, v1::ConfirmRetentionResponse& response) {
  CKPT_ASSIGN_OR_RETURN(const bool awaited, retention.Confirm());
  response.set_awaited(awaited);
  return absl::OkStatus();
}

}  // namespace ckpt
