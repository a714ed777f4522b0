#include "server/rpc/restore_service.h"

#include "server/rpc/call.h"

namespace ckpt {

grpc::Status RestoreService::PlanRestore(grpc::ServerContext* context,
                                         const v1::PlanRestoreRequest* request,
                                         grpc::ServerWriter<v1::PlanRestoreResponse>* writer) {
  return Answer(stop_, ckpt::PlanRestore(restore_, *request, CallerGone{context, stop_},
                                         [&](const v1::PlanRestoreResponse& message) {
                                           return writer->Write(message);
                                         }));
}

grpc::Status RestoreService::ReadPieces(grpc::ServerContext* context,
                                        const v1::ReadPiecesRequest* request,
                                        grpc::ServerWriter<v1::ReadPiecesResponse>* writer) {
  return Answer(stop_, ckpt::ReadPieces(restore_, *request, CallerGone{context, stop_},
                                        [&](const v1::ReadPiecesResponse& chunk) {
                                          return writer->Write(chunk);
                                        }));
}

grpc::Status RestoreService::ReleasePlan(grpc::ServerContext*,
                                         const v1::ReleasePlanRequest* request,
                                         v1::ReleasePlanResponse*) {
  return Answer(stop_, ckpt::ReleasePlan(restore_, *request));
}

}  // namespace ckpt
