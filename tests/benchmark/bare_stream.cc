#include "tests/benchmark/bare_stream.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/impl/codegen/method_handler.h>
#include <grpcpp/impl/codegen/rpc_service_method.h>
#include <grpcpp/impl/codegen/service_type.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>
#include <grpcpp/support/sync_stream.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/fixtures/process.h"

namespace ckpt::bench {
namespace {

constexpr char kMethod[] = "/ckpt.bench.Sink/Take";

class SinkService : public grpc::Service {
 public:
  SinkService() {
    AddMethod(new grpc::internal::RpcServiceMethod(
        kMethod, grpc::internal::RpcMethod::CLIENT_STREAMING,
        new grpc::internal::ClientStreamingHandler<SinkService, grpc::ByteBuffer, grpc::ByteBuffer>(
            [](SinkService*, grpc::ServerContext*, grpc::ServerReader<grpc::ByteBuffer>* reader,
               grpc::ByteBuffer* response) {
              uint64_t bytes = 0;
              grpc::ByteBuffer chunk;
              while (reader->Read(&chunk)) bytes += chunk.Length();
              const grpc::Slice slice(absl::StrCat(bytes));
              *response = grpc::ByteBuffer(&slice, 1);
              return grpc::Status::OK;
            },
            this)));
  }
};

class BareStreamToProcess : public BareStream {
 public:
  ~BareStreamToProcess() override {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  absl::Status Open(const std::string& binary) {
    std::string folder = "/tmp/ckpt_bench-XXXXXX";
    if (mkdtemp(folder.data()) == nullptr) return absl::InternalError("cannot make a folder");
    folder_ = folder;
    const std::string socket = absl::StrCat(folder_, "/sink");
    testing::SpawnOptions spawn;
    spawn.arguments = {binary, "--bare-sink", socket};
    CKPT_ASSIGN_OR_RETURN(pid_, testing::Spawn(spawn));
    grpc::ChannelArguments arguments;
    // As client/transport/connection.cc: both streams get the same frames and buffers.
    arguments.SetMaxSendMessageSize(static_cast<int>(kMessageBytesMax));
    arguments.SetMaxReceiveMessageSize(static_cast<int>(kMessageBytesMax));
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, (16 << 20) - 1);
    arguments.SetInt(GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, 8 << 20);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16 << 20);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    channel_ = grpc::CreateCustomChannel(absl::StrCat("unix:", socket),
                                         grpc::InsecureChannelCredentials(), arguments);
    if (!channel_->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(30))) {
      return absl::UnavailableError("the bare gRPC sink did not start");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<double> Send(const std::byte* data, uint64_t bytes,
                              uint64_t chunk_bytes) override {
    const grpc::internal::RpcMethod method(kMethod, grpc::internal::RpcMethod::CLIENT_STREAMING,
                                           channel_);
    const double begin = Now();
    grpc::ClientContext context;
    grpc::ByteBuffer response;
    const std::unique_ptr<grpc::ClientWriter<grpc::ByteBuffer>> writer(
        grpc::internal::ClientWriterFactory<grpc::ByteBuffer>::Create(channel_.get(), method,
                                                                      &context, &response));
    for (uint64_t at = 0; at < bytes; at += chunk_bytes) {
      const grpc::Slice slice(data + at, std::min(chunk_bytes, bytes - at),
                              grpc::Slice::STATIC_SLICE);
      if (!writer->Write(grpc::ByteBuffer(&slice, 1))) break;
    }
    writer->WritesDone();
    const grpc::Status status = writer->Finish();
    const double seconds = Now() - begin;
    if (!status.ok())
      return absl::InternalError(absl::StrCat("bare stream: ", status.error_message()));
    std::vector<grpc::Slice> slices;
    uint64_t received = 0;
    std::string text;
    if (response.Dump(&slices).ok()) {
      for (const grpc::Slice& slice : slices) {
        text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
      }
    }
    if (!absl::SimpleAtoi(text, &received) || received != bytes) {
      return absl::InternalError(absl::StrCat("the sink got ", text, " of ", bytes, " bytes"));
    }
    return seconds;
  }

 private:
  std::string folder_;
  pid_t pid_ = 0;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace

int ServeBareSink(const std::string& socket) {
  SinkService service;
  grpc::ServerBuilder builder;
  // As server/daemon/grpc_face.cc.
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMessageBytesMax));
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, (16 << 20) - 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16 << 20);
  builder.AddListeningPort(absl::StrCat("unix:", socket), grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  server->Wait();  // until it is killed
  return 0;
}

absl::StatusOr<std::unique_ptr<BareStream>> BareStream::Start(const std::string& binary) {
  auto stream = std::make_unique<BareStreamToProcess>();
  CKPT_RETURN_IF_ERROR(stream->Open(binary));
  return stream;
}

}  // namespace ckpt::bench
