// The whole way of the data: saved by ranks, committed, restored bit-equal, from memory, from disk
// and over the stream, on as many ranks or on others, and after a restart of the daemon.
#include "absl/strings/str_cat.h"
#include "tests/integration/integration_test.h"

namespace ckpt::testing {
namespace {

class SaveRestore : public IntegrationTest {};

TEST_F(SaveRestore, EveryPlacementComesBackBitEqual) {
  const TestState state = TestState::Mixed(11);
  CKPT_ASSERT_OK(SaveCommitted(NewId("team/run", 100), state, 4));
  CKPT_EXPECT_OK(Check("team/run@100", state, 4));
  CKPT_EXPECT_OK(Check("team/run@latest", state, 4));
  CKPT_EXPECT_OK(Check("team/run@latest-valid", state, 4));
  CKPT_EXPECT_OK(Verify("team/run@100"));
}

TEST_F(SaveRestore, RestoresOnAnyNumberOfRanks) {
  const TestState state = TestState::Mixed(12);
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), state, 4));
  for (const uint32_t world_size : {1u, 2u, 3u, 7u}) {
    SCOPED_TRACE(absl::StrCat("on ", world_size, " ranks"));
    CKPT_EXPECT_OK(Check("run@1", state, world_size));
  }
}

TEST_F(SaveRestore, StreamTransportBothWays) {
  const TestState state = TestState::Mixed(13, 3 << 20);
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), state, 2, {.transport = v1::TRANSPORT_STREAM}));
  CKPT_EXPECT_OK(Check("run@1", state, 2, {.stream = true}));
  CKPT_EXPECT_OK(Check("run@1", state, 2));
}

TEST_F(SaveRestore, FromDiskAfterARestart) {
  const TestState state = TestState::Mixed(14);
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), state, 3));
  DropClients();
  daemon().Kill();
  std::filesystem::remove_all(daemon().memory_folder());  // as after a reboot
  CKPT_ASSERT_OK(daemon().Restart());
  CKPT_EXPECT_OK(Check("run@latest", state, 3));
  const absl::StatusOr<v1::CheckpointInfo> info = Info("run@latest");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_FALSE(info->in_memory());
}

TEST_F(SaveRestore, AnEmptyRankAndAStateWithoutTensors) {
  TestState state{.seed = 5};
  CKPT_ASSERT_OK(SaveCommitted(NewId("values", 1), state, 2));
  CKPT_EXPECT_OK(Check("values@1", state, 2));
  // Two rows over four ranks: two of them hold nothing.
  state.tensors = {{"thin", v1::DTYPE_F32, {2, 8}, v1::PLACEMENT_SHARDED}};
  CKPT_ASSERT_OK(SaveCommitted(NewId("thin", 1), state, 4));
  CKPT_EXPECT_OK(Check("thin@1", state, 4));
  CKPT_EXPECT_OK(Check("thin@1", state, 1));
}

TEST_F(SaveRestore, ASeriesOfStepsEachWithItsOwnBytes) {
  const Incarnation launch = Incarnation::TimeOrdered();
  for (uint64_t step = 1; step <= 8; ++step) {
    CKPT_ASSERT_OK(SaveCommitted({"run", step, launch}, TestState::Mixed(step), 2));
  }
  for (uint64_t step = 1; step <= 8; ++step) {
    CKPT_EXPECT_OK(Check(absl::StrCat("run@", step), TestState::Mixed(step), 2));
  }
  EXPECT_THAT(CommittedSteps("run"), ::testing::ElementsAre(8, 7, 6, 5, 4, 3, 2, 1));
}

TEST_F(SaveRestore, UnknownRunAndStepSayWhatExists) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("team/llama-7b", 100), TestState::Plain(1, 1000), 1));
  const auto client = Connect();
  CKPT_EXPECT_ERROR(client->PlanRestore(*ParseSelector("team/lama-7b@latest"), {}).status(),
                    absl::StatusCode::kNotFound, "team/llama-7b");
  CKPT_EXPECT_ERROR(client->PlanRestore(*ParseSelector("team/llama-7b@99"), {}).status(),
                    absl::StatusCode::kNotFound, "100");
  CKPT_EXPECT_ERROR(client->PlanRestore(*ParseSelector("team/llama-7b@best"), {}).status(),
                    absl::StatusCode::kNotFound, "best");
  CKPT_EXPECT_ERROR(Info("other@1").status(), absl::StatusCode::kNotFound, "other");
  CKPT_EXPECT_ERROR(
      client->Wait(NewId("team/llama-7b", 7), v1::CHECKPOINT_STATE_COMMITTED, absl::Seconds(5))
          .status(),
      absl::StatusCode::kNotFound, "7");
}

}  // namespace
}  // namespace ckpt::testing
