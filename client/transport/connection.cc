#include "client/transport/connection.h"

#include <google/protobuf/io/coded_stream.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/channel_arguments.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/sync_stream.h>

#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "ckpt/v1/restore.grpc.pb.h"
#include "ckpt/v1/save.grpc.pb.h"
#include "client/transport/grpc_save_stream.h"
#include "client/transport/grpc_status.h"
#include "client/transport/tls_credentials.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr char kReadPiecesMethod[] = "/ckpt.v1.RestoreService/ReadPieces";
constexpr char kAuthorization[] = "authorization";
constexpr char kBearer[] = "Bearer ";
// sockaddr_un's, less ".fd" for the session socket and the final zero.
constexpr size_t kSocketPathBytesMax = 104;
constexpr absl::Duration kRetryPause = absl::Milliseconds(50);
constexpr absl::Duration kReleaseTimeout = absl::Seconds(5);
constexpr absl::Duration kQueryTimeout = absl::Seconds(60);
constexpr size_t kChunkBuffersMax = 16;  // 32 MiB in flight between tensors and socket

grpc::ChannelArguments MakeChannelArguments(bool remote) {
  grpc::ChannelArguments arguments;
  if (remote) {  // a peer that vanished must not be waited for; the daemon allows pings this often
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  }
  arguments.SetMaxSendMessageSize(kMessageBytesMax);
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  // Channels of other libraries in this process must not share our connection, nor we theirs.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // Large frames and buffers: a chunk goes out in one piece while the next one is made.
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, (16 << 20) - 1);
  arguments.SetInt(GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, 8 << 20);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16 << 20);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  return arguments;
}

// One PieceChunk's payload, straight from gRPC's slices.
class SliceBytes : public ChunkBytes {
 public:
  explicit SliceBytes(google::protobuf::io::CodedInputStream* in) : in_(in) {}
  bool CopyTo(std::byte* out, size_t bytes) override {
    return in_->ReadRaw(out, static_cast<int>(bytes));
  }

 private:
  google::protobuf::io::CodedInputStream* in_;
};

// A ReadPiecesResponse by hand: all fields precede `data`, which is left in the slices. Protobuf
// writes fields in this order; a sender that does not is told so.
absl::Status TakeChunk(grpc::ByteBuffer* buffer,
                       absl::FunctionRef<absl::Status(const PieceChunk&)> take) {
  const absl::Status broken = absl::InternalError("a ReadPieces answer does not parse");
  grpc::ProtoBufferReader reader(buffer);
  google::protobuf::io::CodedInputStream in(&reader);
  SliceBytes bytes(&in);
  PieceChunk chunk;
  chunk.data = &bytes;
  for (;;) {
    const uint32_t tag = in.ReadTag();
    if (tag == 0) return take(chunk);  // no data at all
    switch (tag) {
      case v1::ReadPiecesResponse::kRangeFieldNumber << 3 | 0:
        if (!in.ReadVarint32(&chunk.range)) return broken;
        break;
      case v1::ReadPiecesResponse::kOffsetFieldNumber << 3 | 0:
        if (!in.ReadVarint64(&chunk.offset)) return broken;
        break;
      case v1::ReadPiecesResponse::kCrc32CFieldNumber << 3 | 5:
        if (!in.ReadLittleEndian32(&chunk.crc32c)) return broken;
        break;
      case v1::ReadPiecesResponse::kDataFieldNumber << 3 | 2: {
        uint32_t length = 0;
        if (!in.ReadVarint32(&length) || length > kChunkBytesMax) return broken;
        chunk.bytes = length;
        return take(chunk);
      }
      default:
        return broken;
    }
  }
}

}  // namespace

// A channel belongs to one session: that of an earlier one may not have noticed yet that its daemon
// is gone, and the next call over it would be the one to find out.
struct Connection::Wire {
  Wire(const ConnectionOptions& options,
       const std::shared_ptr<grpc::ChannelCredentials>& credentials,
       const grpc::ChannelArguments& arguments)
      : channel(grpc::CreateCustomChannel(
            options.address.empty() ? absl::StrCat("unix:", options.socket) : options.address,
            credentials, arguments)),
        save(v1::SaveService::NewStub(channel)),
        restore(v1::RestoreService::NewStub(channel)),
        catalog(v1::CatalogService::NewStub(channel)) {}

  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<v1::SaveService::Stub> save;
  const std::unique_ptr<v1::RestoreService::Stub> restore;
  const std::unique_ptr<v1::CatalogService::Stub> catalog;
};

struct Connection::Impl {
  ConnectionOptions options;
  grpc::ChannelArguments arguments;  // these two do not change once the connection is open
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  ForkMark mark;
  std::shared_ptr<ChunkBuffers> buffers = std::make_shared<ChunkBuffers>(kChunkBuffersMax);

  Mutex wire_mutex;
  std::shared_ptr<const Wire> current_wire ABSL_GUARDED_BY(wire_mutex);

  Mutex session_mutex;  // held while a session is made: others wait for it
  std::shared_ptr<Session> session ABSL_GUARDED_BY(session_mutex);

  Mutex calls_mutex;
  bool closed ABSL_GUARDED_BY(calls_mutex) = false;
  std::set<grpc::ClientContext*> calls ABSL_GUARDED_BY(calls_mutex);

  absl::StatusOr<std::shared_ptr<Session>> MakeSession();
  // A call holds on to the one that it began with.
  std::shared_ptr<const Wire> wire() {
    MutexLock lock(wire_mutex);
    return current_wire;
  }
  // What every call carries.
  void Prepare(grpc::ClientContext& context) const {
    if (!options.token.empty()) context.AddMetadata(kAuthorization, kBearer + options.token);
  }
  // Begins to connect.
  std::shared_ptr<const Wire> MakeWire() const {
    auto wire = std::make_shared<const Wire>(options, credentials, arguments);
    wire->channel->GetState(/*try_to_connect=*/true);
    return wire;
  }
  // Waits until it has; calls use it from then on.
  bool Connect(std::shared_ptr<const Wire> made, absl::Time deadline) {
    if (!made->channel->WaitForConnected(absl::ToChronoTime(deadline))) return false;
    MutexLock lock(wire_mutex);
    made.swap(current_wire);
    return true;
  }
  bool is_closed() {
    MutexLock lock(calls_mutex);
    return closed;
  }
};

namespace {

// A call under way, which Close can cancel.
template <typename Impl>
class Call {
 public:
  explicit Call(Impl& impl) : impl_(impl) {
    impl_.Prepare(context);
    MutexLock lock(impl_.calls_mutex);
    impl_.calls.insert(&context);
    if (impl_.closed) context.TryCancel();
  }
  ~Call() {
    MutexLock lock(impl_.calls_mutex);
    impl_.calls.erase(&context);
  }
  absl::Status Result(const grpc::Status& status) const { return FromGrpcStatus(status, context); }

  grpc::ClientContext context;

 private:
  Impl& impl_;
};

void SetDeadline(grpc::ClientContext& context, absl::Time deadline) {
  if (deadline != absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(deadline));
}

}  // namespace

Connection::Connection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Connection::~Connection() = default;

absl::StatusOr<std::shared_ptr<Connection>> Connection::Open(const ConnectionOptions& options) {
  CKPT_RETURN_IF_ERROR(ForkMark::CheckProcess());
  if (options.address.empty() == options.socket.empty()) {
    return absl::InvalidArgumentError("give a socket path or a host:port address, not both");
  }
  // gRPC would print its own complaint on stderr.
  if (options.socket.size() > kSocketPathBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a socket path may have at most ", kSocketPathBytesMax, " bytes: ", options.socket));
  }
  if (options.tls.used() && options.address.empty()) {
    return absl::InvalidArgumentError("TLS is for a host:port address; a unix socket has none");
  }
  // gRPC would end the process over metadata that HTTP cannot carry.
  for (const char c : options.token) {
    if (absl::ascii_isgraph(c)) continue;
    return absl::InvalidArgumentError(
        "the token has a character that is no printable ASCII: a line break at its end, perhaps?");
  }
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->arguments = MakeChannelArguments(!options.address.empty());
  CKPT_ASSIGN_OR_RETURN(impl->credentials, MakeChannelCredentials(options.tls, impl->arguments));
  std::shared_ptr<Connection> connection = SharedUnlessForked(new Connection(std::move(impl)));
  if (!connection->remote()) {
    CKPT_RETURN_IF_ERROR(connection->GetSession().status());
  } else if (!connection->impl_->Connect(connection->impl_->MakeWire(),
                                          absl::Now() + options.connect_timeout)) {
    return absl::UnavailableError(absl::StrCat(
        "no ckptd answers at ", options.address,
        "; check the address, that the daemon was started with a TCP listener, and "
        "that both sides use TLS, with certificates that the other accepts, or neither"));
  }
  return connection;
}

bool Connection::remote() const { return !impl_->options.address.empty(); }
const ConnectionOptions& Connection::options() const { return impl_->options; }
const ForkMark& Connection::fork_mark() const { return impl_->mark; }

absl::StatusOr<std::shared_ptr<Session>> Connection::GetSession() {
  CKPT_RETURN_IF_ERROR(impl_->mark.Check());
  if (remote()) return std::shared_ptr<Session>();
  std::shared_ptr<Session> old;  // destroyed after the lock
  MutexLock lock(impl_->session_mutex);
  if (impl_->session != nullptr && !impl_->session->broken()) return impl_->session;
  old = std::move(impl_->session);
  CKPT_ASSIGN_OR_RETURN(impl_->session, impl_->MakeSession());
  return impl_->session;
}

absl::StatusOr<std::shared_ptr<Session>> Connection::Impl::MakeSession() {
  const absl::Time deadline = absl::Now() + options.connect_timeout;
  for (;;) {
    if (is_closed()) return absl::CancelledError("the client was closed");
    std::shared_ptr<const Wire> wire = MakeWire();  // while the session is made
    absl::StatusOr<std::shared_ptr<Session>> made = Session::Connect(options.socket, options.name);
    if (made.ok()) {
      // The daemon may open its two sockets one after the other.
      if (!Connect(std::move(wire), deadline) && !(*made)->broken()) {
        return absl::UnavailableError(
            absl::StrCat("the daemon's session socket answers, but not ", options.socket));
      }
      if (!(*made)->broken()) return made;
      // It died meanwhile, and who answers the channel is another one, which knows no such session.
    }
    const absl::Status status =
        made.ok() ? absl::UnavailableError("the daemon ended the session") : made.status();
    if (absl::IsPermissionDenied(status)) {
      return absl::PermissionDeniedError(
          absl::StrCat("no access to the daemon: ", status.message(),
                       "; the socket's mode and group say who may use it"));
    }
    if (!absl::IsNotFound(status) && !absl::IsUnavailable(status)) return status;
    if (absl::Now() + kRetryPause > deadline) {
      return absl::UnavailableError(absl::StrCat(
          "no ckptd listens at ", options.socket, " (", status.message(),
          "); start the daemon, or name its socket in ClientOptions.socket or $CKPTD_SOCKET"));
    }
    absl::SleepFor(kRetryPause);
  }
}

void Connection::Close() {
  {
    MutexLock lock(impl_->calls_mutex);
    impl_->closed = true;
    for (grpc::ClientContext* context : impl_->calls) context->TryCancel();
  }
  std::shared_ptr<Session> session;  // destroyed after the lock
  MutexLock lock(impl_->session_mutex);
  session = std::move(impl_->session);
}

absl::StatusOr<std::unique_ptr<SaveStream>> Connection::OpenSave() {
  CKPT_RETURN_IF_ERROR(impl_->mark.Check());
  auto context = std::make_shared<grpc::ClientContext>();
  impl_->Prepare(*context);
  {
    MutexLock lock(impl_->calls_mutex);
    if (impl_->closed) return absl::CancelledError("the client was closed");
    impl_->calls.insert(context.get());
  }
  return OpenGrpcSaveStream(impl_->wire()->channel, context, impl_->buffers,
                            [impl = impl_.get(), raw = context.get()] {
                              MutexLock lock(impl->calls_mutex);
                              impl->calls.erase(raw);
                            });
}

absl::StatusOr<v1::PrepareResponse> Connection::Prepare(const v1::PrepareRequest& request) {
  CKPT_RETURN_IF_ERROR(impl_->mark.Check());
  const std::shared_ptr<const Wire> wire = impl_->wire();
  Call call(*impl_);
  v1::PrepareResponse response;
  CKPT_RETURN_IF_ERROR(call.Result(wire->save->Prepare(&call.context, request, &response)));
  return response;
}

absl::StatusOr<v1::WaitCheckpointResponse> Connection::WaitCheckpoint(
    const v1::WaitCheckpointRequest& request, absl::Time deadline) {
  CKPT_RETURN_IF_ERROR(impl_->mark.Check());
  const std::shared_ptr<const Wire> wire = impl_->wire();
  Call call(*impl_);
  SetDeadline(call.context, deadline);
  v1::WaitCheckpointResponse response;
  CKPT_RETURN_IF_ERROR(
      call.Result(wire->catalog->WaitCheckpoint(&call.context, request, &response)));
  return response;
}

absl::StatusOr<v1::GetCheckpointResponse> Connection::GetCheckpoint(
    const v1::GetCheckpointRequest& request) {
  CKPT_RETURN_IF_ERROR(impl_->mark.Check());
  const std::shared_ptr<const Wire> wire = impl_->wire();
  Call call(*impl_);
  SetDeadline(call.context, absl::Now() + kQueryTimeout);
  v1::GetCheckpointResponse response;
  CKPT_RETURN_IF_ERROR(
      call.Result(wire->catalog->GetCheckpoint(&call.context, request, &response)));
  return response;
}

absl::Status Connection::PlanRestore(
    const v1::PlanRestoreRequest& request,
    absl::FunctionRef<absl::Status(v1::PlanRestoreResponse&)> take) {
  CKPT_RETURN_IF_ERROR(impl_->mark.Check());
  const std::shared_ptr<const Wire> wire = impl_->wire();
  Call call(*impl_);
  const auto reader = wire->restore->PlanRestore(&call.context, request);
  absl::Status taken;
  v1::PlanRestoreResponse response;
  while (taken.ok() && reader->Read(&response)) taken = take(response);
  if (!taken.ok()) call.context.TryCancel();
  const absl::Status status = call.Result(reader->Finish());
  return taken.ok() ? status : taken;
}

absl::Status Connection::ReadPieces(const v1::ReadPiecesRequest& request,
                                    absl::FunctionRef<absl::Status(const PieceChunk&)> take) {
  CKPT_RETURN_IF_ERROR(impl_->mark.Check());
  const std::shared_ptr<const Wire> wire = impl_->wire();
  Call call(*impl_);
  const grpc::internal::RpcMethod method(
      kReadPiecesMethod, grpc::internal::RpcMethod::SERVER_STREAMING, wire->channel);
  const std::unique_ptr<grpc::ClientReader<grpc::ByteBuffer>> reader(
      grpc::internal::ClientReaderFactory<grpc::ByteBuffer>::Create(wire->channel.get(), method,
                                                                    &call.context, request));
  absl::Status taken;
  grpc::ByteBuffer buffer;
  while (taken.ok() && reader->Read(&buffer)) taken = TakeChunk(&buffer, take);
  if (!taken.ok()) call.context.TryCancel();
  const absl::Status status = call.Result(reader->Finish());
  return taken.ok() ? status : taken;
}

void Connection::ReleasePlan(const std::string& plan_id) {
  if (impl_->mark.forked()) return;
  const std::shared_ptr<const Wire> wire = impl_->wire();
  grpc::ClientContext context;
  impl_->Prepare(context);
  SetDeadline(context, absl::Now() + kReleaseTimeout);
  v1::ReleasePlanRequest request;
  request.set_plan_id(plan_id);
  v1::ReleasePlanResponse response;
  // The session's end or the lease releases it too.
  static_cast<void>(wire->restore->ReleasePlan(&context, request, &response));
}

}  // namespace ckpt
