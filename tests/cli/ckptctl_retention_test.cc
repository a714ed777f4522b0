// ckptctl retention, and checkpoint pin, unpin and annotate.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/cli/ckptctl_fixture.h"

namespace ckpt::testing {
namespace {

using ::testing::HasSubstr;

class CkptctlRetention : public Ckptctl {
 protected:
  void SaveSteps(uint64_t last) {
    const Incarnation launch = Incarnation::TimeOrdered();
    for (uint64_t step = 1; step <= last; ++step) {
      CKPT_ASSERT_OK(SaveCommitted({"team/r", step, launch}, TestState::Plain(step, 1000), 1));
    }
  }
};

TEST_F(CkptctlRetention, PlansSetsShowsAndUnsets) {
  SaveSteps(4);
  EXPECT_THAT(Run({"retention", "show", "team/r"}).output, HasSubstr("keep everything"));
  const CommandResult dry = Run({"retention", "set", "team/r", "--keep-last", "2", "--dry-run"});
  EXPECT_EQ(dry.exit_status, 0) << dry.errors;
  EXPECT_THAT(dry.output, HasSubstr("the newest committed checkpoint"));
  EXPECT_THAT(dry.output, HasSubstr("DELETE"));
  EXPECT_THAT(dry.output, HasSubstr("to be deleted: 2, "));
  const Json plan = RunJson({"retention", "plan", "team/r", "--keep-every=3"});
  ASSERT_EQ(plan["decisions"].size(), 4u);
  EXPECT_EQ(plan["decisions"][1]["step"], 3);
  EXPECT_EQ(plan["decisions"][1]["rule"], "keep-every");
  EXPECT_EQ(plan["decisions"][2]["keep"], false);
  EXPECT_EQ(plan["deleted"], 2);
  EXPECT_EQ(plan["policy"]["keep-every"], "3");
  EXPECT_EQ(RunJson({"retention", "plan", "team/r"})["deleted"], 0);
  EXPECT_EQ(CommittedSteps("team/r").size(), 4u);

  const CommandResult unasked = Run({"retention", "set", "team/r", "--keep-last=2"});
  EXPECT_EQ(unasked.exit_status, 5);
  EXPECT_THAT(unasked.errors,
              HasSubstr("--yes to let `keep-last 2` delete 2 of the 4 checkpoints of team/r now"));
  EXPECT_EQ(RunJson({"retention", "show", "team/r"})["source"], "NONE");
  const CommandResult set =
      Run({"retention", "set", "team/r", "--keep-last=2", "--max-age=30d", "--yes"});
  EXPECT_EQ(set.exit_status, 0) << set.errors;
  EXPECT_THAT(set.output, HasSubstr("keep-last 2, max-age 30d"));
  CKPT_EXPECT_OK(Eventually("two go", [&] { return CommittedSteps("team/r").size() == 2; }));
  const Json shown = RunJson({"retention", "show", "team/r"});
  EXPECT_EQ(shown["source"], "RUN");
  EXPECT_EQ(shown["policy"]["max-age"], "30d");
  EXPECT_EQ(RunJson({"retention", "set", "team/r", "--keep-all"})["policy"].size(), 0u);
  EXPECT_EQ(RunJson({"retention", "unset", "team/r"})["source"], "NONE");
  EXPECT_THAT(Run({"retention", "confirm"}).output, HasSubstr("was on already"));
  EXPECT_EQ(RunJson({"status"})["retention_awaits_confirmation"], false);
}

TEST_F(CkptctlRetention, UnsetAsksWhereTheDaemonsOwnPolicyWouldDelete) {
  CKPT_ASSERT_OK(daemon().Restart({"--keep-last=1"}));
  EXPECT_EQ(Run({"retention", "set", "team/r", "--keep-all"}).exit_status, 0) << "not there yet";
  SaveSteps(3);
  const CommandResult unasked = Run({"retention", "unset", "team/r"});
  EXPECT_EQ(unasked.exit_status, 5);
  EXPECT_THAT(unasked.errors, HasSubstr("delete 2 of the 3 checkpoints of team/r now"));
  EXPECT_EQ(RunJson({"retention", "show", "team/r"})["source"], "RUN");
  EXPECT_EQ(RunJson({"retention", "unset", "team/r", "--yes"})["source"], "FLAGS");
  CKPT_EXPECT_OK(Eventually("two go", [&] { return CommittedSteps("team/r").size() == 1; }));
}

// Damaged, and taken away as the text says: the flags' policy deletes nothing meanwhile.
TEST_F(CkptctlRetention, PoliciesThatAreDamagedOrLostAreToldAndDeleteNothing) {
  SaveSteps(3);
  EXPECT_EQ(Run({"retention", "set", "team/r", "--keep-all"}).exit_status, 0);
  const std::string file = daemon().data_folder() + "/RETENTION";
  std::ifstream in(file, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  ASSERT_GT(bytes.size(), 25u);
  bytes[25] = static_cast<char>(bytes[25] ^ 1);
  daemon().Kill();
  std::ofstream(file, std::ios::binary) << bytes;
  CKPT_ASSERT_OK(daemon().Restart({"--keep-last=1"}));
  EXPECT_THAT(Run({"status"}).output, HasSubstr("OFF: the file of policies is damaged"));
  EXPECT_THAT(Run({"retention", "show", "team/r"}).errors, HasSubstr("ckptctl retention confirm"));
  daemon().Kill();
  std::filesystem::remove(file);
  CKPT_ASSERT_OK(daemon().Restart({"--keep-last=1"}));
  EXPECT_THAT(Run({"status"}).output,
              HasSubstr("OFF: the index was made anew, or policies have gone"));
  EXPECT_EQ(CommittedSteps("team/r").size(), 3u);
  EXPECT_EQ(Run({"retention", "set", "team/r", "--keep-last=2", "--yes"}).exit_status, 0);
  EXPECT_EQ(Run({"retention", "confirm"}).exit_status, 0);
  CKPT_EXPECT_OK(Eventually("one goes", [&] { return CommittedSteps("team/r").size() == 2; }));
}

TEST_F(CkptctlRetention, WrongOnesAreRefusedWithTheReason) {
  SaveSteps(1);
  EXPECT_EQ(Run({"retention", "set", "team/r"}).exit_status, 2);
  EXPECT_EQ(Run({"retention", "set", "team/r", "--keep-all", "--keep-last=1"}).exit_status, 2);
  const CommandResult zero = Run({"retention", "set", "team/r", "--keep-last=0"});
  EXPECT_EQ(zero.exit_status, 2);
  EXPECT_THAT(zero.errors, HasSubstr("--keep-last: expected a number from 1"));
  EXPECT_THAT(Run({"retention", "plan", "team/r", "--keep-best=loss"}).errors,
              HasSubstr("--keep-best: expected METRIC:min:N"));
  EXPECT_EQ(Run({"retention", "show", "../r"}).exit_status, 2);
  const CommandResult unknown = Run({"retention", "plan", "team/rr"});
  EXPECT_EQ(unknown.exit_status, 3);
  EXPECT_THAT(unknown.errors, HasSubstr("team/r"));
}

TEST_F(CkptctlRetention, PinsAndMetricsAreShownAndCount) {
  SaveSteps(4);
  EXPECT_EQ(Run({"checkpoint", "pin", "team/r@1"}).exit_status, 0);
  EXPECT_EQ(Run({"checkpoint", "rm", "team/r@1", "--yes"}).exit_status, 5);
  const Json annotated = RunJson({"checkpoint", "annotate", "team/r@2", "eval/loss=0.25",
                                  "acc=1", "--note", "the good one"});
  EXPECT_EQ(annotated["metrics"]["eval/loss"], 0.25);
  EXPECT_EQ(Run({"checkpoint", "annotate", "team/r@2", "--remove", "acc"}).exit_status, 0);
  EXPECT_EQ(Run({"checkpoint", "annotate", "team/r@2", "--remove", "acc"}).exit_status, 3);
  EXPECT_EQ(Run({"checkpoint", "annotate", "team/r@2", "acc=much"}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "annotate", "team/r@2", "acc=1e999"}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "annotate", "team/r@2"}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "pin", "team/r@9"}).exit_status, 3);
  const CommandResult shown = Run({"checkpoint", "show", "team/r@2"});
  EXPECT_THAT(shown.output, HasSubstr("eval/loss=0.25"));
  EXPECT_THAT(shown.output, HasSubstr("the good one"));
  EXPECT_THAT(Run({"checkpoint", "ls", "team/r"}).output, HasSubstr("(pinned)"));
  EXPECT_EQ(RunJson({"checkpoint", "ls", "team/r"})[3]["pinned"], true);
  EXPECT_EQ(RunJson({"checkpoint", "ls", "team/r"})[2]["metrics"]["eval/loss"], 0.25);

  EXPECT_EQ(Run({"retention", "set", "team/r", "--keep-best=eval/loss:min:1", "-y"}).exit_status,
            0);
  CKPT_EXPECT_OK(Eventually("step 3 goes", [&] {
    return CommittedSteps("team/r") == std::vector<uint64_t>{4, 2, 1};
  }));
  EXPECT_EQ(Run({"checkpoint", "unpin", "team/r@1"}).exit_status, 0);
  CKPT_EXPECT_OK(Eventually("step 1 goes", [&] {
    return CommittedSteps("team/r") == std::vector<uint64_t>{4, 2};
  }));
}

}  // namespace
}  // namespace ckpt::testing
