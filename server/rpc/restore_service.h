// RestoreService over gRPC: dispatches to the calls of restore.h. One thread for each call.
#ifndef CKPT_SERVER_RPC_RESTORE_SERVICE_H_
#define CKPT_SERVER_RPC_RESTORE_SERVICE_H_

#include "ckpt/v1/restore.grpc.pb.h"
#include "server/rpc/gate.h"
#include "server/rpc/restore.h"
#include "server/rpc/stalled_readers.h"
#include "server/rpc/stop_signal.h"

namespace ckpt {

class RestoreService final : public v1::RestoreService::Service {
 public:
  RestoreService(Restore restore, Gate gate, const StopSignal* stop, StalledReaders* readers)
      : restore_(restore), gate_(gate), stop_(*stop), readers_(*readers) {}

  grpc::Status PlanRestore(grpc::ServerContext* context, const v1::PlanRestoreRequest* request,
                           grpc::ServerWriter<v1::PlanRestoreResponse>* writer) override;
  grpc::Status ReadPieces(grpc::ServerContext* context, const v1::ReadPiecesRequest* request,
                          grpc::ServerWriter<v1::ReadPiecesResponse>* writer) override;
  grpc::Status ReleasePlan(grpc::ServerContext* context, const v1::ReleasePlanRequest* request,
                           v1::ReleasePlanResponse* response) override;

 private:
  Restore restore_;
  const Gate gate_;
  const StopSignal& stop_;
  StalledReaders& readers_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_RESTORE_SERVICE_H_
