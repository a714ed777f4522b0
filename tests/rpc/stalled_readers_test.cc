// Readers that stop reading, over a real socket: their streams end, and what they held is free.
// Those that are only slow get everything.
#include "server/rpc/stalled_readers.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "ckpt/v1/restore.grpc.pb.h"
#include "ckpt/v1/retention.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "server/observe/log.h"
#include "server/rpc/catalog_service.h"
#include "server/rpc/restore_service.h"
#include "server/rpc/retention_service.h"
#include "tests/rpc/rpc_fixture.h"

namespace ckpt {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(1);
constexpr uint64_t kTensorBytes = 24 << 20;
constexpr int kWindowBytes = 65535;  // what the client takes of a stream that it doesn't read
// So many that what is said of each is more than that.
constexpr size_t kTensors = 3000;
constexpr uint64_t kSteps = 3000;

class StalledReadersTest : public RpcTest {
 protected:
  StalledReadersTest() {
    const Gate gate(nullptr, finder_.get());
    catalog_service_ = std::make_unique<CatalogService>(catalog_.get(), gate, &stop_, &readers_);
    restore_service_ = std::make_unique<RestoreService>(restore_, gate, &stop_, &readers_);
    retention_service_ =
        std::make_unique<RetentionService>(retention_.get(), finder_.get(), gate, &stop_,
                                           &readers_);
    grpc::ServerBuilder builder;
    const std::string socket = "unix:" + scratch_.path() + "/s";
    builder.AddListeningPort(socket, grpc::InsecureServerCredentials());
    builder.RegisterService(catalog_service_.get());
    builder.RegisterService(restore_service_.get());
    builder.RegisterService(retention_service_.get());
    server_ = builder.BuildAndStart();
    grpc::ChannelArguments window;
    window.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    window.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kWindowBytes);
    channel_ = grpc::CreateCustomChannel(socket, grpc::InsecureChannelCredentials(), window);
    catalog_stub_ = v1::CatalogService::NewStub(channel_);
    restore_stub_ = v1::RestoreService::NewStub(channel_);
    retention_stub_ = v1::RetentionService::NewStub(channel_);
    observe::ConfigureLog({.sink = [this](const std::string& line) {
      if (absl::StrContains(line, "a reader takes nothing")) lost_patience_ = true;
    }});
  }
  ~StalledReadersTest() override {
    observe::ConfigureLog({});
    stop_.Stop();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  // Asks, and reads nothing until the server has lost patience; then all that is left. A stream
  // that is still there is OK in the end.
  template <typename Message, typename Ask>
  grpc::Status ReadTooLate(Ask ask) {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<Message>> reader = ask(&context);
    const absl::Time late = absl::Now() + absl::Seconds(20);
    while (!lost_patience_ && absl::Now() < late) absl::SleepFor(absl::Milliseconds(5));
    Message message;
    while (reader->Read(&message)) {
    }
    return reader->Finish();
  }
  // Pauses before each message: less than the patience each time, more than it in all.
  template <typename Message, typename Ask>
  grpc::Status ReadSlowly(Ask ask, std::function<void(const Message&)> take) {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<Message>> reader = ask(&context);
    Message message;
    do {
      absl::SleepFor(kPatience / 6);
    } while (reader->Read(&message) && (take(message), true));
    return reader->Finish();
  }

  // The caller hears that its stream was cancelled before the server has left it.
  template <typename Count>
  auto AtRest(Count count) {
    const absl::Time late = absl::Now() + absl::Seconds(10);
    while (count() > 0 && absl::Now() < late) absl::SleepFor(absl::Milliseconds(5));
    return count();
  }

  ReceivedPlan PlanOf(const v1::Selector& selector) {
    v1::PlanRestoreRequest request;
    *request.mutable_selector() = selector;
    absl::StatusOr<ReceivedPlan> plan = Plan(request);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return *std::move(plan);
  }
  // Of every data file: each tensor is damaged then, and told of.
  void InvertData() {
    const std::string folder = store_->folder().ObjectsFolder();
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() != ".safetensors") continue;
      std::ifstream in(entry.path(), std::ios::binary);
      std::string bytes((std::istreambuf_iterator<char>(in)), {});
      uint64_t header = 0;
      std::memcpy(&header, bytes.data(), sizeof header);
      for (size_t i = 8 + header; i < bytes.size(); ++i) bytes[i] = static_cast<char>(~bytes[i]);
      std::ofstream(entry.path(), std::ios::binary) << bytes;
    }
  }
  void SaveManySteps() {
    for (uint64_t step = 0; step < kSteps; ++step) {
      v1::CheckpointManifest manifest;
      *manifest.mutable_id() = IdOf("r", step).ToProto();
      manifest.set_checkpoint_uid(CheckpointUid::TimeOrdered().bytes());
      ASSERT_TRUE(store_->index().PutCheckpoint(manifest, {}, {}).ok());
    }
  }

  std::atomic<bool> lost_patience_{false};
  StopSignal stop_;
  StalledReaders readers_{kPatience};
  std::unique_ptr<CatalogService> catalog_service_;
  std::unique_ptr<RestoreService> restore_service_;
  std::unique_ptr<RetentionService> retention_service_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::CatalogService::Stub> catalog_stub_;
  std::unique_ptr<v1::RestoreService::Stub> restore_stub_;
  std::unique_ptr<v1::RetentionService::Stub> retention_stub_;
};

TEST_F(StalledReadersTest, BytesThatNobodyTakesEnd) {
  Save(IdOf("r", 1), {kTensorBytes});
  const ReceivedPlan plan = PlanOf(StepOf("r", 1));
  v1::ReadPiecesRequest request;
  request.set_plan_id(plan.header.plan_id());
  request.add_ranges()->set_length(kTensorBytes);
  const grpc::Status status = ReadTooLate<v1::ReadPiecesResponse>(
      [&](grpc::ClientContext* context) { return restore_stub_->ReadPieces(context, request); });
  EXPECT_EQ(status.error_code(), grpc::CANCELLED) << status.error_message();
}

TEST_F(StalledReadersTest, BytesThatAreTakenSlowlyAllArrive) {
  Save(IdOf("r", 1), {kTensorBytes});
  const ReceivedPlan plan = PlanOf(StepOf("r", 1));
  v1::ReadPiecesRequest request;
  request.set_plan_id(plan.header.plan_id());
  request.add_ranges()->set_length(kTensorBytes);
  uint64_t bytes = 0;
  const grpc::Status status = ReadSlowly<v1::ReadPiecesResponse>(
      [&](grpc::ClientContext* context) { return restore_stub_->ReadPieces(context, request); },
      [&](const v1::ReadPiecesResponse& chunk) { bytes += chunk.data().size(); });
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(bytes, kTensorBytes);
}

TEST_F(StalledReadersTest, APlanThatNobodyTakesEndsAndPinsNothing) {
  const CheckpointUid uid = Save(IdOf("r", 1), std::vector<uint64_t>(kTensors, 8));
  memory_.Put(uid, 0, std::string(kTensors * 64, 'm'));
  v1::PlanRestoreRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  const grpc::Status status = ReadTooLate<v1::PlanRestoreResponse>(
      [&](grpc::ClientContext* context) { return restore_stub_->PlanRestore(context, request); });
  EXPECT_EQ(status.error_code(), grpc::CANCELLED) << status.error_message();
  EXPECT_EQ(plans_.count(), 0u);
  EXPECT_EQ(AtRest([&] { return memory_.pinned(); }), 0);
}

TEST_F(StalledReadersTest, AWatchThatNobodyReadsEnds) {
  SaveManySteps();
  const grpc::Status status =
      ReadTooLate<v1::WatchCheckpointsResponse>([&](grpc::ClientContext* context) {
        return catalog_stub_->WatchCheckpoints(context, v1::WatchCheckpointsRequest());
      });
  EXPECT_EQ(status.error_code(), grpc::CANCELLED) << status.error_message();
  EXPECT_EQ(AtRest([&] { return live_.subscribers(); }), 0u);
}

TEST_F(StalledReadersTest, ADiffThatNobodyTakesEnds) {
  Save(IdOf("r", 1), {8});
  Save(IdOf("r", 2), std::vector<uint64_t>(kTensors, 8));
  v1::DiffCheckpointsRequest request;
  *request.mutable_before() = StepOf("r", 1);
  *request.mutable_after() = StepOf("r", 2);
  const grpc::Status status =
      ReadTooLate<v1::DiffCheckpointsResponse>([&](grpc::ClientContext* context) {
        return catalog_stub_->DiffCheckpoints(context, request);
      });
  EXPECT_EQ(status.error_code(), grpc::CANCELLED) << status.error_message();
}

TEST_F(StalledReadersTest, ARetentionPlanThatNobodyTakesEnds) {
  SaveManySteps();
  v1::PlanRetentionRequest request;
  request.set_run("r");
  const grpc::Status status =
      ReadTooLate<v1::PlanRetentionResponse>([&](grpc::ClientContext* context) {
        return retention_stub_->PlanRetention(context, request);
      });
  EXPECT_EQ(status.error_code(), grpc::CANCELLED) << status.error_message();
}

TEST_F(StalledReadersTest, AVerificationThatNobodyHearsOfEnds) {
  Save(IdOf("r", 1), std::vector<uint64_t>(kTensors, 8));
  InvertData();
  v1::VerifyCheckpointRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  const grpc::Status status =
      ReadTooLate<v1::VerifyCheckpointResponse>([&](grpc::ClientContext* context) {
        return catalog_stub_->VerifyCheckpoint(context, request);
      });
  EXPECT_EQ(status.error_code(), grpc::CANCELLED) << status.error_message();
}

}  // namespace
}  // namespace ckpt
