// The daemon is killed (SIGKILL) or stopped (SIGTERM) at a chosen moment and started again on the
// same folders: what was staged becomes committed, what was being written leaves nothing.
#include <sys/file.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/integration/integration_test.h"
#include "tests/integration/rank_process.h"
#include "tests/integration/raw_save.h"

namespace ckpt::testing {
namespace {

class DaemonCrash : public IntegrationTest {
 protected:
  // Staged by all ranks, and not durable as long as this daemon lives.
  void StageAndHold(const CheckpointId& id, const TestState& state, uint32_t world_size) {
    StartDaemon({.flags = {"--persist-delay=1h"}});
    for (SaveHandle& save : StartSaves(id, state, world_size)) {
      CKPT_ASSERT_OK(save.AwaitStaged(absl::Seconds(60)));
    }
  }
  std::vector<std::string> Parts() {
    std::vector<std::string> parts;
    for (const std::string& name : daemon().MemoryFiles()) {
      if (name.ends_with("/data")) parts.push_back(name);
    }
    return parts;
  }
};

TEST_F(DaemonCrash, KilledBetweenStagedAndCommittedItIsAdopted) {
  const TestState state = TestState::Mixed(21, 4 * kMiB);
  StageAndHold(NewId("run", 5), state, 3);
  DropClients();  // the trainer is dead as well
  daemon().Kill();
  CKPT_ASSERT_OK(daemon().Restart({"--persist-delay=0s"}));
  CKPT_EXPECT_OK(Check("run@latest", state, 3));
  CKPT_EXPECT_OK(Verify("run@5"));
  const absl::StatusOr<v1::GetStatusResponse> status = Status();
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->adopted_parts(), 3u);
  // And it stays so.
  CKPT_ASSERT_OK(daemon().Restart({"--persist-delay=0s"}));
  CKPT_EXPECT_OK(Check("run@5", state, 3));
}

TEST_F(DaemonCrash, AHandleThatWaitsForCommittedSurvivesTheRestart) {
  const TestState state = TestState::Mixed(22);
  StartDaemon({.flags = {"--persist-delay=1h"}});
  auto saves = StartSaves(NewId("run", 5), state, 2);
  for (SaveHandle& save : saves) CKPT_ASSERT_OK(save.AwaitStaged(absl::Seconds(60)));
  CKPT_ASSERT_OK(daemon().Restart({"--persist-delay=0s"}));
  for (SaveHandle& save : saves) CKPT_EXPECT_OK(save.AwaitCommitted(absl::Seconds(60)));
  CKPT_EXPECT_OK(Check("run@5", state, 2));
  // The same clients go on saving with the new daemon.
  const CheckpointId next{"run", 6, saves[0].id().incarnation};
  CKPT_EXPECT_OK(SaveCommitted(next, TestState::Mixed(23), 2));
  CKPT_EXPECT_OK(Check("run@latest", TestState::Mixed(23), 2));
}

// A rank that does nothing while the daemon is away has a channel that has not noticed: its next
// save must not be the one that finds out.
TEST_F(DaemonCrash, TheFirstSaveOfAnIdleRankAfterARestartGoesThrough) {
  absl::StatusOr<std::unique_ptr<RankProcess>> rank = RankProcess::Start(daemon().socket());
  ASSERT_TRUE(rank.ok()) << rank.status();
  const Incarnation launch = Incarnation::TimeOrdered();
  for (uint64_t step = 1; step <= 5; ++step) {
    const RankSave save{.id = {"run", step, launch}, .seed = step, .bytes = 100000};
    CKPT_ASSERT_OK((*rank)->Save(save));
    CKPT_ASSERT_OK((*rank)->AwaitCommitted());
    CKPT_ASSERT_OK(daemon().Restart());
    CKPT_ASSERT_OK((*rank)->Restore("run@latest", save));
    CKPT_ASSERT_OK(daemon().Restart());
  }
}

TEST_F(DaemonCrash, LatestWaitsForAdoptedOnes) {
  const TestState state = TestState::Mixed(23);
  const CheckpointId id = NewId("run", 9);
  StageAndHold(id, state, 2);
  DropClients();
  // It comes back, but takes its time to persist: `latest` must not say "nothing there" meanwhile.
  CKPT_ASSERT_OK(daemon().Restart({"--persist-delay=8s"}));
  const absl::StatusOr<v1::CheckpointInfo> live = Info("run@9");
  if (live.ok()) {
    EXPECT_EQ(live->state(), v1::CHECKPOINT_STATE_STAGED);
  }
  CKPT_EXPECT_OK(Check("run@latest", state, 2));
}

TEST_F(DaemonCrash, KilledManyTimesBeforeItPersisted) {
  const TestState state = TestState::Mixed(24);
  StageAndHold(NewId("run", 5), state, 2);
  DropClients();
  for (int i = 0; i < 3; ++i) CKPT_ASSERT_OK(daemon().Restart({"--persist-delay=1h"}));
  EXPECT_EQ(Parts().size(), 2u);
  CKPT_ASSERT_OK(daemon().Restart({"--persist-delay=0s"}));
  CKPT_EXPECT_OK(Check("run@latest", state, 2));
}

TEST_F(DaemonCrash, KilledWhileWritingNothingIsVisibleAndNothingLeaks) {
  StartDaemon({.grace = "300ms"});
  absl::StatusOr<std::unique_ptr<RankProcess>> rank = RankProcess::Start(daemon().socket());
  ASSERT_TRUE(rank.ok()) << rank.status();
  CKPT_ASSERT_OK((*rank)->Save({.id = NewId("run", 1), .bytes = 8 * kMiB, .hold_at = 100000}));
  CKPT_ASSERT_OK((*rank)->AwaitHeld());
  daemon().Kill();
  (*rank)->Kill();
  CKPT_ASSERT_OK(daemon().Restart());
  EXPECT_THAT(CommittedSteps("run"), ::testing::IsEmpty());
  CKPT_EXPECT_OK(Eventually("the pages of the unfinished part go", [this] {
    return Parts().empty() && daemon().MemoryFolderBytes() < kMiB;
  }));
  for (const std::string& name : daemon().DataFiles()) {
    EXPECT_THAT(name, ::testing::Not(::testing::HasSubstr("partial")));
  }
  CKPT_EXPECT_OK(SaveCommitted(NewId("run", 1), TestState::Mixed(2), 2));
  CKPT_EXPECT_OK(Check("run@latest", TestState::Mixed(2), 2));
}

TEST_F(DaemonCrash, AnUnfinishedRingIsNeverAdopted) {
  StartDaemon({.memory_budget = "16MiB", .grace = "300ms"});
  absl::StatusOr<std::unique_ptr<RankProcess>> rank = RankProcess::Start(daemon().socket());
  ASSERT_TRUE(rank.ok()) << rank.status();
  CKPT_ASSERT_OK((*rank)->Save(
      {.id = NewId("run", 1), .bytes = 60 * kMiB, .plain = true, .hold_at = 40 * kMiB}));
  CKPT_ASSERT_OK((*rank)->AwaitHeld());
  daemon().Kill();
  (*rank)->Kill();
  CKPT_ASSERT_OK(daemon().Restart());
  EXPECT_THAT(CommittedSteps("run"), ::testing::IsEmpty());
  CKPT_EXPECT_OK(Eventually("nothing of it is left",
                            [this] { return Parts().empty() && daemon().DataFiles().empty(); }));
}

TEST_F(DaemonCrash, OneRankStagedTheOtherNeverIsAbortedAfterTheGrace) {
  StartDaemon({.grace = "300ms", .flags = {"--persist-delay=1h"}});
  const CheckpointId id = NewId("run", 1);
  const auto client = Connect();
  absl::StatusOr<SaveHandle> half = client->Save(id, MakeTestPart(TestState::Mixed(1), 0, 2), {});
  ASSERT_TRUE(half.ok()) << half.status();
  CKPT_ASSERT_OK(half->AwaitStaged(absl::Seconds(60)));
  CKPT_ASSERT_OK(daemon().Restart({"--persist-delay=0s"}));
  CKPT_EXPECT_ERROR(half->AwaitCommitted(absl::Seconds(60)), absl::StatusCode::kAborted, "1");
  EXPECT_THAT(CommittedSteps("run"), ::testing::IsEmpty());
  CKPT_EXPECT_OK(Eventually("its pages go", [this] { return Parts().empty(); }));
}

TEST_F(DaemonCrash, ACommittedOneIsThereWhateverIsKilled) {
  const TestState state = TestState::Mixed(31);
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), state, 2));
  daemon().Kill();
  CKPT_ASSERT_OK(daemon().Restart());
  CKPT_EXPECT_OK(Check("run@1", state, 2));
  // The index is derived: without it everything is still there.
  daemon().Kill();
  std::filesystem::remove_all(daemon().data_folder() + "/index");
  CKPT_ASSERT_OK(daemon().Restart());
  CKPT_EXPECT_OK(Check("run@latest", state, 2));
}

TEST_F(DaemonCrash, SigtermFinishesWhatIsStaged) {
  const TestState state = TestState::Mixed(32);
  StartDaemon({.drain_deadline = "60s", .flags = {"--persist-delay=500ms"}});
  for (SaveHandle& save : StartSaves(NewId("run", 1), state, 2)) {
    CKPT_ASSERT_OK(save.AwaitStaged(absl::Seconds(60)));
  }
  const absl::StatusOr<int> exited = daemon().Terminate();
  ASSERT_TRUE(exited.ok()) << exited.status();
  EXPECT_EQ(*exited, 0);
  std::filesystem::remove_all(daemon().memory_folder());
  DropClients();
  CKPT_ASSERT_OK(daemon().Restart());
  CKPT_EXPECT_OK(Check("run@latest", state, 2));
}

TEST_F(DaemonCrash, TheDrainDeadlineBoundsSigtermAndLosesNothing) {
  const TestState state = TestState::Mixed(33);
  StartDaemon({.drain_deadline = "200ms", .flags = {"--persist-delay=1h"}});
  for (SaveHandle& save : StartSaves(NewId("run", 1), state, 2)) {
    CKPT_ASSERT_OK(save.AwaitStaged(absl::Seconds(60)));
  }
  const absl::Time asked = absl::Now();
  const absl::StatusOr<int> exited = daemon().Terminate();
  ASSERT_TRUE(exited.ok()) << exited.status();
  EXPECT_LT(absl::Now() - asked, absl::Seconds(30));
  DropClients();
  CKPT_ASSERT_OK(daemon().Restart({"--persist-delay=0s"}));
  CKPT_EXPECT_OK(Check("run@latest", state, 2));
}

TEST_F(DaemonCrash, ASecondDaemonOnTheSameSocketOrFolderIsRefused) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Mixed(1), 1));
  absl::StatusOr<std::unique_ptr<Daemon>> same_data =
      Daemon::Start({.data_folder = daemon().data_folder(), .start_timeout = absl::Seconds(20)});
  ASSERT_FALSE(same_data.ok());
  EXPECT_THAT(std::string(same_data.status().message()),
              ::testing::HasSubstr(daemon().data_folder()));
  EXPECT_THAT(std::string(same_data.status().message()),
              ::testing::HasSubstr(absl::StrCat(daemon().pid())));
  absl::StatusOr<std::unique_ptr<Daemon>> same_memory =
      Daemon::Start({.flags = {absl::StrCat("--memory-dir=", daemon().memory_folder())},
                     .start_timeout = absl::Seconds(20)});
  ASSERT_FALSE(same_memory.ok());
  EXPECT_THAT(std::string(same_memory.status().message()),
              ::testing::HasSubstr(daemon().memory_folder()));
  absl::StatusOr<std::unique_ptr<Daemon>> same_socket =
      Daemon::Start({.flags = {absl::StrCat("--socket=", daemon().socket())},
                     .start_timeout = absl::Seconds(20)});
  ASSERT_FALSE(same_socket.ok());
  EXPECT_THAT(std::string(same_socket.status().message()),
              ::testing::HasSubstr(absl::StrCat("another ckptd (pid ", daemon().pid(),
                                               ") serves ", daemon().socket())));
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(1)));
}

TEST_F(DaemonCrash, ADamagedFileIsReportedAndTheRestIsServed) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Mixed(1, 4 * kMiB), 1));
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 2), TestState::Mixed(2, 4 * kMiB), 1));
  const absl::StatusOr<v1::CheckpointInfo> newest = Info("run@2");
  ASSERT_TRUE(newest.ok());
  DropClients();
  daemon().Kill();
  std::filesystem::remove_all(daemon().memory_folder());
  // One byte of the newest checkpoint's data file: the file written last.
  std::string path;
  auto latest = std::filesystem::file_time_type::min();
  for (const std::string& name : daemon().DataFiles()) {
    const std::string file = daemon().data_folder() + "/" + name;
    if (!name.ends_with(".safetensors") || std::filesystem::last_write_time(file) < latest)
      continue;
    latest = std::filesystem::last_write_time(file);
    path = file;
  }
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-1000, std::ios::end);
    const char flipped = static_cast<char>(file.get() ^ 1);
    file.seekp(-1000, std::ios::end);
    file.put(flipped);
  }
  CKPT_ASSERT_OK(daemon().Restart());
  EXPECT_TRUE(absl::IsDataLoss(Verify("run@2")));
  const absl::Status read = Check("run@2", TestState::Mixed(2, 4 * kMiB));
  EXPECT_TRUE(absl::IsDataLoss(read)) << read;
  EXPECT_THAT(std::string(read.message()), ::testing::Not(::testing::HasSubstr("wrong bytes")));
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(1, 4 * kMiB)));
  CKPT_EXPECT_OK(Check("run@latest-valid", TestState::Mixed(1, 4 * kMiB)));
}

}  // namespace
}  // namespace ckpt::testing
