// The way to the daemon: one channel over its unix socket or to its TCP port, the stubs of the
// services, deadlines, and errors that say what to do next.
#ifndef CKPT_CLIENT_CLI_CONNECTION_H_
#define CKPT_CLIENT_CLI_CONNECTION_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/admin.grpc.pb.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "ckpt/v1/restore.grpc.pb.h"
#include "ckpt/v1/retention.grpc.pb.h"
#include "client/client.h"
#include "client/transport/tls_options.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"

namespace ckpt::cli {

class Connection {
 public:
  // Empty: $CKPTD_SOCKET, then /run/ckptd/ckptd.sock. Connects at the first call.
  // INVALID_ARGUMENT: a path longer than a unix socket's may be, or what looks like HOST:PORT.
  static absl::StatusOr<std::unique_ptr<Connection>> Make(const std::string& socket,
                                                          absl::Duration timeout);
  // To what ckptd --listen names, as HOST:PORT; INVALID_ARGUMENT where it is not.
  // `tls` as in client/transport/tls_options.h: unencrypted where it is not used. INVALID_ARGUMENT
  // names a file that is missing or none.
  static absl::StatusOr<std::unique_ptr<Connection>> MakeRemote(const std::string& address,
                                                                TlsOptions tls,
                                                                absl::Duration timeout);

  // Sends this token with every call; empty: none.
  void UseToken(std::string token) { token_ = std::move(token); }

  v1::CatalogService::Stub& catalog() { return *catalog_; }
  v1::AdminService::Stub& admin() { return *admin_; }
  v1::RestoreService::Stub& restore() { return *restore_; }
  v1::RetentionService::Stub& retention() { return *retention_; }
  bool remote() const { return !address_.empty(); }
  const std::string& peer() const { return remote() ? address_ : socket_; }
  // --timeout, or the verb's own default; infinite: none.
  absl::Duration timeout() const { return timeout_; }

  // Runs `call` with a context that has the deadline, and converts its status: UNAVAILABLE says how
  // to start a daemon; PERMISSION_DENIED: this user may not use the socket.
  absl::Status Call(absl::FunctionRef<grpc::Status(grpc::ClientContext*)> call);
  // With the stream's context, UNAVAILABLE that the daemon itself said (it is stopping) is told
  // from nobody being there.
  absl::Status FromGrpc(const grpc::Status& status,
                        const grpc::ClientContext* context = nullptr) const;
  // What a call of a stream needs: the deadline, and the token.
  void Prepare(grpc::ClientContext& context) const;

  // grpc.health.v1 of the whole server. UNAVAILABLE where nobody answers.
  absl::StatusOr<bool> Serving();
  // For the verbs that move bytes: the client library to the same peer. UNAVAILABLE as Serving.
  absl::StatusOr<std::unique_ptr<Client>> ConnectClient();

 private:
  Connection(std::string socket, std::string address, TlsOptions tls, absl::Duration timeout);
  void OpenChannel(const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                   grpc::ChannelArguments arguments);

  const std::string socket_;   // one of them is empty
  const std::string address_;
  const TlsOptions tls_;
  const absl::Duration timeout_;
  const absl::Time deadline_;
  std::string token_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::CatalogService::Stub> catalog_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
  std::unique_ptr<v1::RestoreService::Stub> restore_;
  std::unique_ptr<v1::RetentionService::Stub> retention_;
};

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_CONNECTION_H_
