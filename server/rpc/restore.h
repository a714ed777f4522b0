// The calls of RestoreService, one file each, apart from gRPC. The service class
// (restore_service.h) only dispatches. Errors as in restore.proto.
#ifndef CKPT_SERVER_RPC_RESTORE_H_
#define CKPT_SERVER_RPC_RESTORE_H_

#include "absl/status/status.h"
#include "ckpt/v1/restore.pb.h"
#include "server/access/rights.h"
#include "server/index/index.h"
#include "server/rpc/caller.h"
#include "server/rpc/checkpoint_finder.h"
#include "server/rpc/plan_table.h"
#include "server/rpc/restore_groups.h"
#include "server/session/session.h"
#include "server/staging/checkpoint_table.h"
#include "server/staging/memory_copies.h"
#include "server/storage/data_folder.h"

namespace ckpt {

// What the calls work on; nothing is owned.
struct Restore {
  Index* index = nullptr;
  DataFolder* folder = nullptr;
  CheckpointView* live = nullptr;
  MemoryCopies* memory = nullptr;
  CheckpointFinder* finder = nullptr;
  PlanTable* plans = nullptr;
  RestoreGroups* groups = nullptr;
  SessionServer* sessions = nullptr;  // null: no caller has a session
  // The caller's, of this call. That they reach what the request names was asked before (gate.h);
  // the calls look at them where they tell of other runs.
  const Rights* rights = Rights::OfTheDaemon();
};

absl::Status PlanRestore(Restore& restore, const v1::PlanRestoreRequest& request,
                         Cancelled cancelled, SendTo<v1::PlanRestoreResponse> send);
absl::Status ReadPieces(Restore& restore, const v1::ReadPiecesRequest& request, Cancelled cancelled,
                        SendTo<v1::ReadPiecesResponse> send);
absl::Status ReleasePlan(Restore& restore, const v1::ReleasePlanRequest& request);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_RESTORE_H_
