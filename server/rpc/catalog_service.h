// CatalogService over gRPC: dispatches to the calls of catalog.h. One thread for each call.
#ifndef CKPT_SERVER_RPC_CATALOG_SERVICE_H_
#define CKPT_SERVER_RPC_CATALOG_SERVICE_H_

#include "ckpt/v1/catalog.grpc.pb.h"
#include "server/rpc/catalog.h"
#include "server/rpc/gate.h"
#include "server/rpc/stalled_readers.h"
#include "server/rpc/stop_signal.h"

namespace ckpt {

class CatalogService final : public v1::CatalogService::Service {
 public:
  CatalogService(Catalog* catalog, Gate gate, const StopSignal* stop, StalledReaders* readers)
      : catalog_(*catalog), gate_(gate), stop_(*stop), readers_(*readers) {}

  grpc::Status ListRuns(grpc::ServerContext* context, const v1::ListRunsRequest* request,
                        v1::ListRunsResponse* response) override;
  grpc::Status ListCheckpoints(grpc::ServerContext* context,
                               const v1::ListCheckpointsRequest* request,
                               v1::ListCheckpointsResponse* response) override;
  grpc::Status GetCheckpoint(grpc::ServerContext* context, const v1::GetCheckpointRequest* request,
                             v1::GetCheckpointResponse* response) override;
  grpc::Status ListTensors(grpc::ServerContext* context, const v1::ListTensorsRequest* request,
                           v1::ListTensorsResponse* response) override;
  grpc::Status DiffCheckpoints(grpc::ServerContext* context,
                               const v1::DiffCheckpointsRequest* request,
                               grpc::ServerWriter<v1::DiffCheckpointsResponse>* writer) override;
  grpc::Status WatchCheckpoints(grpc::ServerContext* context,
                                const v1::WatchCheckpointsRequest* request,
                                grpc::ServerWriter<v1::WatchCheckpointsResponse>* writer) override;
  grpc::Status WaitCheckpoint(grpc::ServerContext* context,
                              const v1::WaitCheckpointRequest* request,
                              v1::WaitCheckpointResponse* response) override;
  grpc::Status DeleteCheckpoint(grpc::ServerContext* context,
                                const v1::DeleteCheckpointRequest* request,
                                v1::DeleteCheckpointResponse* response) override;
  grpc::Status TagCheckpoint(grpc::ServerContext* context, const v1::TagCheckpointRequest* request,
                             v1::TagCheckpointResponse* response) override;
  grpc::Status AnnotateCheckpoint(grpc::ServerContext* context,
                                  const v1::AnnotateCheckpointRequest* request,
                                  v1::AnnotateCheckpointResponse* response) override;
  grpc::Status VerifyCheckpoint(grpc::ServerContext* context,
                                const v1::VerifyCheckpointRequest* request,
                                grpc::ServerWriter<v1::VerifyCheckpointResponse>* writer) override;

 private:
  // Runs `call(catalog)` with the caller's rights, once he is let in.
  template <typename Call>
  grpc::Status With(const Gate::RightsOf& rights, Call call);

  Catalog& catalog_;
  const Gate gate_;
  const StopSignal& stop_;
  StalledReaders& readers_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_CATALOG_SERVICE_H_
