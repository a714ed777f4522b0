// The calls of AdminService, one file each, apart from gRPC. Errors as in admin.proto.
#ifndef CKPT_SERVER_RPC_ADMIN_H_
#define CKPT_SERVER_RPC_ADMIN_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ckpt/v1/admin.pb.h"
#include "server/index/index.h"
#include "server/persist/persister.h"
#include "server/retention/retention.h"
#include "server/rpc/plan_table.h"
#include "server/scrub/scrubber.h"
#include "server/session/session.h"
#include "server/staging/checkpoint_table.h"
#include "server/staging/memory_tier.h"
#include "server/storage/data_folder.h"

namespace ckpt {

// What the calls look at; nothing is owned.
struct Admin {
  std::string version;
  std::string memory_folder;
  absl::Time started_at;
  uint32_t adopted_parts = 0;
  Index* index = nullptr;
  DataFolder* folder = nullptr;
  Persister* persister = nullptr;
  MemoryTier* tier = nullptr;
  CheckpointTable* table = nullptr;
  SessionServer* sessions = nullptr;
  PlanTable* plans = nullptr;
  Scrubber* scrubber = nullptr;
  KnownDamage* damage = nullptr;
  Retention* retention = nullptr;
};

absl::Status GetStatus(Admin& admin, const v1::GetStatusRequest& request,
                       v1::GetStatusResponse& response);
absl::Status Drain(Admin& admin, const v1::DrainRequest& request,
                   absl::FunctionRef<bool()> cancelled, v1::DrainResponse& response);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_ADMIN_H_
