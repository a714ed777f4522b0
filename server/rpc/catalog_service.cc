#include "server/rpc/catalog_service.h"

#include "server/rpc/call.h"

namespace ckpt {

grpc::Status CatalogService::ListRuns(grpc::ServerContext*, const v1::ListRunsRequest* request,
                                      v1::ListRunsResponse* response) {
  return Answer(stop_, ckpt::ListRuns(catalog_, *request, *response));
}

grpc::Status CatalogService::ListCheckpoints(grpc::ServerContext*,
                                             const v1::ListCheckpointsRequest* request,
                                             v1::ListCheckpointsResponse* response) {
  return Answer(stop_, ckpt::ListCheckpoints(catalog_, *request, *response));
}

grpc::Status CatalogService::GetCheckpoint(grpc::ServerContext* context,
                                           const v1::GetCheckpointRequest* request,
                                           v1::GetCheckpointResponse* response) {
  return Answer(stop_,
                ckpt::GetCheckpoint(catalog_, *request, CallerGone{context, stop_}, *response));
}

grpc::Status CatalogService::ListTensors(grpc::ServerContext* context,
                                         const v1::ListTensorsRequest* request,
                                         v1::ListTensorsResponse* response) {
  return Answer(stop_,
                ckpt::ListTensors(catalog_, *request, CallerGone{context, stop_}, *response));
}

grpc::Status CatalogService::DiffCheckpoints(
    grpc::ServerContext* context, const v1::DiffCheckpointsRequest* request,
    grpc::ServerWriter<v1::DiffCheckpointsResponse>* writer) {
  return Answer(stop_, ckpt::DiffCheckpoints(catalog_, *request, CallerGone{context, stop_},
                                             [&](const v1::DiffCheckpointsResponse& response) {
                                               return writer->Write(response);
                                             }));
}

grpc::Status CatalogService::WatchCheckpoints(
    grpc::ServerContext* context, const v1::WatchCheckpointsRequest* request,
    grpc::ServerWriter<v1::WatchCheckpointsResponse>* writer) {
  return Answer(stop_, ckpt::WatchCheckpoints(catalog_, *request, CallerGone{context, stop_},
                                              [&](const v1::WatchCheckpointsResponse& change) {
                                                return writer->Write(change);
                                              }));
}

grpc::Status CatalogService::WaitCheckpoint(grpc::ServerContext* context,
                                            const v1::WaitCheckpointRequest* request,
                                            v1::WaitCheckpointResponse* response) {
  return Answer(stop_, ckpt::WaitCheckpoint(catalog_, *request, DeadlineOf(*context),
                                            CallerGone{context, stop_}, *response));
}

grpc::Status CatalogService::DeleteCheckpoint(grpc::ServerContext* context,
                                              const v1::DeleteCheckpointRequest* request,
                                              v1::DeleteCheckpointResponse* response) {
  return Answer(stop_,
                ckpt::DeleteCheckpoint(catalog_, *request, CallerGone{context, stop_}, *response));
}

grpc::Status CatalogService::TagCheckpoint(grpc::ServerContext* context,
                                           const v1::TagCheckpointRequest* request,
                                           v1::TagCheckpointResponse* response) {
  return Answer(stop_,
                ckpt::TagCheckpoint(catalog_, *request, CallerGone{context, stop_}, *response));
}

grpc::Status CatalogService::AnnotateCheckpoint(grpc::ServerContext* context,
                                                const v1::AnnotateCheckpointRequest* request,
                                                v1::AnnotateCheckpointResponse* response) {
  return Answer(stop_, ckpt::AnnotateCheckpoint(catalog_, *request, CallerGone{context, stop_},
                                                *response));
}

grpc::Status CatalogService::VerifyCheckpoint(
    grpc::ServerContext* context, const v1::VerifyCheckpointRequest* request,
    grpc::ServerWriter<v1::VerifyCheckpointResponse>* writer) {
  return Answer(stop_, ckpt::VerifyCheckpoint(catalog_, *request, CallerGone{context, stop_},
                                              [&](const v1::VerifyCheckpointResponse& progress) {
                                                return writer->Write(progress);
                                              }));
}

}  // namespace ckpt
