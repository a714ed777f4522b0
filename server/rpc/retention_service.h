// RetentionService over gRPC: dispatches to the calls of retention_calls.h. One thread for each
// call.
#ifndef CKPT_SERVER_RPC_RETENTION_SERVICE_H_
#define CKPT_SERVER_RPC_RETENTION_SERVICE_H_

#include "ckpt/v1/retention.grpc.pb.h"
#include "server/rpc/gate.h"
#include "server/rpc/retention_calls.h"
#include "server/rpc/stalled_readers.h"
#include "server/rpc/stop_signal.h"

namespace ckpt {

class RetentionService final : public v1::RetentionService::Service {
 public:
  RetentionService(Retention* retention, CheckpointFinder* finder, Gate gate,
                   const StopSignal* stop, StalledReaders* readers)
      : retention_(*retention),
        finder_(*finder),
        gate_(gate),
        stop_(*stop),
        readers_(*readers) {}

  grpc::Status SetRetention(grpc::ServerContext* context, const v1::SetRetentionRequest* request,
                            v1::SetRetentionResponse* response) override;
  grpc::Status GetRetention(grpc::ServerContext* context, const v1::GetRetentionRequest* request,
                            v1::GetRetentionResponse* response) override;
  grpc::Status PlanRetention(grpc::ServerContext* context, const v1::PlanRetentionRequest* request,
                             grpc::ServerWriter<v1::PlanRetentionResponse>* writer) override;
  grpc::Status ConfirmRetention(grpc::ServerContext* context,
                                const v1::ConfirmRetentionRequest* request,
                                v1::ConfirmRetentionResponse* response) override;

 private:
  Retention& retention_;
  CheckpointFinder& finder_;
  const Gate gate_;
  const StopSignal& stop_;
  StalledReaders& readers_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_RETENTION_SERVICE_H_
