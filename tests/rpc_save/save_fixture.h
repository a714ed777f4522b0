// A SaveService on a unix socket, over the rig's table, and a caller that speaks the wire by hand.
#ifndef CKPT_TESTS_RPC_SAVE_SAVE_FIXTURE_H_
#define CKPT_TESTS_RPC_SAVE_SAVE_FIXTURE_H_

#include <memory>
#include <string>

#include "ckpt/v1/save.grpc.pb.h"
#include "common/digest.h"
#include "common/limits.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "server/rpc/save_service.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {

// One stream, with the messages that tests send.
class SaveCall {
 public:
  explicit SaveCall(v1::SaveService::Stub& stub) : stream_(stub.Save(&context_)) {}
  ~SaveCall() {
    if (!finished_) Cancel();
    if (!finished_) (void)End();
  }

  bool Begin(const v1::Begin& begin) {
    v1::SaveRequest request;
    *request.mutable_begin() = begin;
    return stream_->Write(request);
  }
  bool Chunk(v1::Chunk::Kind kind, uint64_t offset, const std::string& data, bool last) {
    v1::SaveRequest request;
    request.mutable_chunk()->set_kind(kind);
    request.mutable_chunk()->set_offset(offset);
    request.mutable_chunk()->set_data(data);
    request.mutable_chunk()->set_last(last);
    return stream_->Write(request);
  }
  bool Data(uint64_t offset, const std::string& data) { return Data(offset, data, Crc32c(data)); }
  bool Data(uint64_t offset, const std::string& data, uint32_t crc) {
    v1::SaveRequest request;
    request.mutable_data()->set_offset(offset);
    request.mutable_data()->set_data(data);
    request.mutable_data()->set_crc32c(crc);
    return stream_->Write(request);
  }
  bool Progress(uint64_t written) {
    v1::SaveRequest request;
    request.mutable_progress()->set_written(written);
    return stream_->Write(request);
  }
  bool Finish(uint64_t part_bytes) {
    v1::SaveRequest request;
    request.mutable_finish()->set_part_bytes(part_bytes);
    return stream_->Write(request);
  }
  // The next answer; one without a kind at the end of the stream.
  v1::SaveResponse Read() {
    v1::SaveResponse response;
    if (!stream_->Read(&response)) response.Clear();
    return response;
  }
  // Begin, the layout where it is asked for, and Accepted.
  v1::Accepted Open(const v1::Begin& begin, const PartLayout& layout) {
    Begin(begin);
    v1::SaveResponse response = Read();
    if (response.has_need_plan()) {
      Chunk(v1::Chunk::KIND_LAYOUT, 0, layout.serialized(), true);
      response = Read();
    }
    EXPECT_TRUE(response.has_accepted()) << response.ShortDebugString();
    return response.accepted();
  }
  // Reads to the end, then the status. Not after WritesDone.
  grpc::Status End() {
    v1::SaveResponse response;
    while (stream_->Read(&response)) last_ = response;
    finished_ = true;
    return stream_->Finish();
  }
  grpc::Status WritesDoneAndEnd() {
    stream_->WritesDone();
    return End();
  }
  void Cancel() { context_.TryCancel(); }
  const v1::SaveResponse& last() const { return last_; }
  grpc::ClientContext& context() { return context_; }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::SaveRequest, v1::SaveResponse>> stream_;
  v1::SaveResponse last_;
  bool finished_ = false;
};

class SaveServiceTest : public ::testing::Test {
 protected:
  explicit SaveServiceTest(RigOptions options = {}, uint32_t streams_max = 4096)
      : rig_(options), streams_max_(streams_max) {
    Serve();
  }
  ~SaveServiceTest() override { StopServing(); }

  void Serve() {
    SaveServiceOptions options;
    options.sessions = &rig_.sessions();
    options.table = &rig_.table();
    options.tier = &rig_.tier();
    options.streams_max = streams_max_;
    options.begin_patience = begin_patience_;
    service_ = std::make_unique<SaveService>(options);
    grpc::ServerBuilder builder;
    const std::string address = "unix:" + rig_.memory_folder() + ".sock";
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(service_->service());
    server_ = builder.BuildAndStart();
    channel_ = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
    stub_ = v1::SaveService::NewStub(channel_);
  }
  void StopServing() {
    rig_.table().Shutdown();
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
    server_ = nullptr;
    service_ = nullptr;
  }

  v1::Begin MakeBegin(uint64_t step, uint32_t rank, uint32_t world, const PartLayout& layout,
                      const SessionClient* client = nullptr) {
    v1::Begin begin;
    begin.set_request_id(RequestId::Random().bytes());
    *begin.mutable_id() = rig_.Id(step).ToProto();
    begin.set_rank(rank);
    begin.set_world_size(world);
    begin.set_layout_digest(layout.digest());
    begin.set_transport(client != nullptr ? v1::TRANSPORT_SHARED_MEMORY : v1::TRANSPORT_STREAM);
    if (client != nullptr) begin.set_session_token(client->token());
    return begin;
  }
  absl::Status Committed(uint64_t step) {
    return rig_.WaitFor(rig_.Id(step), v1::CHECKPOINT_STATE_COMMITTED);
  }

  StagingRig rig_;
  const uint32_t streams_max_;
  absl::Duration begin_patience_ = kBeginPatience;
  std::unique_ptr<SaveService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::SaveService::Stub> stub_;
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(5 << 20);
};

}  // namespace ckpt

#endif  // CKPT_TESTS_RPC_SAVE_SAVE_FIXTURE_H_
