// Verifying, and the bar of verbs that take long.
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "tests/cli/ckptctl_fixture.h"

namespace ckpt::testing {
namespace {

using ::testing::HasSubstr;

TEST_F(Ckptctl, ThePersonAtTheTerminalSeesABarAndAFileDoesNot) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Plain(1, 3 << 20), 1));
  const std::string out = folder_ / "out.safetensors";
  const std::string in = folder_ / "in.safetensors";
  ASSERT_EQ(Run({"checkpoint", "export", "run@1", in}).exit_status, 0);
  for (const auto& verb :
       std::vector<std::vector<std::string>>{{"verify", "run@1"},
                                             {"export", "run@1", out},
                                             {"export", "run@1", out + ".pt"},
                                             {"import", "run@2", in, "--force"}}) {
    SCOPED_TRACE(verb[0]);
    std::vector<std::string> words = {"checkpoint"};
    words.insert(words.end(), verb.begin(), verb.end());
    const CommandResult quiet = Run(words);
    EXPECT_EQ(quiet.exit_status, 0) << quiet.errors;
    EXPECT_EQ(quiet.errors, "");
    for (const std::string& made : {out, out + ".pt"}) std::filesystem::remove(made);

    Terminal terminal;
    ASSERT_GE(terminal.far_end(), 0);
    words.insert(words.begin(), BuiltBinary("ckptctl"));
    words.insert(words.end(), {"--socket", daemon().socket()});
    const std::string output = folder_ / "output";
    std::filesystem::remove(output);
    const absl::StatusOr<pid_t> pid =
        Spawn({.arguments = words, .output = output, .errors_descriptor = terminal.far_end()});
    ASSERT_TRUE(pid.ok()) << pid.status();
    const absl::StatusOr<int> status = AwaitProcess(*pid, absl::Seconds(60));
    ASSERT_TRUE(status.ok()) << status.status();
    const std::string printed = terminal.Printed();
    EXPECT_EQ(*status, 0) << printed;
    const std::string clear = "\r\x1b[K";
    EXPECT_THAT(printed, ::testing::StartsWith(clear));
    EXPECT_THAT(printed, ::testing::EndsWith(clear)) << "the line is left clean";
    EXPECT_THAT(printed,
                ::testing::ContainsRegex("run@[12] \\[#*\\.*\\] +[0-9]+%  .* of 3\\.0 MiB  .*/s"));
    // What programs read is the same as without a terminal.
    EXPECT_EQ(ReadWholeFile(output), quiet.output);
  }
}

TEST_F(Ckptctl, VerifyFindsDamageAndNamesIt) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Plain(1, 3 << 20), 1));
  const CommandResult good = Run({"checkpoint", "verify", "run@1"});
  EXPECT_EQ(good.exit_status, 0) << good.errors;
  EXPECT_THAT(good.output, HasSubstr("valid"));
  daemon().DamageDataFiles();
  const CommandResult damaged = Run({"checkpoint", "verify", "run@1"});
  EXPECT_EQ(damaged.exit_status, 6) << damaged.errors;
  EXPECT_THAT(damaged.output, HasSubstr("DAMAGED in 1 place\n"));
  EXPECT_THAT(damaged.output, HasSubstr(".safetensors"));
  // And is known from then on.
  EXPECT_THAT(Run({"checkpoint", "ls", "run"}).output, HasSubstr("COMMITTED DAMAGED"));
  EXPECT_THAT(Run({"checkpoint", "show", "run@1"}).output, HasSubstr("1 place: rank 0: "));
  EXPECT_THAT(Run({"status"}).output, HasSubstr("1 DAMAGED"));
  // What comes after it cannot hide it.
  const CommandResult both = Run({"checkpoint", "verify", "run@1", "run@77", "-o", "json"});
  EXPECT_EQ(both.exit_status, 6) << both.errors;
  EXPECT_THAT(both.errors, HasSubstr("77"));
  const Json found = Json::parse(both.output, nullptr, false);
  ASSERT_EQ(found.size(), 1u) << both.output;
  EXPECT_EQ(found[0]["valid"], false);
}

TEST_F(Ckptctl, AMissingDataFileIsDamageUnlessMemoryHasItsBytes) {
  const TestState state = TestState::Plain(1, 3 << 20);
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), state, 1));
  for (const std::string& name : daemon().DataFiles()) {
    if (absl::EndsWith(name, ".safetensors")) {
      std::filesystem::remove(daemon().data_folder() + "/" + name);
    }
  }
  CKPT_EXPECT_OK(Check("run@1", state));  // from memory
  const CommandResult verified = Run({"checkpoint", "verify", "run@1"});
  EXPECT_EQ(verified.exit_status, 6) << verified.errors;
  EXPECT_THAT(verified.output, HasSubstr("DAMAGED"));
  const std::string out = folder_ / "out.safetensors";
  for (const std::string which : {"run@1", "run@latest"}) {
    EXPECT_EQ(Run({"checkpoint", "export", which, out, "--force"}).exit_status, 0);
  }

  daemon().Kill();
  for (const std::string& name : daemon().MemoryFiles()) {
    std::filesystem::remove(daemon().memory_folder() + "/" + name);
  }
  CKPT_ASSERT_OK(daemon().Restart());
  EXPECT_EQ(Run({"checkpoint", "verify", "run@1"}).exit_status, 6);
  const CommandResult exported = Run({"checkpoint", "export", "run@1", out, "--force"});
  EXPECT_EQ(exported.exit_status, 6) << exported.errors;
  EXPECT_THAT(exported.errors, HasSubstr("run@1, rank 0"));
  EXPECT_THAT(exported.errors, HasSubstr("ckptctl checkpoint verify run@1"));
  for (const std::string which : {"run@latest", "run@latest-valid"}) {
    const CommandResult shown = Run({"checkpoint", "show", which});
    EXPECT_EQ(shown.exit_status, 6) << shown.errors;
    EXPECT_THAT(shown.errors, HasSubstr("damaged steps: 1"));
  }
  CKPT_EXPECT_ERROR(Check("run@1", state), absl::StatusCode::kDataLoss, "run@1, rank 0");
}

}  // namespace
}  // namespace ckpt::testing
