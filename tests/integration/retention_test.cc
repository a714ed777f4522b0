// Retention as a job and its operator meet it: the real daemon, its restarts and its rebuilt index.
#include <filesystem>
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "ckpt/v1/retention.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "tests/fixtures/small_disk.h"
#include "tests/integration/integration_test.h"

namespace ckpt::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RetentionOfRuns : public IntegrationTest {
 protected:
  // Made anew for each call: the daemon is restarted in between.
  std::unique_ptr<v1::RetentionService::Stub> Stub() {
    return v1::RetentionService::NewStub(
        grpc::CreateChannel("unix:" + daemon().socket(), grpc::InsecureChannelCredentials()));
  }
  void KeepLast(const std::string& run, uint64_t count) {
    v1::SetRetentionRequest request;
    request.set_run(run);
    request.mutable_policy()->set_keep_last(count);
    v1::SetRetentionResponse response;
    grpc::ClientContext context;
    const grpc::Status set = Stub()->SetRetention(&context, request, &response);
    EXPECT_TRUE(set.ok()) << set.error_message();
  }
  v1::GetRetentionResponse PolicyOf(const std::string& run) {
    v1::GetRetentionRequest request;
    request.set_run(run);
    v1::GetRetentionResponse response;
    grpc::ClientContext context;
    const grpc::Status got = Stub()->GetRetention(&context, request, &response);
    EXPECT_TRUE(got.ok()) << got.error_message();
    return response;
  }
  bool Confirm() {
    v1::ConfirmRetentionResponse response;
    grpc::ClientContext context;
    const grpc::Status done = Stub()->ConfirmRetention(&context, {}, &response);
    EXPECT_TRUE(done.ok()) << done.error_message();
    return response.awaited();
  }
  void Annotate(const std::string& run, uint64_t step, bool pinned) {
    v1::AnnotateCheckpointRequest request;
    request.mutable_selector()->set_run(run);
    request.mutable_selector()->set_step(step);
    request.set_pinned(pinned);
    v1::AnnotateCheckpointResponse response;
    grpc::ClientContext context;
    const grpc::Status done = v1::CatalogService::NewStub(channel())->AnnotateCheckpoint(
        &context, request, &response);
    EXPECT_TRUE(done.ok()) << done.error_message();
  }

  void Save(const std::string& run, uint64_t step, uint64_t bytes = 1000) {
    CKPT_ASSERT_OK(SaveCommitted({run, step, launch_}, TestState::Plain(step, bytes), 1));
  }
  absl::Status AwaitSteps(const std::string& run, const std::vector<uint64_t>& steps) {
    return Eventually("retention", [&] { return CommittedSteps(run) == steps; });
  }

  const Incarnation launch_ = Incarnation::TimeOrdered();
};

TEST_F(RetentionOfRuns, APolicySetByRpcOutlivesARestartAndARebuiltIndex) {
  for (uint64_t step = 1; step <= 5; ++step) Save("r", step);
  KeepLast("r", 2);
  CKPT_ASSERT_OK(AwaitSteps("r", {5, 4}));
  CKPT_ASSERT_OK(daemon().Restart());
  EXPECT_EQ(PolicyOf("r").source(), v1::RETENTION_SOURCE_RUN);
  DropClients();
  Save("r", 6);
  CKPT_ASSERT_OK(AwaitSteps("r", {6, 5}));
  CKPT_EXPECT_OK(Check("r@5", TestState::Plain(5, 1000)));

  ASSERT_EQ(daemon().Terminate().value_or(-1), 0);
  std::filesystem::remove_all(daemon().data_folder() + "/index");
  CKPT_ASSERT_OK(daemon().Restart());
  EXPECT_EQ(PolicyOf("r").policy().keep_last(), 2u);
  EXPECT_TRUE(PolicyOf("r").awaits_confirmation());
  EXPECT_THAT(daemon().Log(), HasSubstr("ckptctl retention confirm"));
  DropClients();
  Save("r", 7);
  Save("r", 8);
  EXPECT_THAT(CommittedSteps("r"), ElementsAre(8, 7, 6, 5));
  EXPECT_TRUE(Confirm());
  EXPECT_FALSE(Confirm());
  CKPT_ASSERT_OK(AwaitSteps("r", {8, 7}));
}

TEST_F(RetentionOfRuns, ByFlagsAndFileAndWhatIsPinnedStays) {
  ScratchFolder scratch;
  std::ofstream(scratch / "retention") << "[quiet/**]\nkeep-last = 3\n";
  StartDaemon({.flags = {"--keep-last=1", "--retention-file=" + scratch / "retention"}});
  Save("r", 1);
  Annotate("r", 1, true);
  for (uint64_t step = 2; step <= 4; ++step) Save("r", step);
  for (uint64_t step = 1; step <= 4; ++step) Save("quiet/r", step);
  CKPT_ASSERT_OK(AwaitSteps("r", {4, 1}));
  CKPT_ASSERT_OK(AwaitSteps("quiet/r", {4, 3, 2}));
  EXPECT_EQ(PolicyOf("r").source(), v1::RETENTION_SOURCE_FLAGS);
  EXPECT_EQ(PolicyOf("quiet/r").source(), v1::RETENTION_SOURCE_FILE);
  CKPT_EXPECT_OK(Check("r@1", TestState::Plain(1, 1000)));
  Annotate("r", 1, false);
  CKPT_ASSERT_OK(AwaitSteps("r", {4}));
  EXPECT_THAT(daemon().Log(), HasSubstr("checkpoint deleted by retention"));
}

TEST_F(RetentionOfRuns, ADryRunDeletesNothingAndSaysWhy) {
  for (uint64_t step = 1; step <= 3; ++step) Save("r", step);
  v1::PlanRetentionRequest request;
  request.set_run("r");
  request.mutable_policy()->set_keep_last(1);
  std::vector<v1::RetentionDecision> decisions;
  v1::RetentionSummary summary;
  {
    grpc::ClientContext context;
    const auto stub = Stub();
    const auto reader = stub->PlanRetention(&context, request);
    v1::PlanRetentionResponse response;
    while (reader->Read(&response)) {
      for (const auto& one : response.decisions().decisions()) decisions.push_back(one);
      if (response.has_summary()) summary = response.summary();
    }
    const grpc::Status ended = reader->Finish();
    ASSERT_TRUE(ended.ok()) << ended.error_message();
  }
  ASSERT_EQ(decisions.size(), 3u);
  EXPECT_TRUE(decisions[0].keep());
  EXPECT_EQ(decisions[0].rule(), "newest");
  EXPECT_FALSE(decisions[2].keep());
  EXPECT_EQ(decisions[2].rule(), "unlisted");
  EXPECT_EQ(summary.deleted(), 2u);
  EXPECT_EQ(summary.deleted_bytes(), 2 * decisions[1].data_bytes());
  EXPECT_EQ(PolicyOf("r").source(), v1::RETENTION_SOURCE_NONE);
  Save("r", 4);
  EXPECT_THAT(CommittedSteps("r"), ElementsAre(4, 3, 2, 1));

  request.set_run("unknown");
  grpc::ClientContext context;
  const auto stub = Stub();
  const auto reader = stub->PlanRetention(&context, request);
  v1::PlanRetentionResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

// keep-last=2, 400 is good, 500 was found damaged, and 600 commits.
TEST_F(RetentionOfRuns, ADamagedCheckpointDoesNotCostTheLastGoodOne) {
  Save("r", 300);
  Save("r", 400);
  std::set<std::filesystem::path> before;
  const auto objects = [&] {
    return std::filesystem::directory_iterator(daemon().data_folder() + "/objects");
  };
  for (const auto& file : objects()) before.insert(file.path());
  Save("r", 500);
  for (const auto& file : objects()) {
    if (!before.contains(file.path())) std::filesystem::remove(file.path());
  }
  EXPECT_FALSE(Verify("r@500").ok());
  daemon().Kill();  // the next one has not read it, and knows
  DropClients();
  std::filesystem::remove_all(daemon().memory_folder());  // a reboot: memory serves nothing
  CKPT_ASSERT_OK(daemon().Restart());
  const auto latest = Connect()->PlanRestore(*ParseSelector("r@latest"), {});
  ASSERT_TRUE(latest.ok()) << latest.status();
  EXPECT_EQ((*latest)->checkpoint().id().step(), 400u);
  Save("r", 600);
  v1::PlanRetentionRequest request;
  request.set_run("r");
  request.mutable_policy()->set_keep_last(2);
  grpc::ClientContext context;
  const auto stub = Stub();
  const auto reader = stub->PlanRetention(&context, request);
  std::vector<uint64_t> kept;
  v1::PlanRetentionResponse response;
  while (reader->Read(&response)) {
    for (const auto& one : response.decisions().decisions()) {
      if (one.keep()) kept.push_back(one.id().step());
    }
  }
  const grpc::Status ended = reader->Finish();
  ASSERT_TRUE(ended.ok()) << ended.error_message();
  EXPECT_THAT(kept, ElementsAre(600, 500, 400));
}

TEST_F(RetentionOfRuns, APlanInProgressReadsWhatWasDeleted) {
  const TestState state = TestState::Plain(1, 3 * kMiB);
  Save("r", 1, 3 * kMiB);
  const auto client = Connect();
  v1::Selector selector;
  selector.set_run("r");
  selector.set_step(1);
  absl::StatusOr<std::unique_ptr<RestorePlan>> plan = client->PlanRestore(selector, {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  const size_t files = daemon().DataFiles().size();
  KeepLast("r", 1);
  Save("r", 2);
  CKPT_ASSERT_OK(AwaitSteps("r", {2}));
  const TestTensor& tensor = state.tensors.front();
  const auto leaf = (*plan)->Find(tensor.key, 0);
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  const std::string expected = TestBytes(state, tensor, 0, Box::Whole(tensor.shape));
  std::string bytes(expected.size(), '\0');
  ReadTarget target;
  target.leaf_number = *leaf;
  target.region = Box::Whole(tensor.shape);
  target.out = reinterpret_cast<std::byte*>(bytes.data());
  CKPT_ASSERT_OK((*plan)->Read({&target, 1}));
  EXPECT_TRUE(bytes == expected);
  plan->reset();
  CKPT_EXPECT_OK(Eventually("the files go", [&] { return daemon().DataFiles().size() == files; }));
}

// A launch that saves as fast as it can, on a disk that holds three of its checkpoints.
TEST_F(RetentionOfRuns, SavesOnAFullDiskGoOnAsRetentionMakesRoom) {
  SmallDisk disk(110);
  CKPT_NEED_DISK(disk);
  StartDaemon({.flags = {"--keep-last=1", "--persist-delay=300ms"}, .data_folder = disk / "data"});
  for (uint64_t step = 1; step <= 6; ++step) {
    auto saves = StartSaves({"r", step, launch_}, TestState::Plain(step, 25 * kMiB), 1);
    CKPT_ASSERT_OK(saves.front().AwaitStaged(absl::Seconds(60)));
  }
  CKPT_ASSERT_OK(AwaitSteps("r", {6}));
  for (const v1::CheckpointInfo& info : List("r", /*include_aborted=*/true)) {
    EXPECT_EQ(info.state(), v1::CHECKPOINT_STATE_COMMITTED) << info.ShortDebugString();
  }
  CKPT_EXPECT_OK(Check("r@latest", TestState::Plain(6, 25 * kMiB)));
}

TEST_F(RetentionOfRuns, AFullDiskWithoutAPolicyRefuses) {
  SmallDisk disk(64);
  CKPT_NEED_DISK(disk);
  StartDaemon({.data_folder = disk / "data"});
  Save("r", 1, 25 * kMiB);
  auto saves = StartSaves({"r", 2, launch_}, TestState::Plain(2, 40 * kMiB), 1);
  CKPT_EXPECT_ERROR(saves.front().AwaitStaged(absl::Seconds(60)),
                    absl::StatusCode::kResourceExhausted, "disk");
  CKPT_EXPECT_OK(Check("r@1", TestState::Plain(1, 25 * kMiB)));
}

}  // namespace
}  // namespace ckpt::testing
