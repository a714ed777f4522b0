#include "server/daemon/grpc_face.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
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

// Between bind and chmod nobody but the daemon's user gets in. The mask is the process's: folders
// that a first call makes meanwhile have their usual mode.
class SocketUmask {
 public:
  SocketUmask() : before_(::umask(0077)) {}
  ~SocketUmask() { ::umask(before_); }

 private:
  const mode_t before_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcFace>> GrpcFace::Start(const GrpcFaceOptions& options) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::unique_ptr<GrpcFace> face(new GrpcFace);
  face->socket_ = options.socket;
  grpc::ServerBuilder builder;
  SetLimits(builder);
  builder.AddListeningPort(absl::StrCat("unix:", options.socket),
                           grpc::InsecureServerCredentials());
  if (!options.listen.empty()) {
    face->listen_credentials_ = options.listen_credentials != nullptr
                                    ? options.listen_credentials
                                    : grpc::InsecureServerCredentials();
    builder.AddListeningPort(options.listen, face->listen_credentials_, &face->tcp_port_);
  }
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  {
    const SocketUmask umask;
    face->server_ = builder.BuildAndStart();
  }
  if (face->server_ == nullptr || (!options.listen.empty() && face->tcp_port_ == 0)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot serve on ", options.socket,
        options.listen.empty()
            ? ""
            : absl::StrCat(" and ", options.listen, ": is the port taken, or not of this host?")));
  }
  if (::chmod(options.socket.c_str(), options.socket_mode) != 0) {
    return absl::InternalError(absl::StrCat("socket ", options.socket,
                                            " cannot be given its mode: ", std::strerror(errno)));
  }
  face->server_->GetHealthCheckService()->SetServingStatus(true);
  return face;
}

GrpcFace::~GrpcFace() { Stop(absl::ZeroDuration()); }

void GrpcFace::SetNotServing() { server_->GetHealthCheckService()->SetServingStatus(false); }

void GrpcFace::Stop(absl::Duration grace) {
  if (server_ == nullptr) return;
  server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  server_->Wait();
  server_.reset();
  ::unlink(socket_.c_str());
}

}  // namespace ckpt
