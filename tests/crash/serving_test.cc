// How long after a kill until the daemon serves again, with a catalogue behind it and parts in
// memory that it has promised to keep. It serves before they are durable: adoption goes on behind.
#include <algorithm>
#include <iostream>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/fixtures/daemon_calls.h"
#include "tests/integration/integration_test.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt::testing {
namespace {

constexpr int kKills = 5;
constexpr uint64_t kStagedSteps = 4;
constexpr uint32_t kRanks = 2;

class Serving : public IntegrationTest {
 protected:
  // Whole checkpoints, with their data files; made in memory, where syncs cost nothing.
  void MakeCheckpoints() {
    const TemporaryFolder made;
    absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(made.path());
    ASSERT_TRUE(store.ok()) << store.status();
    for (uint64_t i = 0; i < CKPT_SERVING_CHECKPOINTS; ++i) {
      const auto saved = (*store)->Save(IdOf(absl::StrCat("team/run-", i % 10), 1 + i / 10),
                                        CheckpointUid::TimeOrdered(), {5000, 100, 7});
      ASSERT_TRUE(saved.ok()) << saved.status();
    }
    store->reset();
    std::filesystem::copy(made.path(), folder_ / "data", std::filesystem::copy_options::recursive);
  }
  ScratchFolder folder_;
};

TEST_F(Serving, ItServesSoonAfterAKillAndAdoptsBehind) {
  ASSERT_NO_FATAL_FAILURE(MakeCheckpoints());
  // As long as a daemon lives here, nothing that is staged becomes durable.
  StartDaemon({.flags = {"--persist-delay=1h"}, .data_folder = folder_ / "data"});
  const Incarnation launch = Incarnation::TimeOrdered();
  const auto state = [](uint64_t step) { return TestState::Mixed(step, 1 << 20); };
  for (uint64_t step = 1; step <= kStagedSteps; ++step) {
    for (SaveHandle& save : StartSaves({"job", step, launch}, state(step), kRanks)) {
      CKPT_ASSERT_OK(save.AwaitStaged(absl::Seconds(60)));
    }
  }
  DropClients();
  std::vector<double> milliseconds;
  for (int kill = 0; kill < kKills; ++kill) {
    // Killed at work: one rank of a checkpoint is saving.
    std::unique_ptr<Client> rank = Connect();
    CKPT_ASSERT_OK(
        rank->Save({"job", 100, launch}, MakeTestPart(state(100), 0, kRanks), {}).status());
    daemon().Kill();
    rank.reset();
    const absl::Time exec = absl::Now();
    CKPT_ASSERT_OK(daemon().Restart());
    const absl::StatusOr<v1::GetStatusResponse> status = DaemonCalls(daemon().socket()).Status();
    milliseconds.push_back(absl::ToDoubleMilliseconds(absl::Now() - exec));
    ASSERT_TRUE(status.ok()) << status.status();
    EXPECT_EQ(status->committed_checkpoints(), CKPT_SERVING_CHECKPOINTS);
    EXPECT_GE(status->adopted_parts(), kStagedSteps * kRanks);
    EXPECT_GT(status->memory_not_durable_bytes(), 0u) << "it served when all was durable";
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  std::cout << "with " << CKPT_SERVING_CHECKPOINTS << " checkpoints and " << kStagedSteps * kRanks
            << " staged parts, from exec to the first answer, ms: least " << milliseconds.front()
            << ", median " << milliseconds[kKills / 2] << ", most " << milliseconds.back()
            << std::endl;

  // What was adopted is known, and `latest` waits for it rather than answer with less.
  const absl::StatusOr<v1::CheckpointInfo> adopted = Info(absl::StrCat("job@", kStagedSteps));
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  EXPECT_EQ(adopted->state(), v1::CHECKPOINT_STATE_STAGED);
  const auto client = Connect();
  EXPECT_EQ(client
                ->PlanRestore(*ParseSelector("job@latest"),
                              {.settle_timeout = absl::Milliseconds(50)})
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
  CKPT_EXPECT_OK(Verify("team/run-3@latest"));
  CKPT_ASSERT_OK(daemon().Restart({"--persist-delay=0"}));
  CKPT_EXPECT_OK(Check("job@latest", state(kStagedSteps), kRanks));
  DaemonCalls calls(daemon().socket());
  for (uint64_t step = 1; step <= kStagedSteps; ++step) {
    CKPT_EXPECT_OK(calls.AwaitCommitted({"job", step, launch}, absl::Seconds(60)));
    CKPT_EXPECT_OK(Check(absl::StrCat("job@", step), state(step), kRanks));
  }
}

}  // namespace
}  // namespace ckpt::testing
