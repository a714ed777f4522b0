// A job of rank processes saves step after step while the daemon, or all of the ranks, are killed
// (SIGKILL) at random moments. The oracle knows what each step held and how far each was seen to
// come: what anybody saw COMMITTED, or staged by all ranks, must be there bit-equal after every
// restart; nothing that is visible may hold anything but one step's bytes.
//
// CKPT_KILL_LOOP_SEED repeats a run, CKPT_KILL_LOOP_KILLS makes it longer.
#include <signal.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/mutex.h"
#include "tests/integration/integration_test.h"
#include "tests/integration/rank_process.h"

namespace ckpt::testing {
namespace {

constexpr uint32_t kRanks = 2;
constexpr uint64_t kBytes = 600 << 10;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

class KillLoop : public IntegrationTest {
 protected:
  // One launch of the job: saves from `first` on until something fails. Steps that all ranks saw
  // staged go into staged_.
  void RunJob(uint64_t first) {
    const Incarnation launch = Incarnation::TimeOrdered();
    std::vector<std::unique_ptr<RankProcess>> ranks;
    for (uint32_t rank = 0; rank < kRanks; ++rank) {
      absl::StatusOr<std::unique_ptr<RankProcess>> started = RankProcess::Start(daemon().socket());
      if (!started.ok()) return;
      ranks.push_back(*std::move(started));
    }
    {
      const MutexLock lock(mutex_);
      for (const auto& rank : ranks) pids_.push_back(rank->pid());
    }
    for (uint64_t step = first; !stop_; ++step) {
      bool good = true;
      for (uint32_t rank = 0; rank < kRanks; ++rank) {
        good = ranks[rank]
                   ->Save({.id = {"job", step, launch},
                           .rank = rank,
                           .world_size = kRanks,
                           .seed = step,
                           .bytes = kBytes,
                           .replace = true})
                   .ok() &&
               good;
      }
      for (const auto& rank : ranks) good = good && rank->AwaitStaged(absl::Seconds(60)).ok();
      if (!good) break;
      staged_ = step;
      if (step % 3 != 0) continue;  // the others are saved over the heels of the one before
      for (const auto& rank : ranks) good = good && rank->AwaitCommitted(absl::Seconds(60)).ok();
      if (!good) break;
      committed_ = step;
    }
    const MutexLock lock(mutex_);
    pids_.clear();
  }

  void KillRanks() {
    const MutexLock lock(mutex_);
    for (const pid_t pid : pids_) kill(pid, SIGKILL);
  }

  Mutex mutex_;
  std::vector<pid_t> pids_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> staged_{0};
  std::atomic<uint64_t> committed_{0};
};

TEST_F(KillLoop, NothingCommittedIsLostNothingUncommittedIsSeen) {
  const uint64_t seed = FromEnvironment("CKPT_KILL_LOOP_SEED", absl::ToUnixNanos(absl::Now()));
  const uint64_t kills = FromEnvironment("CKPT_KILL_LOOP_KILLS", 6);
  SCOPED_TRACE(absl::StrCat("CKPT_KILL_LOOP_SEED=", seed));
  std::printf("CKPT_KILL_LOOP_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  StartDaemon({.memory_budget = "16MiB", .grace = "300ms"});
  uint64_t next = 1;
  for (uint64_t i = 0; i < kills; ++i) {
    stop_ = false;
    const uint64_t staged_before = staged_;
    std::thread job([this, next] { RunJob(next); });
    // At least one step gets through, then a random moment: this sleep is the fault's time, not a
    // synchronisation.
    (void)Eventually("a step is staged", [&] { return staged_ > staged_before; });
    absl::SleepFor(absl::Microseconds(random() % 150000));
    const bool daemon_too = random() % 4 != 0;
    const bool ranks_first = random() % 2 == 0;
    if (ranks_first) KillRanks();
    if (daemon_too) daemon().Kill();
    stop_ = true;
    KillRanks();
    job.join();
    if (daemon_too) CKPT_ASSERT_OK(daemon().Restart());

    const auto client = Connect();
    const auto plan = client->PlanRestore(*ParseSelector("job@latest"), {});
    ASSERT_TRUE(plan.ok()) << plan.status();
    const uint64_t latest = (*plan)->checkpoint().id().step();
    EXPECT_GE(latest, staged_) << "a step that was staged by all ranks is lost";
    CKPT_ASSERT_OK(CheckRestoredWhole(**plan, TestState::Mixed(latest, kBytes)));
    for (const uint64_t step : CommittedSteps("job")) {
      CKPT_ASSERT_OK(Check(absl::StrCat("job@", step), TestState::Mixed(step, kBytes), 3));
    }
    const std::vector<uint64_t> steps = CommittedSteps("job");
    for (uint64_t step = 3; step <= committed_; step += 3) {
      EXPECT_THAT(steps, ::testing::Contains(step)) << "a committed step is lost";
    }
    next = latest + 1;
  }
}

}  // namespace
}  // namespace ckpt::testing
