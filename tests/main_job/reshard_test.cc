// The main job on another number of ranks than saved its checkpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/process.h"
#include "tests/main_job/job.h"

namespace ckpt::testing {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(4);

// The model's, of one step; the optimizer's are of each rank's own rows.
std::string ParametersAt(const Job& job, int64_t step) {
  const std::map<int64_t, std::set<std::string>> digests = job.ReadDigests();
  const auto of_step = digests.find(step);
  if (of_step == digests.end()) return absl::StrCat("no digest of step ", step, job.LogTail());
  for (const std::string& line : of_step->second) {
    if (absl::StartsWith(line, "parameters ")) return line;
  }
  return absl::StrCat("no digest of the parameters of step ", step);
}

TEST(MainJobReshardTest, FourRanksSaveThreeAndTwoGoOn) {
  auto daemon = Daemon::Start({.memory_budget = "512MiB"});
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  const std::filesystem::path scratch = std::filesystem::path(CKPT_TEST_SCRATCH) / "reshard";
  std::filesystem::remove_all(scratch);
  const auto job_on = [&](int ranks) {
    const std::string folder = scratch / absl::StrCat("ranks", ranks);
    std::filesystem::create_directories(folder);
    return Job({(*daemon)->socket(),
                "demo/lm",
                folder,
                {"--layers=2", "--width=64", "--context=32", "--save_every=2", "--digest_saves"},
                ranks});
  };
  Job four = job_on(4);
  ASSERT_TRUE(four.Launch({"--steps=4"}).ok());
  ASSERT_TRUE(four.AwaitSuccess(kPatience).ok());
  int64_t step = 4;
  std::string saved = ParametersAt(four, step);
  for (const int ranks : {3, 2}) {
    Job job = job_on(ranks);
    ASSERT_TRUE(job.Launch({absl::StrCat("--inspect=", step)}).ok());
    absl::Status ended = job.AwaitSuccess(kPatience);
    ASSERT_TRUE(ended.ok()) << ended;
    EXPECT_EQ(ParametersAt(job, step), saved) << "on " << ranks << " ranks";
    ASSERT_TRUE(job.Launch({absl::StrCat("--steps=", step + 2)}).ok());
    ended = job.AwaitSuccess(kPatience);
    ASSERT_TRUE(ended.ok()) << ended;
    EXPECT_THAT(job.EventSteps("resumed"), ::testing::Each(step)) << job.LogTail();
    EXPECT_EQ(job.EventSteps("resumed").size(), static_cast<size_t>(ranks));
    step += 2;
    saved = ParametersAt(job, step);
  }
}

}  // namespace
}  // namespace ckpt::testing
