// kill -9 of the daemon at ten random moments of the main job, half of the time together with all
// ranks. Nothing committed is ever lost, nothing uncommitted is ever visible, and training ends
// where it would have ended undisturbed.
//
// The oracle: a reference run that nobody disturbs writes digests of its state at every save; the
// disturbed job writes an event when it is told that a checkpoint is committed. CKPT_SEED=N repeats
// a run's random choices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/setting.h"
#include "tests/main_job/job.h"

namespace ckpt::testing {
namespace {

constexpr int kKills = 10;
constexpr int kSteps = 400;  // more than ten kills can use up, on a slow machine too
constexpr int kSaveEvery = 3;

std::vector<std::string> TrainingFlags() {
  return {"--layers=2", "--width=192", "--context=32", absl::StrCat("--steps=", kSteps),
          absl::StrCat("--save_every=", kSaveEvery)};
}

class MainJobKillLoopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto daemon = Daemon::Start({.memory_budget = "512MiB", .log_level = "info"});
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
  }

  Job MakeJob(const std::string& name, std::vector<std::string> flags) {
    const std::string folder = scratch_ / name;
    std::filesystem::create_directories(folder);
    return Job({daemon_->socket(), absl::StrCat("demo/", name), folder, std::move(flags)});
  }

  // Steps that the catalogue calls committed.
  std::set<int64_t> CommittedSteps(const std::string& run) {
    const auto listed = RunCommand({BuiltBinary("ckptctl"), "--socket", daemon_->socket(),
                                    "checkpoint", "ls", run, "-o", "jsonl"});
    std::set<int64_t> steps;
    if (!listed.ok()) {
      ADD_FAILURE() << listed.status();
      return steps;
    }
    // 3: the daemon knows no such run yet.
    EXPECT_TRUE(listed->exit_status == 0 || listed->exit_status == 3) << listed->errors;
    for (absl::string_view line : absl::StrSplit(listed->output, '\n', absl::SkipEmpty())) {
      const auto checkpoint = nlohmann::json::parse(line.begin(), line.end());
      if (checkpoint["state"] == "COMMITTED") steps.insert(checkpoint["step"].get<int64_t>());
    }
    return steps;
  }

  void Verify(const std::string& run, const std::set<int64_t>& steps) {
    if (steps.empty()) return;
    std::vector<std::string> words = {BuiltBinary("ckptctl"), "--socket", daemon_->socket(),
                                      "checkpoint", "verify"};
    for (const int64_t step : steps) words.push_back(absl::StrCat(run, "@", step));
    const auto verified = RunCommand(words);
    ASSERT_TRUE(verified.ok()) << verified.status();
    EXPECT_EQ(verified->exit_status, 0) << verified->output << verified->errors;
  }

  // Until the job has written `count` further losses; false where it ended before.
  static bool AwaitProgress(Job& job, size_t count) {
    const size_t until = job.losses_written() + count;
    while (job.losses_written() < until) {
      if (!job.running()) return false;
      absl::SleepFor(absl::Milliseconds(2));
    }
    return true;
  }

  ScratchFolder scratch_;
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(MainJobKillLoopTest, NothingCommittedIsLostAndNothingUncommittedIsVisible) {
  const uint64_t seed = TestSetting("CKPT_SEED", std::random_device()());
  std::cout << "CKPT_SEED=" << seed << std::endl;
  std::mt19937_64 random(seed);
  const auto below = [&random](uint64_t bound) { return random() % bound; };

  std::vector<std::string> reference_flags = TrainingFlags();
  reference_flags.push_back("--digest_saves");
  Job reference = MakeJob("reference", reference_flags);
  ASSERT_TRUE(reference.Launch().ok());
  ASSERT_EQ(reference.AwaitSuccess(absl::Minutes(4)), absl::OkStatus());

  std::vector<std::string> flags = TrainingFlags();
  flags.push_back("--continue_on_error");
  Job job = MakeJob("killed", flags);
  ASSERT_TRUE(job.Launch().ok());
  std::set<int64_t> seen;  // what the catalogue has called committed
  for (int kill = 0; kill < kKills; ++kill) {
    // Any moment of the two save intervals that follow; the last steps are left for the end.
    ASSERT_TRUE(AwaitProgress(job, 1 + below(2 * kSaveEvery)))
        << "the job ended after " << kill << " kills" << job.LogTail();
    absl::SleepFor(absl::Milliseconds(below(60)));
    const bool ranks_too = below(2) == 0;
    if (ranks_too) job.KillRanks();
    daemon_->Kill();
    const std::vector<int64_t> promised = job.EventSteps("committed");
    // In half of its lives the daemon leaves what is staged in memory for a while.
    const std::string delay = below(2) == 0 ? "0" : absl::StrCat(below(500), "ms");
    ASSERT_EQ(daemon_->Restart({"--persist-delay", delay}), absl::OkStatus());
    const std::set<int64_t> committed = CommittedSteps("demo/killed");
    for (const int64_t step : promised) {
      EXPECT_TRUE(committed.contains(step)) << "step " << step << " was committed before kill "
                                            << kill << " and is lost; seed " << seed;
    }
    // What was visible once stays so, though nobody may have been told; what is new is whole.
    for (const int64_t step : seen) {
      EXPECT_TRUE(committed.contains(step)) << "step " << step << " was listed before kill " << kill
                                            << " and is lost; seed " << seed;
    }
    std::set<int64_t> fresh;
    std::set_difference(committed.begin(), committed.end(), seen.begin(), seen.end(),
                        std::inserter(fresh, fresh.end()));
    Verify("demo/killed", fresh);
    seen.insert(committed.begin(), committed.end());
    if (!ranks_too) continue;
    ASSERT_TRUE(job.Launch().ok());
    ASSERT_TRUE(AwaitProgress(job, 1)) << job.LogTail();
    if (!promised.empty()) {
      ASSERT_THAT(job.EventSteps("resumed"), ::testing::Not(::testing::IsEmpty()));
      EXPECT_GE(job.EventSteps("resumed").back(),
                *std::max_element(promised.begin(), promised.end()))
          << "resumed before a committed step; kill " << kill << ", seed " << seed;
    }
  }
  ASSERT_EQ(job.AwaitSuccess(absl::Minutes(4)), absl::OkStatus());

  std::map<int64_t, std::string> expected_losses, losses;
  ASSERT_EQ(reference.ReadLosses(expected_losses), absl::OkStatus());
  ASSERT_EQ(job.ReadLosses(losses), absl::OkStatus());
  EXPECT_EQ(losses, expected_losses) << "seed " << seed;
  EXPECT_EQ(losses.size(), static_cast<size_t>(kSteps));

  // What is visible is whole, and is what the reference had at that step: each is loaded.
  const std::set<int64_t> committed = CommittedSteps("demo/killed");
  EXPECT_TRUE(std::includes(committed.begin(), committed.end(), seen.begin(), seen.end()))
      << "seed " << seed;
  EXPECT_TRUE(committed.contains(kSteps));
  EXPECT_GE(committed.size(), static_cast<size_t>(kSteps / kSaveEvery / 3)) << "seed " << seed;
  Job inspection({daemon_->socket(), "demo/killed", scratch_ / "killed", flags});
  ASSERT_TRUE(inspection.Launch({absl::StrCat("--inspect=", absl::StrJoin(committed, ","))}).ok());
  ASSERT_EQ(inspection.AwaitSuccess(absl::Minutes(4)), absl::OkStatus());
  const auto expected_digests = reference.ReadDigests();
  const auto digests = inspection.ReadDigests();
  for (const int64_t step : committed) {
    ASSERT_TRUE(digests.contains(step)) << step;
    EXPECT_EQ(digests.at(step), expected_digests.at(step)) << "step " << step << ", seed " << seed;
  }
  std::cout << committed.size() << " of " << kSteps / kSaveEvery
            << " checkpoints committed, each equal to the reference's state" << std::endl;
}

}  // namespace
}  // namespace ckpt::testing
