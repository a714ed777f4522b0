// Ranks that die, stall, never come, fork, claim each other's place or spoil their memory: the
// others learn of it at once, nobody hangs, nothing wrong becomes visible.
#include <signal.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/integration/integration_test.h"
#include "tests/integration/rank_process.h"

namespace ckpt::testing {
namespace {

class RankFaults : public IntegrationTest {
 protected:
  std::unique_ptr<RankProcess> StartRank() {
    absl::StatusOr<std::unique_ptr<RankProcess>> rank = RankProcess::Start(daemon().socket());
    EXPECT_TRUE(rank.ok()) << rank.status();
    return *std::move(rank);
  }
  std::vector<std::unique_ptr<RankProcess>> StartRanks(uint32_t count) {
    std::vector<std::unique_ptr<RankProcess>> ranks;
    for (uint32_t i = 0; i < count; ++i) ranks.push_back(StartRank());
    return ranks;
  }
};

TEST_F(RankFaults, ARankThatDiesBeforeFinishAbortsTheOthersAtOnce) {
  auto ranks = StartRanks(3);
  const CheckpointId id = NewId("run", 1);
  for (uint32_t rank = 0; rank < 3; ++rank) {
    CKPT_ASSERT_OK(ranks[rank]->Save(
        {.id = id, .rank = rank, .world_size = 3, .hold_at = rank == 1 ? 5000 : -1}));
  }
  CKPT_ASSERT_OK(ranks[1]->AwaitHeld());
  CKPT_ASSERT_OK(ranks[0]->AwaitStaged());
  const absl::Time killed = absl::Now();
  ranks[1]->Kill();
  CKPT_EXPECT_ERROR(ranks[0]->AwaitCommitted(), absl::StatusCode::kAborted, "rank 1");
  CKPT_EXPECT_ERROR(ranks[2]->AwaitCommitted(), absl::StatusCode::kAborted, "rank 1");
  // Far below the grace of a broken stream (30 s): the closed session says it all.
  EXPECT_LT(absl::Now() - killed, absl::Seconds(10));
  EXPECT_THAT(CommittedSteps("run"), ::testing::IsEmpty());
  const auto all = List("run", true);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].state(), v1::CHECKPOINT_STATE_ABORTED);
  EXPECT_THAT(all[0].abort_reason(), ::testing::HasSubstr("rank 1"));
  // The next launch saves the same step.
  auto again = StartRanks(1);
  CKPT_ASSERT_OK(again[0]->Save({.id = NewId("run", 1), .seed = 9}));
  CKPT_ASSERT_OK(again[0]->AwaitCommitted());
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(9)));
}

TEST_F(RankFaults, ARankThatNeverBeginsMeetsTheJoinDeadline) {
  const CheckpointId id = NewId("run", 1);
  const auto rank = StartRank();
  CKPT_ASSERT_OK(rank->Save({.id = id, .rank = 0, .world_size = 3, .join_ms = 300}));
  const absl::Status status = rank->AwaitCommitted();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::ContainsRegex("1, ?2|1 and 2"));
}

TEST_F(RankFaults, ARankThatComesAfterTheJoinDeadlineIsTold) {
  const CheckpointId id = NewId("run", 1);
  auto ranks = StartRanks(2);
  CKPT_ASSERT_OK(ranks[0]->Save({.id = id, .rank = 0, .world_size = 2, .join_ms = 200}));
  EXPECT_EQ(ranks[0]->AwaitCommitted().code(), absl::StatusCode::kAborted);
  CKPT_ASSERT_OK(ranks[1]->Save({.id = id, .rank = 1, .world_size = 2}));
  const absl::Status late = ranks[1]->AwaitStaged();
  EXPECT_TRUE(absl::IsAborted(late) || absl::IsFailedPrecondition(late)) << late;
}

TEST_F(RankFaults, AStalledRankHoldsUpNobodyButItsOwnCheckpoint) {
  auto ranks = StartRanks(2);
  const CheckpointId id = NewId("stalled", 1);
  for (uint32_t rank = 0; rank < 2; ++rank) {
    CKPT_ASSERT_OK(ranks[rank]->Save(
        {.id = id, .rank = rank, .world_size = 2, .hold_at = rank == 1 ? 100 : -1}));
  }
  CKPT_ASSERT_OK(ranks[1]->AwaitHeld());
  ranks[1]->Signal(SIGSTOP);
  CKPT_ASSERT_OK(ranks[0]->AwaitStaged());
  EXPECT_TRUE(absl::IsDeadlineExceeded(ranks[0]->AwaitCommitted(absl::Milliseconds(200))));
  // Another run goes on as if nothing were.
  CKPT_ASSERT_OK(SaveCommitted(NewId("other", 1), TestState::Mixed(3), 2));
  CKPT_EXPECT_OK(Check("other@1", TestState::Mixed(3), 2));
  // It comes to life again: the checkpoint is whole.
  ranks[1]->Signal(SIGCONT);
  CKPT_ASSERT_OK(ranks[1]->Release());
  CKPT_ASSERT_OK(ranks[1]->AwaitCommitted());
  CKPT_ASSERT_OK(ranks[0]->AwaitCommitted());
  CKPT_EXPECT_OK(Check("stalled@1", TestState::Mixed(1), 2));
}

TEST_F(RankFaults, ATrainerThatScribblesAfterFinishSpoilsNothingThatPassesForGood) {
  StartDaemon({.flags = {"--persist-delay=1s"}});
  const auto rank = StartRank();
  CKPT_ASSERT_OK(rank->Save({.id = NewId("run", 1), .bytes = 4 << 20}));
  CKPT_ASSERT_OK(rank->AwaitStaged());
  const auto touched = rank->Ask({{"do", "scribble"}});
  ASSERT_TRUE(touched.ok()) << touched.status();
  ASSERT_GT((*touched)["touched"].get<uint64_t>(), 0u) << "no mapping was found to write to";
  // What is hashed is what is written: it commits, and every block verifies, whatever it holds now.
  CKPT_ASSERT_OK(rank->AwaitCommitted());
  CKPT_EXPECT_OK(Verify("run@1"));
  // The daemon works on.
  CKPT_ASSERT_OK(SaveCommitted(NewId("next", 1), TestState::Mixed(2), 2));
  CKPT_EXPECT_OK(Check("next@1", TestState::Mixed(2), 2));
}

TEST_F(RankFaults, AScribbleAfterTheCommitDoesNotReachTheDisk) {
  const auto rank = StartRank();
  CKPT_ASSERT_OK(rank->Save({.id = NewId("run", 1), .bytes = 4 << 20}));
  CKPT_ASSERT_OK(rank->AwaitCommitted());
  ASSERT_TRUE(rank->Ask({{"do", "scribble"}}).ok());
  CKPT_EXPECT_OK(Verify("run@1"));
  // A restore from the spoilt memory copy notices, and takes the disk's bytes.
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(1, 4 << 20)));
}

TEST_F(RankFaults, ATrainerThatTruncatesItsMappingAfterFinish) {
  StartDaemon({.flags = {"--persist-delay=1s"}});
  const auto rank = StartRank();
  CKPT_ASSERT_OK(rank->Save({.id = NewId("run", 1), .bytes = 4 << 20}));
  CKPT_ASSERT_OK(rank->AwaitStaged());
  const auto touched = rank->Ask({{"do", "truncate"}});
  ASSERT_TRUE(touched.ok()) << touched.status();
  ASSERT_GT((*touched)["touched"].get<uint64_t>(), 0u) << "nothing could be truncated";
  const absl::Status status = rank->AwaitCommitted();
  EXPECT_TRUE(absl::IsAborted(status) || absl::IsDataLoss(status)) << status;
  EXPECT_THAT(CommittedSteps("run"), ::testing::IsEmpty());
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 2), TestState::Mixed(2), 2));
  CKPT_EXPECT_OK(Check("run@latest", TestState::Mixed(2), 2));
}

TEST_F(RankFaults, ATruncatedMemoryCopyIsReadFromDisk) {
  const auto rank = StartRank();
  CKPT_ASSERT_OK(rank->Save({.id = NewId("run", 1), .bytes = 4 << 20}));
  CKPT_ASSERT_OK(rank->AwaitCommitted());
  ASSERT_TRUE(rank->Ask({{"do", "truncate"}}).ok());
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(1, 4 << 20)));
}

TEST_F(RankFaults, ATrainerThatForks) {
  const auto rank = StartRank();
  const Incarnation launch = Incarnation::TimeOrdered();
  CKPT_ASSERT_OK(rank->Save({.id = {"run", 1, launch}, .hold_at = 100}));
  CKPT_ASSERT_OK(rank->AwaitHeld());
  const auto answer = rank->Ask({{"do", "fork"}});
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ((*answer)["child_status"], 0) << *answer;
  const int refused = static_cast<int>(absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT((*answer)["child_codes"].get<std::vector<int>>(),
              ::testing::Each(::testing::Eq(refused)));
  // The parent's save, under way while it forked, and a later one.
  CKPT_ASSERT_OK(rank->Release());
  CKPT_ASSERT_OK(rank->AwaitCommitted());
  CKPT_ASSERT_OK(rank->Save({.id = {"run", 2, launch}, .seed = 2}));
  CKPT_ASSERT_OK(rank->AwaitCommitted());
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(1)));
  CKPT_EXPECT_OK(Check("run@2", TestState::Mixed(2)));
}

TEST_F(RankFaults, ADeadTrainersChildDoesNotKeepItsSessionAlive) {
  auto ranks = StartRanks(2);
  const CheckpointId id = NewId("run", 1);
  for (uint32_t rank = 0; rank < 2; ++rank) {
    CKPT_ASSERT_OK(ranks[rank]->Save(
        {.id = id, .rank = rank, .world_size = 2, .hold_at = rank == 1 ? 100 : -1}));
  }
  CKPT_ASSERT_OK(ranks[1]->AwaitHeld());
  const auto answer = ranks[1]->Ask({{"do", "fork_sleeper"}});
  ASSERT_TRUE(answer.ok()) << answer.status();
  const pid_t child = (*answer)["child"].get<pid_t>();
  ranks[1]->Kill();
  const absl::Status status = ranks[0]->AwaitCommitted(absl::Seconds(20));
  kill(child, SIGKILL);
  CKPT_EXPECT_ERROR(status, absl::StatusCode::kAborted, "rank 1");
}

TEST_F(RankFaults, TwoProcessesThatClaimTheSameRank) {
  auto ranks = StartRanks(3);
  const CheckpointId id = NewId("run", 1);
  CKPT_ASSERT_OK(ranks[0]->Save({.id = id, .rank = 0, .world_size = 2, .hold_at = 100}));
  CKPT_ASSERT_OK(ranks[0]->AwaitHeld());
  CKPT_ASSERT_OK(ranks[1]->Save({.id = id, .rank = 0, .world_size = 2}));
  CKPT_EXPECT_ERROR(ranks[1]->AwaitStaged(), absl::StatusCode::kAlreadyExists, "rank 0");
  // The first one's save is none the worse for it.
  CKPT_ASSERT_OK(ranks[0]->Release());
  CKPT_ASSERT_OK(ranks[2]->Save({.id = id, .rank = 1, .world_size = 2}));
  CKPT_ASSERT_OK(ranks[0]->AwaitCommitted());
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(1), 2));
}

TEST_F(RankFaults, ARankThatDiesAfterStagedLosesNothing) {
  auto ranks = StartRanks(2);
  const CheckpointId id = NewId("run", 1);
  for (uint32_t rank = 0; rank < 2; ++rank) {
    CKPT_ASSERT_OK(ranks[rank]->Save({.id = id, .rank = rank, .world_size = 2}));
  }
  CKPT_ASSERT_OK(ranks[0]->AwaitStaged());
  CKPT_ASSERT_OK(ranks[1]->AwaitStaged());
  ranks.clear();
  CKPT_EXPECT_OK(Check("run@latest", TestState::Mixed(1), 2));  // waits for what is staged
}

}  // namespace
}  // namespace ckpt::testing
