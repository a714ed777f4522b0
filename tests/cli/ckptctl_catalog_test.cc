// Looking at runs and checkpoints, tagging and removing them, and the daemon itself.
#include <signal.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/key.h"
#include "tests/cli/ckptctl_fixture.h"
#include "tests/integration/rank_process.h"

namespace ckpt::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(Ckptctl, ListsRunsCheckpointsAndTensors) {
  CommandResult empty = Run({"run", "ls"});
  EXPECT_EQ(empty.exit_status, 0);
  EXPECT_THAT(empty.output, HasSubstr("no runs"));
  const TestState state = TestState::Mixed(1);
  const Incarnation launch = Incarnation::TimeOrdered();
  CKPT_ASSERT_OK(SaveCommitted({"team/run", 100, launch}, state, 2));
  CKPT_ASSERT_OK(SaveCommitted({"team/run", 200, launch}, state, 2));
  CKPT_ASSERT_OK(SaveCommitted(NewId("other", 5), state, 1));

  const Json runs = RunJson({"run", "ls"});
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(RunJson({"run", "ls", "team/"}).size(), 1u);
  EXPECT_EQ(Run({"run", "ls", "zzz"}).output, "no run begins with 'zzz'\n");
  const Json list = RunJson({"checkpoint", "ls", "team/run"});
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0]["step"], 200);
  EXPECT_EQ(list[1]["step"], 100);
  EXPECT_EQ(list[0]["state"], "COMMITTED");
  EXPECT_EQ(list[0]["world_size"], 2);
  EXPECT_EQ(list[0]["incarnation"], launch.hex());
  EXPECT_EQ(RunJson({"checkpoint", "ls", "team/run", "--limit", "1"}).size(), 1u);
  const CommandResult table = Run({"checkpoint", "ls", "team/run"});
  EXPECT_THAT(table.output, HasSubstr("STEP"));
  EXPECT_THAT(table.output, HasSubstr("COMMITTED"));

  const Json shown = RunJson({"checkpoint", "show", "team/run@latest"});
  EXPECT_EQ(shown["step"], 200);
  EXPECT_EQ(shown["parts"].size(), 2u);
  EXPECT_FALSE(shown["parts"][0]["disk_files"].empty());
  EXPECT_THAT(Run({"checkpoint", "show", "team/run@100"}).output, HasSubstr("team/run@100"));

  const Json tensors = RunJson({"tensor", "ls", "team/run@latest"});
  EXPECT_EQ(tensors.size(), state.tensors.size() + 1 + 3);  // one tensor and the note: per rank
  const Json layers = RunJson(
      {"tensor", "ls", "team/run@latest", "--include", "model.**", "-x", "model.layers.**"});
  std::vector<std::string> keys;
  for (const Json& tensor : layers) keys.push_back(tensor["key"]);
  EXPECT_THAT(keys, ::testing::UnorderedElementsAre("model.embedding.weight", "model.norm.bias",
                                                    "model.mask", "model.phase"));
  const Json value = RunJson({"tensor", "ls", "team/run@latest", "-i", "step_seed"});
  ASSERT_EQ(value.size(), 1u);
  EXPECT_EQ(value[0]["value"], 1);
}

TEST_F(Ckptctl, AListOfManyPagesIsWhole) {
  constexpr size_t kLeaves = 2500;  // a page has 1000
  Part part;
  for (size_t i = 0; i < kLeaves; ++i) {
    v1::Value value;
    value.set_integer(static_cast<int64_t>(i));
    part.leaves.push_back(
        ValueLeaf(MakeKey({absl::StrCat("v", i)}), value, v1::PLACEMENT_REPLICATED));
  }
  const auto client = Connect();
  absl::StatusOr<SaveHandle> save = client->Save(NewId("run", 1), std::move(part), {});
  ASSERT_TRUE(save.ok()) << save.status();
  CKPT_ASSERT_OK(save->AwaitCommitted(absl::Seconds(60)));
  ASSERT_EQ(Run({"checkpoint", "tag", "run@1", "best"}).exit_status, 0);
  for (const char* name : {"run@1", "run@latest", "run@latest-valid", "run@best"}) {
    const CommandResult lines = Run({"-o", "jsonl", "tensor", "ls", name});
    EXPECT_EQ(lines.exit_status, 0) << name << ": " << lines.errors;
    std::set<std::string> keys;
    for (const absl::string_view line : absl::StrSplit(lines.output, '\n', absl::SkipEmpty())) {
      keys.insert(Json::parse(std::string(line))["key"]);
    }
    EXPECT_EQ(keys.size(), kLeaves) << name;
    const CommandResult table = Run({"tensor", "ls", name, "-i", "v*"});
    EXPECT_EQ(table.exit_status, 0) << name << ": " << table.errors;
    const std::vector<std::string> rows = absl::StrSplit(table.output, '\n', absl::SkipEmpty());
    EXPECT_EQ(rows.size(), kLeaves + 2) << name;
    EXPECT_EQ(rows.back(), "0 tensors and 2500 values, 0 B") << name;
  }
}

TEST_F(Ckptctl, TensorsThatShareStorageNameTheOneThatHasIt) {
  const std::vector<float> weights(64, 0.5f);
  Part part;
  for (const char* name : {"embedding", "lm_head"}) {
    part.leaves.push_back(TensorLeaf(MakeKey({"model", name, "weight"}), v1::DTYPE_F32, {8, 8},
                                     weights.data(), v1::PLACEMENT_REPLICATED));
  }
  part.leaves[1].alias_of_plus_one = 1;
  const auto client = Connect();
  absl::StatusOr<SaveHandle> save = client->Save(NewId("tied", 1), std::move(part), {});
  ASSERT_TRUE(save.ok()) << save.status();
  CKPT_ASSERT_OK(save->AwaitCommitted(absl::Seconds(60)));
  const Json tensors = RunJson({"tensor", "ls", "tied@1"});
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0]["is_alias"], false);
  EXPECT_FALSE(tensors[0].contains("alias_of"));
  EXPECT_EQ(tensors[1]["is_alias"], true);
  EXPECT_EQ(tensors[1]["alias_of"], "model.embedding.weight");
  EXPECT_EQ(tensors[1]["data_bytes"], 256);
  const CommandResult table = Run({"tensor", "ls", "tied@1"});
  const std::vector<std::string> rows = absl::StrSplit(table.output, '\n', absl::SkipEmpty());
  ASSERT_EQ(rows.size(), 4u) << table.output;
  EXPECT_THAT(rows[2], ::testing::StartsWith("model.lm_head.weight"));
  EXPECT_THAT(rows[2], HasSubstr("alias"));
  EXPECT_THAT(rows[2], ::testing::EndsWith("= model.embedding.weight"));
  EXPECT_EQ(rows[3], "2 tensors, 256 B");
}

TEST_F(Ckptctl, JsonLinesAreOneObjectEach) {
  const Incarnation launch = Incarnation::TimeOrdered();
  for (uint64_t step = 1; step <= 3; ++step) {
    CKPT_ASSERT_OK(SaveCommitted({"run", step, launch}, TestState::Plain(step, 100), 1));
  }
  const CommandResult result = Run({"-o", "jsonl", "checkpoint", "ls", "run"});
  const std::vector<std::string> lines = absl::StrSplit(result.output, '\n', absl::SkipEmpty());
  ASSERT_EQ(lines.size(), 3u);
  for (const std::string& line : lines) EXPECT_TRUE(Json::parse(line, nullptr, false).is_object());
}

TEST_F(Ckptctl, UnknownNamesAreNotFoundAndTheNearestIsNamed) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("team/llama", 100), TestState::Plain(1, 100), 1));
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"checkpoint", "ls", "team/lama"},
           {"checkpoint", "show", "team/lama@latest"},
           {"checkpoint", "verify", "team/lama@100"},
           {"tensor", "ls", "team/lama@100"},
           {"checkpoint", "export", "team/lama@100", folder_ / "out"}}) {
    const CommandResult result = Run(words);
    EXPECT_EQ(result.exit_status, 3) << words[1];
    EXPECT_THAT(result.errors, HasSubstr("team/llama")) << words[1];
  }
  EXPECT_EQ(Run({"checkpoint", "wait", "team/llama@7"}).exit_status, 3);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
}

TEST_F(Ckptctl, TheTypeOfAValueIsSaid) {
  std::map<std::string, v1::Value> values;
  values["boolean"].set_boolean(true);
  values["bytes"].set_raw("ab");
  values["integer"].set_integer(1);
  values["nan"].set_real(std::nan(""));
  values["null"].mutable_null();
  values["real"].set_real(1);
  values["string"].set_text("base64:YWI=");
  Part part;
  for (const auto& [name, value] : values) {
    part.leaves.push_back(ValueLeaf(MakeKey({name}), value, v1::PLACEMENT_REPLICATED));
  }
  const auto client = Connect();
  absl::StatusOr<SaveHandle> save = client->Save(NewId("run", 1), std::move(part), {});
  ASSERT_TRUE(save.ok()) << save.status();
  CKPT_ASSERT_OK(save->AwaitCommitted(absl::Seconds(60)));
  const Json listed = RunJson({"tensor", "ls", "run@1"});
  ASSERT_EQ(listed.size(), values.size());
  for (const Json& value : listed) {
    EXPECT_EQ(value["value_type"], value["key"] == "nan" ? Json("real") : value["key"]);
  }
  EXPECT_EQ(listed[1]["value"], listed[6]["value"]);  // what the type tells apart
}

TEST_F(Ckptctl, TagsMoveAndGo) {
  const Incarnation launch = Incarnation::TimeOrdered();
  CKPT_ASSERT_OK(SaveCommitted({"run", 1, launch}, TestState::Plain(1, 100), 1));
  CKPT_ASSERT_OK(SaveCommitted({"run", 2, launch}, TestState::Plain(2, 100), 1));
  EXPECT_EQ(Run({"checkpoint", "tag", "run@1", "best", "paper"}).exit_status, 0);
  EXPECT_EQ(RunJson({"checkpoint", "show", "run@best"})["step"], 1);
  EXPECT_EQ(Run({"checkpoint", "tag", "run@2", "best"}).exit_status, 0);
  EXPECT_EQ(RunJson({"checkpoint", "show", "run@best"})["step"], 2);
  EXPECT_THAT(RunJson({"checkpoint", "show", "run@1"})["tags"], ElementsAre("paper"));
  EXPECT_EQ(Run({"checkpoint", "tag", "run@paper", "--remove", "paper"}).exit_status, 0);
  EXPECT_EQ(Run({"checkpoint", "show", "run@paper"}).exit_status, 3);
  EXPECT_EQ(Run({"checkpoint", "tag", "run@1", "latest"}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "tag", "run@1", "../x"}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "tag", "run@1"}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "tag", "run@1", "--", "-f"}).exit_status, 2);
}

TEST_F(Ckptctl, ATagThatIsNotThereIsNotTakenOff) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Plain(1, 100), 1));
  ASSERT_EQ(Run({"checkpoint", "tag", "run@1", "best"}).exit_status, 0);
  const CommandResult none = Run({"checkpoint", "tag", "run@1", "new", "-r", "best", "-r", "nope"});
  EXPECT_EQ(none.exit_status, 3);
  EXPECT_THAT(none.errors, HasSubstr("no such tag 'nope' on run@1"));
  EXPECT_THAT(RunJson({"checkpoint", "show", "run@1"})["tags"], ElementsAre("best"));
}

TEST_F(Ckptctl, RemovingNeedsAYes) {
  const Incarnation launch = Incarnation::TimeOrdered();
  CKPT_ASSERT_OK(SaveCommitted({"run", 1, launch}, TestState::Plain(1, 100), 1));
  CKPT_ASSERT_OK(SaveCommitted({"run", 2, launch}, TestState::Plain(2, 100), 1));
  const CommandResult refused = Run({"checkpoint", "rm", "run@1"});
  EXPECT_EQ(refused.exit_status, 5);
  EXPECT_THAT(refused.errors, HasSubstr("--yes"));
  // One unknown name: none of them goes.
  EXPECT_EQ(Run({"checkpoint", "rm", "run@1", "run@77", "--yes"}).exit_status, 3);
  EXPECT_EQ(RunJson({"checkpoint", "ls", "run"}).size(), 2u);
  EXPECT_EQ(Run({"checkpoint", "rm", "run@latest", "-y"}).exit_status, 0);
  const Json left = RunJson({"checkpoint", "ls", "run"});
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0]["step"], 1);
}

TEST_F(Ckptctl, ThePersonAtTheTerminalIsAsked) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Plain(1, 100), 1));
  for (const char* answer : {"n\n", "y\n"}) {
    Terminal terminal;
    ASSERT_GE(terminal.far_end(), 0);
    const std::string errors = folder_ / "asked";
    std::filesystem::remove(errors);
    ASSERT_TRUE(terminal.Type(answer));
    const absl::StatusOr<pid_t> pid =
        Spawn({.arguments = {BuiltBinary("ckptctl"), "checkpoint", "rm", "run@1", "--socket",
                             daemon().socket()},
               .errors = errors,
               .input = terminal.far_end()});
    ASSERT_TRUE(pid.ok()) << pid.status();
    const absl::StatusOr<int> status = AwaitProcess(*pid, absl::Seconds(60));
    ASSERT_TRUE(status.ok()) << status.status();
    EXPECT_EQ(*status, answer[0] == 'y' ? 0 : 5);
    EXPECT_THAT(ReadWholeFile(errors), HasSubstr("delete run@1"));
  }
  EXPECT_EQ(Run({"checkpoint", "show", "run@1"}).exit_status, 3);
}

TEST_F(Ckptctl, WaitAndWatch) {
  const CheckpointId id = NewId("run", 1);
  absl::StatusOr<std::unique_ptr<RankProcess>> rank = RankProcess::Start(daemon().socket());
  ASSERT_TRUE(rank.ok()) << rank.status();
  CKPT_ASSERT_OK((*rank)->Save({.id = id, .hold_at = 100}));
  CKPT_ASSERT_OK((*rank)->AwaitHeld());
  EXPECT_EQ(Run({"checkpoint", "wait", "run@1", "--timeout", "200ms"}).exit_status, 7);
  const std::string output = folder_ / "watched";
  const absl::StatusOr<pid_t> watcher =
      Spawn({.arguments = {BuiltBinary("ckptctl"), "checkpoint", "watch", "run", "-o", "jsonl",
                           "--socket", daemon().socket()},
             .output = output});
  ASSERT_TRUE(watcher.ok()) << watcher.status();
  CKPT_EXPECT_OK(Eventually("the snapshot is printed",
                            [&] { return absl::StrContains(ReadWholeFile(output), "WRITING"); }));
  CKPT_ASSERT_OK((*rank)->Release());
  const CommandResult waited = Run({"checkpoint", "wait", "run@1", "-o", "json"});
  EXPECT_EQ(waited.exit_status, 0) << waited.errors;
  EXPECT_EQ(Json::parse(waited.output, nullptr, false)["state"], "COMMITTED");
  CKPT_EXPECT_OK(Eventually("the change is printed",
                            [&] { return absl::StrContains(ReadWholeFile(output), "COMMITTED"); }));
  kill(*watcher, SIGTERM);
  EXPECT_TRUE(AwaitProcess(*watcher, absl::Seconds(60)).ok());
  EXPECT_EQ(Run({"checkpoint", "watch", "run", "--once"}).exit_status, 0);
  EXPECT_EQ(Run({"checkpoint", "watch", "run", "--timeout", "200ms"}).exit_status, 7);
}

TEST_F(Ckptctl, WaitOnAnAbortedOneTellsTheReason) {
  const auto client = Connect();
  absl::StatusOr<SaveHandle> save =
      client->Save(NewId("run", 1), MakeTestPart(TestState::Plain(1, 100), 0, 2),
                   {.join_deadline = absl::Milliseconds(100)});
  ASSERT_TRUE(save.ok());
  EXPECT_TRUE(absl::IsAborted(save->AwaitCommitted(absl::Seconds(60))));
  const CommandResult waited = Run({"checkpoint", "wait", "run@1"});
  EXPECT_EQ(waited.exit_status, 8) << waited.errors;
  EXPECT_THAT(waited.errors, HasSubstr("1"));
  EXPECT_EQ(RunJson({"checkpoint", "ls", "run", "--all"}).size(), 1u);
}

TEST_F(Ckptctl, HealthStatusAndDrain) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Mixed(1), 2));
  EXPECT_EQ(Run({"health"}).exit_status, 0);
  const Json status = RunJson({"status"});
  EXPECT_EQ(status["committed_checkpoints"], 1);
  EXPECT_EQ(status["process_id"], daemon().pid());
  EXPECT_EQ(status["draining"], false);
  EXPECT_THAT(Run({"status"}).output, HasSubstr(daemon().data_folder()));
  EXPECT_THAT(Run({"status"}).output,
              HasSubstr(status["huge_pages"] ? "(huge pages)" : "(no huge pages)"));
  EXPECT_THAT(Run({"drain", "--deadline", "0s"}).errors, HasSubstr("greater than 0"));
  EXPECT_EQ(Run({"drain", "--deadline", "20s"}).exit_status, 0);
  EXPECT_EQ(RunJson({"status"})["draining"], true);
  for (SaveHandle& save : StartSaves(NewId("refused", 1), TestState::Plain(1, 100), 1)) {
    EXPECT_EQ(save.AwaitStaged(absl::Seconds(60)).code(), absl::StatusCode::kUnavailable)
        << save.status();
  }
  EXPECT_EQ(Run({"drain", "--resume"}).exit_status, 0);
  CKPT_EXPECT_OK(SaveCommitted(NewId("again", 1), TestState::Plain(1, 100), 1));
}

}  // namespace
}  // namespace ckpt::testing
