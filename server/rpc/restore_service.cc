#include "server/rpc/restore_service.h"

#include "server/rpc/call.h"

namespace ckpt {

// A plan is given to who may read its run. From there on its number is the right to read by it: 16
// bytes from the kernel's random generator, told to nobody else. So ReadPieces and ReleasePlan ask
// only that the caller is known.

grpc::Status RestoreService::PlanRestore(grpc::ServerContext* context,
                                         const v1::PlanRestoreRequest* request,
                                         grpc::ServerWriter<v1::PlanRestoreResponse>* writer) {
  const Gate::RightsOf rights = gate_.Enter(*context, Verb::kRead, request->selector().run());
  if (!rights.ok()) return Answer(stop_, rights.status());
  Restore restore = restore_;
  restore.rights = rights->get();
  return Answer(stop_, ckpt::PlanRestore(restore, *request, CallerGone{context, stop_},
                                         [&](const v1::PlanRestoreResponse& message) {
                                           return readers_.Write(*context, *writer, message);
                                         }));
}

grpc::Status RestoreService::ReadPieces(grpc::ServerContext* context,
                                        const v1::ReadPiecesRequest* request,
                                        grpc::ServerWriter<v1::ReadPiecesResponse>* writer) {
  const Gate::RightsOf rights = gate_.Enter(*context);
  if (!rights.ok()) return Answer(stop_, rights.status());
  return Answer(stop_, ckpt::ReadPieces(restore_, *request, CallerGone{context, stop_},
                                        [&](const v1::ReadPiecesResponse& chunk) {
                                          return readers_.Write(*context, *writer, chunk);
                                        }));
}

grpc::Status RestoreService::ReleasePlan(grpc::ServerContext* context,
                                         const v1::ReleasePlanRequest* request,
                                         v1::ReleasePlanResponse*) {
  const Gate::RightsOf rights = gate_.Enter(*context);
  if (!rights.ok()) return Answer(stop_, rights.status());
  return Answer(stop_, ckpt::ReleasePlan(restore_, *request));
}

}  // namespace ckpt
