// AdminService over gRPC: dispatches to the calls of admin.h. One thread for each call.
#ifndef CKPT_SERVER_RPC_ADMIN_SERVICE_H_
#define CKPT_SERVER_RPC_ADMIN_SERVICE_H_

#include <utility>

#include "ckpt/v1/admin.grpc.pb.h"
#include "server/rpc/admin.h"
#include "server/rpc/gate.h"
#include "server/rpc/stop_signal.h"

namespace ckpt {

class AdminService final : public v1::AdminService::Service {
 public:
  AdminService(Admin admin, Gate gate, const StopSignal* stop)
      : admin_(std::move(admin)), gate_(gate), stop_(*stop) {}

  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest* request,
                         v1::GetStatusResponse* response) override;
  grpc::Status Drain(grpc::ServerContext* context, const v1::DrainRequest* request,
                     v1::DrainResponse* response) override;

 private:
  Admin admin_;
  const Gate gate_;
  const StopSignal& stop_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_ADMIN_SERVICE_H_
