// The calls of CatalogService, one file each, apart from gRPC: requests in, answers out. The
// service class (catalog_service.h) only dispatches. Errors as in catalog.proto.
#ifndef CKPT_SERVER_RPC_CATALOG_H_
#define CKPT_SERVER_RPC_CATALOG_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ckpt/v1/catalog.pb.h"
#include "server/access/rights.h"
#include "server/index/index.h"
#include "server/persist/persister.h"
#include "server/retention/retention.h"
#include "server/rpc/caller.h"
#include "server/rpc/checkpoint_finder.h"
#include "server/staging/checkpoint_table.h"
#include "server/staging/memory_copies.h"
#include "server/storage/data_folder.h"

namespace ckpt {

// What the calls work on; nothing is owned.
struct Catalog {
  Index* index = nullptr;
  DataFolder* folder = nullptr;
  Persister* persister = nullptr;
  CheckpointView* live = nullptr;
  MemoryCopies* memory = nullptr;
  CheckpointFinder* finder = nullptr;
  Retention* retention = nullptr;  // its lock is held while labels or what is committed change
  // The caller's, of this call. That they reach what the request names was asked before (gate.h);
  // the calls look at them where they tell of other runs.
  const Rights* rights = Rights::OfTheDaemon();
};

absl::Status ListRuns(Catalog& catalog, const v1::ListRunsRequest& request,
                      v1::ListRunsResponse& response);
absl::Status ListCheckpoints(Catalog& catalog, const v1::ListCheckpointsRequest& request,
                             v1::ListCheckpointsResponse& response);
absl::Status GetCheckpoint(Catalog& catalog, const v1::GetCheckpointRequest& request,
                           Cancelled cancelled, v1::GetCheckpointResponse& response);
absl::Status ListTensors(Catalog& catalog, const v1::ListTensorsRequest& request,
                         Cancelled cancelled, v1::ListTensorsResponse& response);
absl::Status DiffCheckpoints(Catalog& catalog, const v1::DiffCheckpointsRequest& request,
                             Cancelled cancelled, SendTo<v1::DiffCheckpointsResponse> send);
absl::Status WatchCheckpoints(Catalog& catalog, const v1::WatchCheckpointsRequest& request,
                              Cancelled cancelled, SendTo<v1::WatchCheckpointsResponse> send);
absl::Status WaitCheckpoint(Catalog& catalog, const v1::WaitCheckpointRequest& request,
                            absl::Time deadline, Cancelled cancelled,
                            v1::WaitCheckpointResponse& response);
absl::Status DeleteCheckpoint(Catalog& catalog, const v1::DeleteCheckpointRequest& request,
                              Cancelled cancelled, v1::DeleteCheckpointResponse& response);
absl::Status TagCheckpoint(Catalog& catalog, const v1::TagCheckpointRequest& request,
                           Cancelled cancelled, v1::TagCheckpointResponse& response);
absl::Status AnnotateCheckpoint(Catalog& catalog, const v1::AnnotateCheckpointRequest& request,
                                Cancelled cancelled, v1::AnnotateCheckpointResponse& response);
absl::Status VerifyCheckpoint(Catalog& catalog, const v1::VerifyCheckpointRequest& request,
                              Cancelled cancelled, SendTo<v1::VerifyCheckpointResponse> send);

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_CATALOG_H_
