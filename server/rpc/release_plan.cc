// ReleasePlan: drops what a plan references. Idempotent.
#include "common/status_macros.h"
#include "server/rpc/restore.h"

namespace ckpt {

absl::Status ReleasePlan(Restore& restore, const v1::ReleasePlanRequest& request) {
  CKPT_ASSIGN_OR_RETURN(const PlanId id, PlanId::FromBytes(request.plan_id(), "plan_id"));
  restore.plans->Release(id);
  return absl::OkStatus();
}

}  // namespace ckpt
