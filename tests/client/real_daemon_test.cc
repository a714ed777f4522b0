// The client library against the real daemon: both transports, all tiers, the ring, and memory that
// must be given back.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <string>

#include "ckpt/v1/catalog.grpc.pb.h"
#include "client/client.h"
#include "common/key.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/test_state.h"

namespace ckpt {
namespace {

using testing::CheckRestored;
using testing::CheckRestoredWhole;
using testing::Daemon;
using testing::MakeTestPart;
using testing::TestState;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(60);

class RealDaemonTest : public ::testing::Test {
 protected:
  void StartDaemon(const std::string& memory_budget, std::vector<std::string> flags = {}) {
    auto daemon = Daemon::Start({.memory_budget = memory_budget, .flags = std::move(flags)});
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
    client_ = Connect();
  }
  std::unique_ptr<Client> Connect() {
    auto client = Client::Connect({.socket = daemon_->socket(), .name = "real_daemon_test"});
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }
  absl::Status SaveAndCommit(const TestState& state, uint64_t step, const SaveOptions& options = {},
                             uint32_t world_size = 1) {
    std::vector<SaveHandle> handles;
    for (uint32_t rank = 0; rank < world_size; ++rank) {
      auto handle = client_->Save({"run", step, incarnation_},
                                  MakeTestPart(state, rank, world_size), options);
      if (!handle.ok()) return handle.status();
      handles.push_back(*std::move(handle));
    }
    for (SaveHandle& handle : handles) {
      if (absl::Status status = handle.AwaitCommitted(kPatience); !status.ok()) return status;
    }
    return absl::OkStatus();
  }
  static std::unique_ptr<RestorePlan> Plan(Client& client, uint64_t step,
                                           const RestoreOptions& options = {}) {
    v1::Selector selector;
    selector.set_run("run");
    selector.set_step(step);
    auto plan = client.PlanRestore(selector, options);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan.ok() ? *std::move(plan) : nullptr;
  }

  // As after a reboot: a daemon that is only restarted still has the memory copies.
  void RestartWithoutMemory() {
    daemon_->Kill();
    for (const std::string& name : daemon_->MemoryFiles()) {
      std::filesystem::remove(daemon_->memory_folder() + "/" + name);
    }
    const absl::Status restarted = daemon_->Restart();
    ASSERT_TRUE(restarted.ok()) << restarted;
  }

  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<Client> client_;
  const Incarnation incarnation_ = Incarnation::TimeOrdered();
};

TEST_F(RealDaemonTest, BothTransportsSaveAndEveryTierRestoresOnOtherWorldSizes) {
  StartDaemon("64MiB");
  const TestState state = TestState::Mixed(7, 6 << 20);
  ASSERT_TRUE(client_->Prepare(3 << 20).ok());
  const absl::Status shared = SaveAndCommit(state, 1, {.copy_threads = 2}, 3);
  ASSERT_TRUE(shared.ok()) << shared;
  const absl::Status stream = SaveAndCommit(state, 2, {.transport = v1::TRANSPORT_STREAM}, 2);
  ASSERT_TRUE(stream.ok()) << stream;
  for (const uint64_t step : {1, 2}) {
    for (const bool over_stream : {false, true}) {
      const auto plan = Plan(*client_, step, {.stream = over_stream});
      ASSERT_NE(plan, nullptr);
      EXPECT_TRUE(CheckRestoredWhole(*plan, state).ok()) << CheckRestoredWhole(*plan, state);
      EXPECT_TRUE(CheckRestored(*plan, state, 1, 5).ok());
    }
  }
  RestartWithoutMemory();
  for (const uint64_t step : {1, 2}) {
    for (const bool over_stream : {false, true}) {
      const auto plan = Plan(*client_, step, {.stream = over_stream});
      ASSERT_NE(plan, nullptr);
      EXPECT_TRUE(CheckRestoredWhole(*plan, state).ok()) << CheckRestoredWhole(*plan, state);
    }
  }
}

TEST_F(RealDaemonTest, APartLargerThanTheBudgetGoesThroughTheRing) {
  StartDaemon("8MiB");
  const TestState state = TestState::Plain(3, 40 << 20);
  const absl::Status saved = SaveAndCommit(state, 1, {.copy_threads = 2});
  ASSERT_TRUE(saved.ok()) << saved;
  const auto plan = Plan(*client_, 1);
  ASSERT_NE(plan, nullptr);
  EXPECT_TRUE(CheckRestoredWhole(*plan, state).ok()) << CheckRestoredWhole(*plan, state);
}

TEST_F(RealDaemonTest, SourceHashesOfEveryTransportAreThoseOfTheDisk) {
  StartDaemon("8MiB");
  const TestState mixed = TestState::Mixed(7, 6 << 20);
  const TestState ring = TestState::Plain(3, (20 << 20) + 33);
  uint64_t step = 0;
  for (const TestState* state : {&mixed, &ring}) {
    for (const v1::Transport transport : {v1::TRANSPORT_SHARED_MEMORY, v1::TRANSPORT_STREAM}) {
      const absl::Status saved = SaveAndCommit(*state, ++step,
                                               {.on_full = v1::ON_FULL_RING,
                                                .transport = transport,
                                                .copy_threads = 3,
                                                .hash_source = true},
                                               state == &mixed ? 2 : 1);
      ASSERT_TRUE(saved.ok()) << saved;
    }
  }
}

// A leaf that is read twice and gives other bytes the second time, as memory does whose bit flips.
TEST_F(RealDaemonTest, SourceHashesFindABitThatFlipsBetweenTrainerAndDisk) {
  StartDaemon("64MiB");
  for (const v1::Transport transport : {v1::TRANSPORT_SHARED_MEMORY, v1::TRANSPORT_STREAM}) {
    for (const bool hashed : {false, true}) {
      Part part;
      PartLeaf leaf = TensorLeaf(MakeKey({"w"}), v1::DTYPE_U8, {3 << 20}, nullptr);
      auto reads = std::make_shared<std::atomic<int>>(0);
      leaf.copy = [reads](uint64_t begin, uint64_t bytes, std::byte* out) {
        for (uint64_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>((begin + i) * 31 >> 7);
        const uint64_t bad = (1 << 20) + 5;
        if (begin <= bad && bad < begin + bytes && ++*reads == 2) out[bad - begin] ^= std::byte{4};
      };
      part.leaves.push_back(std::move(leaf));
      const uint64_t step = transport * 2 + (hashed ? 1 : 0);
      auto saved = client_->Save({"run", step, incarnation_}, std::move(part),
                                 {.transport = transport, .hash_source = hashed});
      ASSERT_TRUE(saved.ok()) << saved.status();
      const absl::Status fate = saved->AwaitCommitted(kPatience);
      EXPECT_EQ(fate.ok(), !hashed) << fate;
      if (!hashed) continue;
      EXPECT_TRUE(absl::IsAborted(fate)) << fate;
      EXPECT_NE(std::string(fate.message()).find("key w"), std::string::npos) << fate;
      EXPECT_NE(std::string(fate.message()).find("block 1 "), std::string::npos) << fate;
    }
  }
}

// Repaired where the memory copy is still there, else marked; a restore from disk is the judge.
TEST_F(RealDaemonTest, TheScrubberRepairsFromMemoryOrMarksTheCheckpoint) {
  StartDaemon("64MiB", {"--scrub-interval=1s", "--scrub-rate=1GiB"});
  const TestState state = TestState::Mixed(7, 6 << 20);
  ASSERT_TRUE(SaveAndCommit(state, 1).ok());
  daemon_->DamageDataFiles();
  const absl::Status repaired = daemon_->AwaitLog("a damaged part is made anew");
  ASSERT_TRUE(repaired.ok()) << repaired;
  RestartWithoutMemory();
  {
    const auto plan = Plan(*client_, 1);
    ASSERT_NE(plan, nullptr);
    EXPECT_TRUE(CheckRestoredWhole(*plan, state).ok()) << CheckRestoredWhole(*plan, state);
  }
  daemon_->DamageDataFiles();
  const auto catalog = v1::CatalogService::NewStub(
      grpc::CreateChannel("unix:" + daemon_->socket(), grpc::InsecureChannelCredentials()));
  v1::GetCheckpointRequest request;
  request.mutable_selector()->set_run("run");
  request.mutable_selector()->set_step(1);
  v1::GetCheckpointResponse response;
  const absl::Time deadline = absl::Now() + kPatience;
  while (response.checkpoint().damaged_places() == 0 && absl::Now() < deadline) {
    grpc::ClientContext context;
    ASSERT_TRUE(catalog->GetCheckpoint(&context, request, &response).ok());
    absl::SleepFor(absl::Milliseconds(50));
  }
  EXPECT_GT(response.checkpoint().damaged_places(), 0u);
  EXPECT_NE(response.checkpoint().damage().find(".safetensors"), std::string::npos);
  v1::Selector valid;
  valid.set_run("run");
  valid.set_latest_valid(true);
  EXPECT_TRUE(absl::IsDataLoss(client_->PlanRestore(valid, {}).status()));
}

TEST_F(RealDaemonTest, ASliceReadsOnlyItsBlocksFromMemoryAndFromDisk) {
  StartDaemon("64MiB");
  const TestState state = TestState::Plain(5, 24 << 20);
  ASSERT_TRUE(SaveAndCommit(state, 1).ok());
  for (const bool restarted : {false, true}) {
    if (restarted) RestartWithoutMemory();
    const auto plan = Plan(*client_, 1);
    ASSERT_NE(plan, nullptr);
    const uint32_t leaf = *plan->Find(state.tensors[0].key, 0);
    Box box = Box::Whole(state.tensors[0].shape);
    box.offset[0] = box.extent[0] / 2;
    box.extent[0] = 1;
    std::string bytes(box.volume(), '?');
    const ReadTarget target{leaf, box, reinterpret_cast<std::byte*>(bytes.data())};
    ReadStatistics statistics;
    ASSERT_TRUE(plan->Read({&target, 1}, &statistics).ok());
    EXPECT_EQ(bytes, testing::TestBytes(state, state.tensors[0], 0, box));
    EXPECT_LE(statistics.bytes_read, (2 << 20) + bytes.size());
    EXPECT_EQ(restarted ? statistics.bytes_from_memory : statistics.bytes_from_disk, 0u)
        << (restarted ? "after" : "before") << " the restart; the daemon says in_memory: "
        << plan->checkpoint().in_memory();
  }
}

// The name is gone, the bytes stay for who looks at them.
TEST_F(RealDaemonTest, AViewOutlivesItsCheckpointAndTheDaemon) {
  StartDaemon("64MiB");
  const std::string bytes = [] {
    std::string made(3 << 20, '\0');
    for (size_t i = 0; i < made.size(); ++i) made[i] = static_cast<char>(i * 31 >> 7);
    return made;
  }();
  Part part;
  part.leaves.push_back(TensorLeaf(MakeKey({"w"}), v1::DTYPE_U8, {bytes.size()}, bytes.data()));
  auto saved = client_->Save({"run", 1, incarnation_}, std::move(part), {});
  ASSERT_TRUE(saved.ok()) << saved.status();
  ASSERT_TRUE(saved->AwaitCommitted(kPatience).ok()) << saved->status();
  const auto plan = Plan(*client_, 1);
  const auto leaf = plan->Find("w", 0);
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  const auto view = plan->View(*leaf, Box{{5}, {bytes.size() - 5}});
  ASSERT_TRUE(view.ok()) << view.status();

  const auto catalog = v1::CatalogService::NewStub(
      grpc::CreateChannel("unix:" + daemon_->socket(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::DeleteCheckpointRequest deletion;
  v1::DeleteCheckpointResponse deleted;
  deletion.mutable_selector()->set_run("run");
  deletion.mutable_selector()->set_step(1);
  const grpc::Status status = catalog->DeleteCheckpoint(&context, deletion, &deleted);
  ASSERT_TRUE(status.ok()) << status.error_message();
  daemon_->Kill();
  EXPECT_TRUE(std::equal(view->bytes().begin(), view->bytes().end(),
                         reinterpret_cast<const std::byte*>(bytes.data()) + 5));
  EXPECT_TRUE(view->Verify().ok()) << view->Verify();
}

TEST_F(RealDaemonTest, TheSteadyStateAllocatesNoMemory) {
  StartDaemon("64MiB");
  const TestState state = TestState::Plain(9, 10 << 20);
  for (uint64_t step = 1; step <= 3; ++step) ASSERT_TRUE(SaveAndCommit(state, step).ok());
  const uint64_t pages = daemon_->MemoryFolderBytes();
  for (uint64_t step = 4; step <= 8; ++step) ASSERT_TRUE(SaveAndCommit(state, step).ok());
  EXPECT_LE(daemon_->MemoryFolderBytes(), pages);
}

// A reader keeps its mapping for the next plan, but not when the daemon needs the pages.
TEST_F(RealDaemonTest, KeptReadMappingsDoNotHoldTheBudget) {
  StartDaemon("48MiB");
  const TestState state = TestState::Plain(11, 30 << 20);
  const auto reader = Connect();
  ASSERT_TRUE(SaveAndCommit(state, 1).ok());
  {
    const auto plan = Plan(*reader, 1);
    ASSERT_NE(plan, nullptr);
    ASSERT_TRUE(CheckRestoredWhole(*plan, state).ok());
  }
  client_ = Connect();  // the session that wrote the file has ended
  const absl::Status second = SaveAndCommit(state, 2, {.memory_wait = absl::Seconds(20)});
  EXPECT_TRUE(second.ok()) << second;
}

TEST_F(RealDaemonTest, AKeyThatIsNotThereIsNoSmallerPlan) {
  StartDaemon("64MiB");
  const absl::Status saved = SaveAndCommit(TestState::Mixed(7, 1 << 20), 1);
  ASSERT_TRUE(saved.ok()) << saved;
  v1::Selector selector;
  selector.set_run("run");
  selector.set_step(1);
  RestoreOptions options;
  *options.selection.add_keys() = MakeKey({"model", "mask"});
  for (const bool over_stream : {false, true}) {
    options.stream = over_stream;
    EXPECT_TRUE(client_->PlanRestore(selector, options).ok());
  }
  *options.selection.add_keys() = MakeKey({"model", "norm", "bais"});
  *options.selection.add_keys() = MakeKey({"model", "pahse"});
  for (const bool over_stream : {false, true}) {
    options.stream = over_stream;
    for (const absl::Status& status : {client_->PlanRestore(selector, options).status(),
                                       client_->EstimateRestore(selector, options).status()}) {
      EXPECT_TRUE(absl::IsNotFound(status)) << status;
      EXPECT_THAT(std::string(status.message()),
                  ::testing::AllOf(HasSubstr("'model.norm.bais' (nearest: 'model.norm.bias')"),
                                   HasSubstr("'model.pahse' (nearest: 'model.phase'")));
    }
  }
}

}  // namespace
}  // namespace ckpt
