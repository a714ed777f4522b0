#include "server/rpc/retention_service.h"

#include "server/rpc/call.h"

namespace ckpt {

grpc::Status RetentionService::SetRetention(grpc::ServerContext*,
                                            const v1::SetRetentionRequest* request,
                                            v1::SetRetentionResponse*) {
  return Answer(stop_, ckpt::SetRetention(retention_, *request));
}

grpc::Status RetentionService::GetRetention(grpc::ServerContext*,
                                            const v1::GetRetentionRequest* request,
                                            v1::GetRetentionResponse* response) {
  return Answer(stop_, ckpt::GetRetention(retention_, *request, *response));
}

grpc::Status RetentionService::PlanRetention(
    grpc::ServerContext*, const v1::PlanRetentionRequest* request,
    grpc::ServerWriter<v1::PlanRetentionResponse>* writer) {
  return Answer(stop_, ckpt::PlanRetention(retention_, finder_, *request,
                                           [&](const v1::PlanRetentionResponse& response) {
                                             return writer->Write(response);
                                           }));
}

grpc::Status RetentionService::ConfirmRetention(grpc::ServerContext*,
                                                const v1::ConfirmRetentionRequest*,
                                                v1::ConfirmRetentionResponse* response) {
  return Answer(stop_, ckpt::ConfirmRetention(retention_, *response));
}

}  // namespace ckpt
