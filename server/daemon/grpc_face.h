// The gRPC server with its sockets: ports, limits, health, reflection. Knows no service by name.
#ifndef CKPT_SERVER_DAEMON_GRPC_FACE_H_
#define CKPT_SERVER_DAEMON_GRPC_FACE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "server/daemon/reflection_bounds.h"
#include "server/daemon/unix_listener.h"

namespace ckpt {

struct GrpcFaceOptions {
  std::string socket;  // path; the caller holds its lock
  uint32_t socket_mode = 0660;
  // Who may connect to the socket beyond what its mode says; null: whoever can.
  std::function<absl::Status(const PeerCredentials&)> authorize;
  std::string listen;  // host:port; empty: none
  std::shared_ptr<grpc::ServerCredentials> listen_credentials;  // null: unencrypted
  std::vector<grpc::Service*> services;
  ReflectionLimits reflection;
};

class GrpcFace {
 public:
  // Serves when it returns, and says so over grpc.health.v1. FAILED_PRECONDITION: the TCP port is
  // taken.
  static absl::StatusOr<std::unique_ptr<GrpcFace>> Start(const GrpcFaceOptions& options);
  ~GrpcFace();

  // grpc.health.v1 says NOT_SERVING from now on; calls are still answered.
  void SetNotServing();
  // The unix socket goes, new calls are refused; those still at work when `grace` is over are
  // cancelled. Returns when all have ended.
  void Stop(absl::Duration grace);
  int tcp_port() const { return tcp_port_; }

 private:
  GrpcFace() = default;
  std::shared_ptr<grpc::ServerCredentials> listen_credentials_;  // outlive the server
  std::unique_ptr<ReflectionBounds> reflection_;                // as well
  std::unique_ptr<grpc::Server> server_;
  // Connections of the unix socket, from the listener that has looked at their peers to the server.
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<UnixListener> listener_;
  int tcp_port_ = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_DAEMON_GRPC_FACE_H_
