#include "client/cli/connection.h"

#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <future>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "google/protobuf/wrappers.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/security/credentials.h"

namespace ckpt::cli {
namespace {

constexpr char kDefaultSocket[] = "/run/ckptd/ckptd.sock";
constexpr size_t kSocketPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;

// Why nobody answers at `socket`, and what to do.
std::string Advice(const std::string& socket) {
  struct stat status {};
  std::string why =
      "a socket is there, but nobody answers on it: the daemon was killed, is "
      "stopping, or still starting";
  if (stat(socket.c_str(), &status) != 0) {
    why = errno == ENOENT ? "there is no such socket" : std::strerror(errno);
  } else if (!S_ISSOCK(status.st_mode)) {
    why = "that is not a socket";
  }
  return absl::StrCat("no ckptd answers at ", socket, " (", why,
                      "). Start one with: ckptd --socket ", socket,
                      " --data-dir DIR; or name another socket with --socket or CKPTD_SOCKET");
}

// The code alone does not say who found that nothing is available; gRPC's text for debugging does.
bool ComesFromPeer(const grpc::ClientContext& context) {
  return absl::StrContains(context.debug_error_string(), "received from peer");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Connection>> Connection::Make(const std::string& socket,
                                                             absl::Duration timeout) {
  std::string path = socket;
  if (path.empty()) {
    const char* from_environment = std::getenv("CKPTD_SOCKET");
    path = from_environment != nullptr && *from_environment != '\0' ? from_environment
                                                                    : kDefaultSocket;
  }
  if (path.size() > kSocketPathBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("a unix socket's path has at most ",
                                                   kSocketPathBytesMax, " bytes, this one ",
                                                   path.size(), ": ", path));
  }
  return std::unique_ptr<Connection>(new Connection(std::move(path), timeout));
}

Connection::Connection(std::string socket, absl::Duration timeout)
    : socket_(std::move(socket)), timeout_(timeout), deadline_(absl::Now() + timeout) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(static_cast<int>(kMessageBytesMax));
  channel_ = grpc::CreateCustomChannel(absl::StrCat("unix:", socket_),
                                       grpc::InsecureChannelCredentials(), arguments);
  catalog_ = v1::CatalogService::NewStub(channel_);
  admin_ = v1::AdminService::NewStub(channel_);
  restore_ = v1::RestoreService::NewStub(channel_);
}

void Connection::SetDeadline(grpc::ClientContext& context) const {
  if (deadline_ != absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(deadline_));
}

absl::Status Connection::FromGrpc(const grpc::Status& status,
                                  const grpc::ClientContext* context) const {
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
      return absl::OkStatus();
    case grpc::StatusCode::UNAVAILABLE:
      if (context != nullptr && ComesFromPeer(*context)) {
        return absl::UnavailableError(status.error_message());
      }
      return absl::UnavailableError(
          absl::StrCat(Advice(socket_), " [", status.error_message(), "]"));
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return absl::DeadlineExceededError(absl::StrCat("no answer within ",
                                                      absl::FormatDuration(timeout_),
                                                      " (--timeout): ", status.error_message()));
    case grpc::StatusCode::UNIMPLEMENTED:
      return absl::UnimplementedError(absl::StrCat(
          "the daemon at ", socket_, " does not know this call; is it an older version?"));
    default:
      return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                          status.error_message());
  }
}

absl::Status Connection::Call(absl::FunctionRef<grpc::Status(grpc::ClientContext*)> call) {
  grpc::ClientContext context;
  SetDeadline(context);
  return FromGrpc(call(&context), &context);
}

absl::StatusOr<bool> Connection::Serving() {
  // HealthCheckRequest{string service = 1} and HealthCheckResponse{enum status = 1} look on the
  // wire like StringValue and UInt32Value: no copy of health.proto is needed.
  grpc::TemplatedGenericStub<google::protobuf::StringValue, google::protobuf::UInt32Value> stub(
      channel_);
  google::protobuf::StringValue request;
  google::protobuf::UInt32Value response;
  const absl::Status status = Call([&](grpc::ClientContext* context) {
    std::promise<grpc::Status> answer;
    stub.UnaryCall(context, "/grpc.health.v1.Health/Check", grpc::StubOptions(), &request,
                   &response, [&answer](grpc::Status done) { answer.set_value(std::move(done)); });
    return answer.get_future().get();
  });
  if (!status.ok()) return status;
  constexpr uint32_t kServing = 1;
  return response.value() == kServing;
}

absl::StatusOr<std::unique_ptr<Client>> Connection::ConnectClient() {
  // The library waits for a daemon that may be starting; a verb without one fails at once.
  CKPT_RETURN_IF_ERROR(Serving().status());
  return Client::Connect({.socket = socket_,
                          .name = "ckptctl",
                          .connect_timeout = std::min(timeout_, absl::Seconds(30))});
}

}  // namespace ckpt::cli
