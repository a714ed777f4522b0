// What differs between checkpoints, and how much is what the one before it held.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/cli/ckptctl_fixture.h"

namespace ckpt::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class CkptctlDiff : public Ckptctl {
 protected:
  static std::vector<std::string> Lines(const std::string& text) {
    return absl::StrSplit(text, '\n', absl::SkipEmpty());
  }
  // The line of a table that holds this text.
  static std::string LineWith(const std::string& table, absl::string_view text) {
    for (const std::string& line : Lines(table)) {
      if (absl::StrContains(line, text)) return line;
    }
    return absl::StrCat("no line with ", text, " in:\n", table);
  }
  const Incarnation launch_ = Incarnation::TimeOrdered();
};

TEST_F(CkptctlDiff, ShowsWhatIsNewGoneAndChanged) {
  TestState state = TestState::Mixed(1);
  CKPT_ASSERT_OK(SaveCommitted({"team/run", 100, launch_}, state, 2));
  std::erase_if(state.tensors, [](const TestTensor& t) { return t.key == "model.mask"; });
  for (TestTensor& tensor : state.tensors) {
    if (tensor.key == "model.norm.bias") tensor.shape = {38};
    if (tensor.key == "model.phase") tensor.placement = v1::PLACEMENT_SHARDED;
  }
  state.tensors.push_back({"model.new.weight", v1::DTYPE_F16, {4, 4}});
  CKPT_ASSERT_OK(SaveCommitted({"team/run", 200, launch_}, state, 2));

  const CommandResult diff = Run({"checkpoint", "diff", "team/run@100", "@latest"});
  EXPECT_EQ(diff.exit_status, 0) << diff.errors;
  EXPECT_THAT(LineWith(diff.output, "model.new.weight"),
              AllOf(StartsWith("+ "), HasSubstr("F16 [4, 4]"), HasSubstr("32 B")));
  EXPECT_THAT(LineWith(diff.output, "model.mask"),
              AllOf(StartsWith("- "), HasSubstr("BOOL [5, 3]")));
  EXPECT_THAT(LineWith(diff.output, "model.norm.bias"),
              AllOf(StartsWith("~ "), HasSubstr("F64 [37] -> F64 [38]")));
  EXPECT_THAT(LineWith(diff.output, "model.phase"),
              AllOf(StartsWith("~ "), HasSubstr("replicated -> sharded")));
  EXPECT_THAT(diff.output, ::testing::Not(HasSubstr("model.embedding")));
  EXPECT_THAT(Lines(diff.output).back(),
              AllOf(StartsWith("team/run@100 -> team/run@200: 9"), HasSubstr(" % of "),
                    HasSubstr("identical (1 added, 1 removed, 2 reshaped, ")));

  const Json json = RunJson({"checkpoint", "diff", "team/run@100", "team/run@200"});
  EXPECT_EQ(json["before"], "team/run@100");
  EXPECT_EQ(json["added"], 1);
  EXPECT_EQ(json["removed"], 1);
  EXPECT_EQ(json["reshaped"], 2);
  ASSERT_EQ(json["differences"].size(), 4u);
  EXPECT_EQ(json["differences"][0]["kind"], "removed");
  EXPECT_EQ(json["differences"][0]["key"], "model.mask");
  EXPECT_TRUE(json["differences"][0]["after"].is_null());
  EXPECT_EQ(json["differences"][1]["after"]["dtype"], "F16");
  EXPECT_THAT(json["differences"][2]["before"]["shape"], ElementsAre(37));

  const CommandResult lines =
      Run({"checkpoint", "diff", "team/run@100", "team/run@200", "-o", "jsonl"});
  ASSERT_EQ(Lines(lines.output).size(), 5u);
  const Json last = Json::parse(Lines(lines.output).back(), nullptr, false);
  EXPECT_EQ(last["kind"], "summary");
  EXPECT_EQ(last["data_bytes"], json["data_bytes"]);
}

TEST_F(CkptctlDiff, ExitCodeAndSelectionAndSummary) {
  CKPT_ASSERT_OK(SaveCommitted({"run", 1, launch_}, TestState::Mixed(1), 2));
  CKPT_ASSERT_OK(SaveCommitted({"run", 2, launch_}, TestState::Mixed(1), 2));
  CKPT_ASSERT_OK(SaveCommitted({"run", 3, launch_}, TestState::Mixed(2), 2));

  const CommandResult same = Run({"checkpoint", "diff", "run@1", "@2", "--exit-code"});
  EXPECT_EQ(same.exit_status, 0) << same.errors;
  ASSERT_EQ(Lines(same.output).size(), 1u);
  EXPECT_THAT(same.output, StartsWith("run@1 -> run@2: 100.0 % of "));

  EXPECT_EQ(Run({"checkpoint", "diff", "run@2", "@3"}).exit_status, 0);
  const CommandResult other = Run({"checkpoint", "diff", "run@2", "@3", "--exit-code"});
  EXPECT_EQ(other.exit_status, 11) << other.errors;
  EXPECT_THAT(LineWith(other.output, "step_seed"), AllOf(StartsWith("~ "), HasSubstr("1 -> 2")));
  EXPECT_THAT(LineWith(other.output, "model.embedding.weight"), HasSubstr("all bytes"));
  EXPECT_THAT(LineWith(other.output, "random.state (rank 1)"), StartsWith("~ "));

  const CommandResult summary = Run({"checkpoint", "diff", "run@2", "@3", "--summary"});
  EXPECT_EQ(Lines(summary.output), std::vector<std::string>{Lines(other.output).back()});

  EXPECT_EQ(Run({"checkpoint", "diff", "run@2", "@3", "--dtype", "F8_E5M2"}).output,
            "run@2 -> run@3: nothing is selected\n");
  const Json chosen =
      RunJson({"checkpoint", "diff", "run@2", "@3", "--dtype", "F64,BOOL", "-x", "**.mask"});
  ASSERT_EQ(chosen["differences"].size(), 1u);
  EXPECT_EQ(chosen["differences"][0]["key"], "model.norm.bias");
  EXPECT_EQ(chosen["differences"][0]["changed_bytes"], 37 * 8);
  EXPECT_EQ(chosen["data_bytes"], 37 * 8);
  EXPECT_EQ(chosen["identical_bytes"], 0);
}

TEST_F(CkptctlDiff, AnotherWorldIsCutOtherwise) {
  CKPT_ASSERT_OK(SaveCommitted({"run", 1, launch_}, TestState::Plain(1, 9000), 2));
  CKPT_ASSERT_OK(SaveCommitted({"run", 2, launch_}, TestState::Plain(1, 9000), 3));
  const CommandResult diff = Run({"checkpoint", "diff", "run@1", "run@2", "--exit-code"});
  EXPECT_EQ(diff.exit_status, 11) << "what cannot be told may differ";
  EXPECT_THAT(LineWith(diff.output, "cut into other shards"), StartsWith("?  data"));
  // No share of what was not looked at.
  EXPECT_THAT(Lines(diff.output).back(),
              StartsWith("run@1 -> run@2: not comparable: the two were cut into different shards "
                         "(1 added, 1 unknown, 3 the same)"));
  TestState more = TestState::Plain(1, 9000);
  more.tensors.push_back({"own", v1::DTYPE_U8, {1000}, v1::PLACEMENT_PER_RANK});
  CKPT_ASSERT_OK(SaveCommitted({"run", 3, launch_}, more, 2));
  CKPT_ASSERT_OK(SaveCommitted({"run", 4, launch_}, more, 3));
  const std::string text = Lines(Run({"checkpoint", "diff", "run@3", "run@4"}).output).back();
  EXPECT_THAT(text, StartsWith("run@3 -> run@4: 66.6 % of 2.9 KiB identical (2 added, 1 unknown"));
  EXPECT_THAT(text, HasSubstr("; 8.8 KiB were cut into different shards and not compared"));
  EXPECT_EQ(RunJson({"checkpoint", "diff", "run@3", "run@4"})["unknown_bytes"], 9000);
}

TEST_F(CkptctlDiff, SaysWhatIsWrong) {
  CKPT_ASSERT_OK(SaveCommitted({"run", 1, launch_}, TestState::Plain(1, 100), 1));
  EXPECT_EQ(Run({"checkpoint", "diff", "run@1", "run@2"}).exit_status, 3);
  EXPECT_EQ(Run({"checkpoint", "diff", "run@1"}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "diff", "run@1", "2"}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "diff", "run@1", "@1", "--regex", "a("}).exit_status, 2);
  const CommandResult missing = Run({"checkpoint", "diff", "run@1", "@1", "--key", "nowhere"});
  EXPECT_EQ(missing.exit_status, 3);
  EXPECT_THAT(missing.errors, HasSubstr("nowhere"));
}

TEST_F(CkptctlDiff, ShowTellsHowMuchTheStepBeforeHeldAlready) {
  const TestState state = TestState::Mixed(1);
  CKPT_ASSERT_OK(SaveCommitted({"run", 10, launch_}, state, 2));
  EXPECT_TRUE(RunJson({"checkpoint", "show", "run@10"})["compared_step"].is_null());
  CKPT_ASSERT_OK(SaveCommitted({"run", 20, launch_}, state, 2));
  CKPT_ASSERT_OK(SaveCommitted({"run", 30, launch_}, state, 2));
  // After the commit is answered: nobody waits for it.
  CKPT_ASSERT_OK(daemon().AwaitLog("checkpoint has the same tensors as the two before it"));
  EXPECT_THAT(daemon().Log(), HasSubstr("step=20 compared_step=10 identical_percent=100"));
  const Json shown = RunJson({"checkpoint", "show", "run@20"});
  EXPECT_EQ(shown["compared_step"], 10);
  EXPECT_EQ(shown["identical_bytes"], shown["data_bytes"]);
  EXPECT_TRUE(shown["durable_at"].is_string());
  EXPECT_EQ(RunJson({"checkpoint", "ls", "run"})[1]["durable_at"], shown["durable_at"]);
  const CommandResult watched = Run({"checkpoint", "watch", "run", "--once", "-o", "jsonl"});
  EXPECT_THAT(watched.output,
              HasSubstr(absl::StrCat("\"durable_at\":", shown["durable_at"].dump())));
  EXPECT_EQ(RunJson({"checkpoint", "ls", "run"})[0]["compared_step"], 20);
  const CommandResult table = Run({"checkpoint", "show", "run@20"});
  EXPECT_THAT(LineWith(table.output, "identical:"), HasSubstr("100.0 % to step 10"));
  EXPECT_THAT(LineWith(table.output, "durable:"), HasSubstr("Z"));
  DropClients();
  CKPT_ASSERT_OK(daemon().Restart());
  EXPECT_EQ(RunJson({"checkpoint", "show", "run@20"})["compared_step"], 10);
}

}  // namespace
}  // namespace ckpt::testing
