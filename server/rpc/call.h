// What every gRPC call of the daemon needs: when it ends, who has gone, how it answers.
#ifndef CKPT_SERVER_RPC_CALL_H_
#define CKPT_SERVER_RPC_CALL_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/stop_signal.h"

namespace ckpt {

// True once the caller has cancelled, its deadline has passed, its connection has broken, or the
// daemon stops.
struct CallerGone {
  grpc::ServerContext* context;
  const StopSignal& stop;
  bool operator()() const { return stop.stopped() || context->IsCancelled(); }
};

inline absl::Time DeadlineOf(const grpc::ServerContext& context) {
  const auto deadline = context.deadline();
  // gRPC says "none" with the far end of its clock.
  if (deadline >= std::chrono::system_clock::time_point::max() - std::chrono::hours(1)) {
    return absl::InfiniteFuture();
  }
  return absl::FromChrono(deadline);
}

inline grpc::Status Answer(const StopSignal& stop, absl::Status status) {
  return ToGrpcStatus(stop.Explain(std::move(status)));
}

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_CALL_H_
