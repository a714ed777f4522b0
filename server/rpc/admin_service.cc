#include "server/rpc/admin_service.h"

#include "server/rpc/call.h"

namespace ckpt {

grpc::Status AdminService::GetStatus(grpc::ServerContext* context,
                                     const v1::GetStatusRequest* request,
                                     v1::GetStatusResponse* response) {
  const Gate::RightsOf rights = gate_.EnterEverywhere(*context, Verb::kAdmin);
  if (!rights.ok()) return Answer(stop_, rights.status());
  return Answer(stop_, ckpt::GetStatus(admin_, *request, *response));
}

grpc::Status AdminService::Drain(grpc::ServerContext* context, const v1::DrainRequest* request,
                                 v1::DrainResponse* response) {
  const Gate::RightsOf rights = gate_.EnterEverywhere(*context, Verb::kAdmin);
  if (!rights.ok()) return Answer(stop_, rights.status());
  return Answer(stop_, ckpt::Drain(admin_, *request, CallerGone{context, stop_}, *response));
}

}  // namespace ckpt
