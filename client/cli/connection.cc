#include "client/cli/connection.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/transport/tls_credentials.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "google/protobuf/wrappers.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/impl/codegen/client_unary_call.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/impl/rpc_method.h"

namespace ckpt::cli {
namespace {

constexpr char kDefaultSocket[] = "/run/ckptd/ckptd.sock";
constexpr size_t kSocketPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;

absl::Status MayNotUse(const std::string& socket, const struct stat& status) {
  const passwd* owner = getpwuid(status.st_uid);
  const group* members = getgrgid(status.st_gid);
  return absl::PermissionDeniedError(absl::StrFormat(
      "this user may not use the socket %s (mode %04o, owner %s, group %s): use it as a member of "
      "that group, or start ckptd with another --socket-mode",
      socket, status.st_mode & 07777,
      owner != nullptr ? owner->pw_name : absl::StrCat(status.st_uid),
      members != nullptr ? members->gr_name : absl::StrCat(status.st_gid)));
}

// Why nobody answers at `socket`, and what to do.
absl::Status NobodyAnswers(const std::string& socket, absl::string_view found) {
  struct stat status {};
  std::string why =
      "a socket is there, but nobody answers on it: the daemon was killed, is "
      "stopping, still starting, or does not serve this user (--allow-uid, --allow-gid)";
  if (stat(socket.c_str(), &status) != 0) {
    if (errno == EACCES) {
      return absl::PermissionDeniedError(
          absl::StrCat("this user may not enter the folder of the socket ", socket));
    }
    why = errno == ENOENT ? "there is no such socket" : std::strerror(errno);
  } else if (!S_ISSOCK(status.st_mode)) {
    why = "that is not a socket";
  } else if (faccessat(AT_FDCWD, socket.c_str(), W_OK, AT_EACCESS) != 0 && errno == EACCES) {
    return MayNotUse(socket, status);
  }
  return absl::UnavailableError(
      absl::StrCat("no ckptd answers at ", socket, " (", why, "). Start one with: ckptd --socket ",
                   socket, " --data-dir DIR; or name another socket with --socket or CKPTD_SOCKET",
                   " [", found, "]"));
}

// Why no call gets through to `address`, from what gRPC found there.
absl::Status NoWayThrough(const std::string& address, const TlsOptions& tls,
                          absl::string_view found) {
  const auto says = [found](absl::string_view text) { return absl::StrContains(found, text); };
  std::string why =
      absl::StrCat("no ckptd answers at ", address,
                   ": it listens there only where it was started with --listen HOST:PORT");
  if (says("not in peer certificate")) {
    return absl::UnauthenticatedError(absl::StrCat(
        "the certificate shown at ", address, " is not of ",
        tls.server_name.empty() ? "that host" : Quoted(tls.server_name),
        ": if it is the daemon that you mean, give the name in its certificate with --tls-name [",
        found, "]"));
  }
  if (says("CERTIFICATE_VERIFY_FAILED") || says("certificate verify failed")) {
    return absl::UnauthenticatedError(
        absl::StrCat("the certificate shown at ", address, " is not signed by the CA in ",
                     tls.ca_file, " (--tls-ca), or has expired [", found, "]"));
  }
  if (tls.used() && (says("WRONG_VERSION_NUMBER") || says("wrong version number"))) {
    why = absl::StrCat("what answers at ", address,
                       " speaks no TLS: if ckptd was started with --insecure-tcp there, leave out "
                       "--tls-ca, --tls-cert and --tls-key");
  } else if (tls.used() && !says("refused") && !says("DNS")) {
    why = absl::StrCat("the connection to ", address, " was ended by the other side: a ckptd that "
                       "refuses the certificate in ", tls.certificate_file,
                       " does so (has it expired, is it signed by its --tls-client-ca?)");
  } else if (!says("refused") && !says("DNS")) {
    why = absl::StrCat("what answers at ", address,
                       " ends an unencrypted connection: if ckptd was started with --tls-cert "
                       "there, give --tls-ca, --tls-cert and --tls-key");
  }
  return absl::UnavailableError(absl::StrCat(why, " [", found, "]"));
}

bool IsHostAndPort(absl::string_view text) {
  const size_t colon = text.rfind(':');
  uint32_t port = 0;
  return colon != absl::string_view::npos && colon > 0 && !absl::StrContains(text, '/') &&
         absl::SimpleAtoi(text.substr(colon + 1), &port) && port <= 65535;
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
  if (IsHostAndPort(path) && access(path.c_str(), F_OK) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--socket takes a path: give --address for a daemon that listens at ", path));
  }
  std::unique_ptr<Connection> connection(new Connection(std::move(path), "", {}, timeout));
  connection->OpenChannel(grpc::InsecureChannelCredentials(), {});
  return connection;
}

absl::StatusOr<std::unique_ptr<Connection>> Connection::MakeRemote(const std::string& address,
                                                                   TlsOptions tls,
                                                                   absl::Duration timeout) {
  if (!IsHostAndPort(address)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--address must be HOST:PORT, not ", Quoted(address)));
  }
  grpc::ChannelArguments arguments;
  const auto credentials = MakeChannelCredentials(tls, arguments);
  if (!credentials.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(credentials.status().message(),
                     " (--tls-ca, --tls-cert and --tls-key, or CKPTCTL_TLS_CA, CKPTCTL_TLS_CERT and "
                     "CKPTCTL_TLS_KEY)"));
  }
  std::unique_ptr<Connection> connection(new Connection("", address, std::move(tls), timeout));
  connection->OpenChannel(*credentials, std::move(arguments));
  return connection;
}

Connection::Connection(std::string socket, std::string address, TlsOptions tls,
                       absl::Duration timeout)
    : socket_(std::move(socket)),
      address_(std::move(address)),
      tls_(std::move(tls)),
      timeout_(timeout),
      deadline_(absl::Now() + timeout) {}

void Connection::OpenChannel(const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                             grpc::ChannelArguments arguments) {
  arguments.SetMaxReceiveMessageSize(static_cast<int>(kMessageBytesMax));
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  channel_ = grpc::CreateCustomChannel(remote() ? address_ : absl::StrCat("unix:", socket_),
                                       credentials, arguments);
  catalog_ = v1::CatalogService::NewStub(channel_);
  admin_ = v1::AdminService::NewStub(channel_);
  restore_ = v1::RestoreService::NewStub(channel_);
  retention_ = v1::RetentionService::NewStub(channel_);
}

void Connection::Prepare(grpc::ClientContext& context) const {
  if (!token_.empty()) context.AddMetadata("authorization", absl::StrCat("Bearer ", token_));
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
      return remote() ? NoWayThrough(address_, tls_, status.error_message())
                      : NobodyAnswers(socket_, status.error_message());
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return absl::DeadlineExceededError(absl::StrCat("no answer within ",
                                                      absl::FormatDuration(timeout_),
                                                      " (--timeout): ", status.error_message()));
    case grpc::StatusCode::UNIMPLEMENTED:
      return absl::UnimplementedError(absl::StrCat(
          "the daemon at ", peer(), " does not know this call; is it an older version?"));
    default:
      return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                          status.error_message());
  }
}

absl::Status Connection::Call(absl::FunctionRef<grpc::Status(grpc::ClientContext*)> call) {
  grpc::ClientContext context;
  Prepare(context);
  return FromGrpc(call(&context), &context);
}

absl::StatusOr<bool> Connection::Serving() {
  // HealthCheckRequest{string service = 1} and HealthCheckResponse{enum status = 1} look on the
  // wire like StringValue and UInt32Value: no copy of health.proto is needed.
  const grpc::internal::RpcMethod method("/grpc.health.v1.Health/Check",
                                         grpc::internal::RpcMethod::NORMAL_RPC, channel_);
  google::protobuf::StringValue request;
  google::protobuf::UInt32Value response;
  const absl::Status status = Call([&](grpc::ClientContext* context) {
    return grpc::internal::BlockingUnaryCall<google::protobuf::StringValue,
                                             google::protobuf::UInt32Value>(
        channel_.get(), method, context, request, &response);
  });
  if (!status.ok()) return status;
  constexpr uint32_t kServing = 1;
  return response.value() == kServing;
}

absl::StatusOr<std::unique_ptr<Client>> Connection::ConnectClient() {
  // The library waits for a daemon that may be starting; a verb without one fails at once.
  CKPT_RETURN_IF_ERROR(Serving().status());
  return Client::Connect({.socket = socket_,
                          .address = address_,
                          .tls = tls_,
                          .token = token_,
                          .name = "ckptctl",
                          .connect_timeout = std::min(timeout_, absl::Seconds(30))});
}

}  // namespace ckpt::cli
