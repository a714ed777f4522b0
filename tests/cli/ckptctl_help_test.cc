// ckptctl's help, and what it says of command lines that are wrong.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/cli/ckptctl_fixture.h"

namespace ckpt::testing {
namespace {

using ::testing::HasSubstr;

TEST_F(Ckptctl, HelpOfEveryVerb) {
  const CommandResult general = Run({"--help"});
  EXPECT_EQ(general.exit_status, 0);
  EXPECT_THAT(general.output, HasSubstr("Exit codes:"));
  for (const char* verb :
       {"run ls", "checkpoint ls", "checkpoint show", "checkpoint diff", "checkpoint wait",
        "checkpoint watch", "checkpoint tag", "checkpoint rm", "checkpoint export",
        "checkpoint import", "checkpoint verify", "checkpoint pin", "checkpoint unpin",
        "checkpoint annotate", "retention show", "retention set", "retention unset",
        "retention plan", "retention confirm", "tensor ls", "health", "status", "drain"}) {
    EXPECT_THAT(general.output, HasSubstr(verb));
    std::vector<std::string> words = absl::StrSplit(verb, ' ');
    words.push_back("--help");
    const CommandResult help = Run(words);
    EXPECT_EQ(help.exit_status, 0);
    EXPECT_THAT(help.output, HasSubstr(absl::StrCat("ckptctl ", verb)));
    for (const char* part : {"--socket", "--timeout", "-o, --output", "Exit codes:"}) {
      EXPECT_THAT(help.output, HasSubstr(part)) << verb;
    }
  }
}

TEST_F(Ckptctl, HelpOfAGroupListsItsVerbs) {
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"checkpoint", "--help"}, {"checkpoint", "-h"}, {"--help", "checkpoint"}}) {
    const CommandResult help = Run(words);
    EXPECT_EQ(help.exit_status, 0) << help.errors;
    EXPECT_THAT(help.output, HasSubstr("checkpoint export"));
    EXPECT_THAT(help.output, ::testing::Not(HasSubstr("run ls")));
  }
  EXPECT_EQ(Run({"chekpoint", "--help"}).exit_status, 2);
}

TEST_F(Ckptctl, TellsItsVersion) {
  const CommandResult version = Run({"--version"});
  EXPECT_EQ(version.exit_status, 0);
  EXPECT_THAT(version.output, ::testing::MatchesRegex("ckptctl [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST_F(Ckptctl, WrongCommandLines) {
  EXPECT_EQ(Run({}).exit_status, 2);
  for (const char* flag : {"--socket", "--address", "--token-file", "-o", "--timeout"}) {
    const CommandResult valueless = Run({flag});
    EXPECT_EQ(valueless.exit_status, 2);
    EXPECT_THAT(valueless.errors, HasSubstr(absl::StrCat(flag, " needs a value")));
  }
  const CommandResult unknown = Run({"checkpoint", "lst"});
  EXPECT_EQ(unknown.exit_status, 2);
  EXPECT_THAT(unknown.errors, HasSubstr("checkpoint ls"));
  EXPECT_THAT(Run({"checkpoint"}).errors, HasSubstr("needs a verb"));
  const CommandResult foo = Run({"checkpoint", "foo"});
  EXPECT_EQ(foo.exit_status, 2);
  EXPECT_THAT(foo.errors, HasSubstr("checkpoint has ls, show, diff, wait"));
  EXPECT_THAT(foo.errors, ::testing::Not(HasSubstr("did you mean")));
  EXPECT_THAT(Run({"chekpoint", "ls"}).errors, HasSubstr("did you mean \"checkpoint ls\"?"));
  EXPECT_EQ(Run({"checkpoint", "show", "no-at-sign"}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "show", "../../etc@1"}).exit_status, 2);
  EXPECT_EQ(Run({"run", "ls", "-o", "yaml"}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "ls", "run@1"}).exit_status, 2);
}

TEST_F(Ckptctl, ArgumentsThatAreNotUtf8AreRefusedByName) {
  const std::string bad = "x\xff";
  for (const auto& [words, name] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"checkpoint", "ls", bad}, "RUN "},
           {{"run", "ls", bad}, "PREFIX "},
           {{"checkpoint", "watch", bad}, "RUN "},
           {{"tensor", "ls", "r@1", "-i", bad}, "--include "},
           {{"tensor", "ls", "r@1", "--key", bad}, "--key "},
           {{"tensor", "ls", "r@1", "--regex", bad}, "--regex "},
           {{"tensor", "ls", "r@1", "--top-level", bad}, "--top-level "},
           {{"checkpoint", "export", "r@1", "f", "--slice", bad + "[0]"}, "--slice "}}) {
    const CommandResult result = Run(words);
    EXPECT_EQ(result.exit_status, 2) << result.errors;
    EXPECT_THAT(result.errors, ::testing::StartsWith(
        absl::StrCat("ckptctl: ", name, "is not valid UTF-8: 'x\\xff")));
  }
  EXPECT_EQ(Run({"checkpoint", "import", "r@1", folder_ / bad}).exit_status, 3);
}

TEST_F(Ckptctl, NoDaemonSaysWhatToDo) {
  const std::string nowhere = folder_ / "none.sock";
  for (const auto& verb :
       std::vector<std::vector<std::string>>{{"run", "ls"},
                                             {"health"},
                                             {"status"},
                                             {"checkpoint", "export", "r@1", folder_ / "out"}}) {
    std::vector<std::string> words = verb;
    words.push_back("--socket=" + nowhere);
    const absl::Time begin = absl::Now();
    const CommandResult result = Run(words);
    EXPECT_EQ(result.exit_status, 4) << result.errors;
    EXPECT_LT(absl::Now() - begin, absl::Seconds(15)) << "it waits for a daemon";
    EXPECT_THAT(result.errors, HasSubstr(nowhere));
    EXPECT_THAT(result.errors, HasSubstr("ckptd"));
  }
}

}  // namespace
}  // namespace ckpt::testing
