#include "server/rpc/retention_service.h"

#include "server/rpc/call.h"

namespace ckpt {

grpc::Status RetentionService::SetRetention(grpc::ServerContext* context,
                                            const v1::SetRetentionRequest* request,
                                            v1::SetRetentionResponse*) {
  const Gate::RightsOf rights = gate_.Enter(*context, Verb::kAdmin, request->run());
  if (!rights.ok()) return Answer(stop_, rights.status());
  return Answer(stop_, ckpt::SetRetention(retention_, *request));
}

grpc::Status RetentionService::GetRetention(grpc::ServerContext* context,
                                            const v1::GetRetentionRequest* request,
                                            v1::GetRetentionResponse* response) {
  const Gate::RightsOf rights = gate_.Enter(*context, Verb::kRead, request->run());
  if (!rights.ok()) return Answer(stop_, rights.status());
  return Answer(stop_, ckpt::GetRetention(retention_, *request, *response));
}

grpc::Status RetentionService::PlanRetention(
    grpc::ServerContext* context, const v1::PlanRetentionRequest* request,
    grpc::ServerWriter<v1::PlanRetentionResponse>* writer) {
  const Gate::RightsOf rights = gate_.Enter(*context, Verb::kRead, request->run());
  if (!rights.ok()) return Answer(stop_, rights.status());
  return Answer(stop_, ckpt::PlanRetention(retention_, finder_, **rights, *request,
                                           [&](const v1::PlanRetentionResponse& response) {
                                             return readers_.Write(*context, *writer, response);
                                           }));
}

grpc::Status RetentionService::ConfirmRetention(grpc::ServerContext* context,
                                                const v1::ConfirmRetentionRequest*,
                                                v1::ConfirmRetentionResponse* response) {
  const Gate::RightsOf rights = gate_.EnterEverywhere(*context, Verb::kAdmin);
  if (!rights.ok()) return Answer(stop_, rights.status());
  return Answer(stop_, ckpt::ConfirmRetention(retention_, *response));
}

}  // namespace ckpt
