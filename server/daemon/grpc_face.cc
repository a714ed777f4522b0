#include "server/daemon/grpc_face.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"

namespace ckpt {
namespace {

// A call that waits (a watch, a wait) holds one of them; more calls are RESOURCE_EXHAUSTED.
constexpr int kThreadsMax = 2048;
constexpr int kStreamsPerConnectionMax = 1024;

void SetLimits(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMessageBytesMax));
  builder.SetMaxSendMessageSize(static_cast<int>(kMessageBytesMax));
  grpc::ResourceQuota quota("ckptd");
  quota.SetMaxThreads(kThreadsMax);
  builder.SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsPerConnectionMax);
  // A second daemon on one TCP port would share its calls at random.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // A caller whose machine has gone is noticed within about a minute and a half.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  // Chunks of 2 MiB travel as one frame; measured twice as fast as the defaults.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, (16 << 20) - 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16 << 20);
}

void HandOver(grpc::experimental::ExternalConnectionAcceptor& acceptor, int connection) {
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
  parameters.fd = connection;
  acceptor.HandleNewConnection(&parameters);
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcFace>> GrpcFace::Start(const GrpcFaceOptions& options) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::unique_ptr<GrpcFace> face(new GrpcFace);
  grpc::ServerBuilder builder;
  SetLimits(builder);
  face->acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      grpc::InsecureServerCredentials());
  if (!options.listen.empty()) {
    face->listen_credentials_ = options.listen_credentials != nullptr
                                    ? options.listen_credentials
                                    : grpc::InsecureServerCredentials();
    builder.AddListeningPort(options.listen, face->listen_credentials_, &face->tcp_port_);
  }
  face->reflection_ = std::make_unique<ReflectionBounds>(options.reflection);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(face->reflection_->MakeInterceptors());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  face->server_ = builder.BuildAndStart();
  if (face->server_ == nullptr || (!options.listen.empty() && face->tcp_port_ == 0)) {
    return absl::FailedPreconditionError(
        options.listen.empty()
            ? "gRPC cannot start a server"
            : absl::StrCat("cannot serve on ", options.listen,
                           ": is the port taken, or not of this host?"));
  }
  face->server_->GetHealthCheckService()->SetServingStatus(true);
  CKPT_ASSIGN_OR_RETURN(
      face->listener_,
      UnixListener::Start({.path = options.socket,
                           .mode = options.socket_mode,
                           .authorize = options.authorize,
                           .connected = [acceptor = face->acceptor_.get()](int connection) {
                             HandOver(*acceptor, connection);
                           }}));
  return face;
}

GrpcFace::~GrpcFace() { Stop(absl::ZeroDuration()); }

void GrpcFace::SetNotServing() { server_->GetHealthCheckService()->SetServingStatus(false); }

void GrpcFace::Stop(absl::Duration grace) {
  if (server_ == nullptr) return;
  listener_.reset();
  server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  server_->Wait();
  server_.reset();
}

}  // namespace ckpt
