// ckptctl as people and scripts use it: the real binary against the real daemon.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/safetensors.h"
#include "nlohmann/json.hpp"
#include "tests/fixtures/process.h"
#include "tests/integration/integration_test.h"
#include "tests/integration/rank_process.h"

namespace ckpt::testing {
namespace {

using Json = nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A terminal of the test's own: programs hold its far end, the test types and looks.
class Terminal {
 public:
  Terminal() : near_end_(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    if (near_end_ < 0 || grantpt(near_end_) != 0 || unlockpt(near_end_) != 0) return;
    far_end_ = open(ptsname(near_end_), O_RDWR | O_NOCTTY | O_CLOEXEC);
  }
  ~Terminal() {
    close(far_end_);
    close(near_end_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  int far_end() const { return far_end_; }  // -1: there are no terminals here
  bool Type(const std::string& text) {
    return write(near_end_, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  }
  // All that was printed on it, once its programs have ended.
  std::string Printed() {
    close(std::exchange(far_end_, -1));
    std::string text;
    char some[4096];
    for (ssize_t got; (got = read(near_end_, some, sizeof(some))) > 0;) text.append(some, got);
    return text;
  }

 private:
  const int near_end_;
  int far_end_ = -1;
};

class Ckptctl : public IntegrationTest {
 protected:
  CommandResult Run(std::vector<std::string> words, absl::Duration timeout = absl::Seconds(60)) {
    words.insert(words.begin(), BuiltBinary("ckptctl"));
    absl::StatusOr<CommandResult> result =
        RunCommand(words, {{"CKPTD_SOCKET", daemon().socket()}}, timeout);
    EXPECT_TRUE(result.ok()) << result.status();
    return *std::move(result);
  }
  Json RunJson(std::vector<std::string> words) {
    words.insert(words.end(), {"-o", "json"});
    const CommandResult result = Run(words);
    EXPECT_EQ(result.exit_status, 0) << result.errors;
    Json json = Json::parse(result.output, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << result.output;
    return json;
  }
  // Checks a safetensors file as any reader would: header, then the bytes of each tensor.
  void CheckFile(const std::string& path, const TestState& state,
                 std::map<std::string, std::string>& found) {
    const std::string bytes = ReadWholeFile(path);
    const auto region = SafetensorsRegionBytes(bytes.substr(0, 8), bytes.size());
    ASSERT_TRUE(region.ok()) << region.status();
    const auto header = ParseSafetensorsHeader(bytes.substr(0, *region), bytes.size());
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->metadata.at("format"), "pt");
    EXPECT_EQ(header->metadata.at("ckptd.step"), "100");
    for (const SafetensorsTensor& tensor : header->tensors) {
      found[tensor.name] = bytes.substr(*region + tensor.begin, tensor.end - tensor.begin);
    }
    EXPECT_FALSE(state.tensors.empty());
  }
  void CheckTensors(const TestState& state, uint32_t ranks,
                    const std::map<std::string, std::string>& found) {
    size_t expected = 0;
    for (const TestTensor& tensor : state.tensors) {
      const bool own = tensor.placement == v1::PLACEMENT_PER_RANK && ranks > 1;
      for (uint32_t rank = 0; rank < (own ? ranks : 1); ++rank) {
        const std::string name = own ? absl::StrCat(tensor.key, ".rank", rank) : tensor.key;
        ASSERT_TRUE(found.contains(name)) << name;
        EXPECT_TRUE(found.at(name) == TestBytes(state, tensor, rank, Box::Whole(tensor.shape)))
            << name << " differs";
        ++expected;
      }
    }
    EXPECT_EQ(found.size(), expected);
  }
  ScratchFolder folder_;
};

TEST_F(Ckptctl, HelpOfEveryVerb) {
  const CommandResult general = Run({"--help"});
  EXPECT_EQ(general.exit_status, 0);
  EXPECT_THAT(general.output, HasSubstr("Exit codes:"));
  for (const char* verb :
       {"run ls", "checkpoint ls", "checkpoint show", "checkpoint wait", "checkpoint watch",
        "checkpoint tag", "checkpoint rm", "checkpoint export", "checkpoint import",
        "checkpoint verify", "tensor ls", "health", "status", "drain"}) {
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

TEST_F(Ckptctl, WrongCommandLines) {
  EXPECT_EQ(Run({}).exit_status, 2);
  const CommandResult unknown = Run({"checkpoint", "lst"});
  EXPECT_EQ(unknown.exit_status, 2);
  EXPECT_THAT(unknown.errors, HasSubstr("checkpoint ls"));
  EXPECT_THAT(Run({"checkpoint"}).errors, HasSubstr("needs a verb"));
  EXPECT_EQ(Run({"checkpoint", "show", "no-at-sign"}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "show", "../../etc@1"}).exit_status, 2);
  EXPECT_EQ(Run({"run", "ls", "-o", "yaml"}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "ls", "run@1"}).exit_status, 2);
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

TEST_F(Ckptctl, ThePersonAtTheTerminalSeesABarAndAFileDoesNot) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Plain(1, 3 << 20), 1));
  const std::string out = folder_ / "out.safetensors";
  for (const auto& verb :
       std::vector<std::vector<std::string>>{{"verify", "run@1"}, {"export", "run@1", out}}) {
    SCOPED_TRACE(verb[0]);
    std::vector<std::string> words = {"checkpoint"};
    words.insert(words.end(), verb.begin(), verb.end());
    const CommandResult quiet = Run(words);
    EXPECT_EQ(quiet.exit_status, 0) << quiet.errors;
    EXPECT_EQ(quiet.errors, "");
    std::filesystem::remove(out);

    Terminal terminal;
    ASSERT_GE(terminal.far_end(), 0);
    words.insert(words.begin(), BuiltBinary("ckptctl"));
    words.insert(words.end(), {"--socket", daemon().socket()});
    const std::string output = folder_ / verb[0];
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
                ::testing::ContainsRegex("run@1 \\[#*\\.*\\] +[0-9]+%  .* of 3\\.0 MiB  .*/s"));
    // What programs read is the same as without a terminal.
    EXPECT_EQ(ReadWholeFile(output), quiet.output);
  }
}

TEST_F(Ckptctl, VerifyFindsDamageAndNamesIt) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Plain(1, 3 << 20), 1));
  const CommandResult good = Run({"checkpoint", "verify", "run@1"});
  EXPECT_EQ(good.exit_status, 0) << good.errors;
  EXPECT_THAT(good.output, HasSubstr("valid"));
  for (const std::string& name : daemon().DataFiles()) {
    if (!name.ends_with(".safetensors")) continue;
    std::fstream file(daemon().data_folder() + "/" + name,
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-5, std::ios::end);
    file.write("!!!", 3);
  }
  const CommandResult damaged = Run({"checkpoint", "verify", "run@1"});
  EXPECT_EQ(damaged.exit_status, 6) << damaged.errors;
  EXPECT_THAT(damaged.output, HasSubstr("data"));
  EXPECT_THAT(damaged.output, HasSubstr(".safetensors"));
  // What comes after it cannot hide it.
  const CommandResult both = Run({"checkpoint", "verify", "run@1", "run@77", "-o", "json"});
  EXPECT_EQ(both.exit_status, 6) << both.errors;
  EXPECT_THAT(both.errors, HasSubstr("77"));
  const Json found = Json::parse(both.output, nullptr, false);
  ASSERT_EQ(found.size(), 1u) << both.output;
  EXPECT_EQ(found[0]["valid"], false);
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
  EXPECT_THAT(Run({"health"}).output, HasSubstr("SERVING"));
  const Json status = RunJson({"status"});
  EXPECT_EQ(status["committed_checkpoints"], 1);
  EXPECT_EQ(status["process_id"], daemon().pid());
  EXPECT_EQ(status["draining"], false);
  EXPECT_THAT(Run({"status"}).output, HasSubstr(daemon().data_folder()));
  EXPECT_EQ(Run({"drain", "--deadline", "20s"}).exit_status, 0);
  EXPECT_EQ(RunJson({"status"})["draining"], true);
  for (SaveHandle& save : StartSaves(NewId("refused", 1), TestState::Plain(1, 100), 1)) {
    EXPECT_EQ(save.AwaitStaged(absl::Seconds(60)).code(), absl::StatusCode::kUnavailable)
        << save.status();
  }
  EXPECT_EQ(Run({"drain", "--resume"}).exit_status, 0);
  CKPT_EXPECT_OK(SaveCommitted(NewId("again", 1), TestState::Plain(1, 100), 1));
}

TEST_F(Ckptctl, ExportsOneFile) {
  const TestState state = TestState::Mixed(3, 3 << 20);
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 100), state, 3));
  const std::string out = folder_ / "out.safetensors";
  const CommandResult result = Run({"checkpoint", "export", "run@latest", out});
  ASSERT_EQ(result.exit_status, 0) << result.errors;
  std::map<std::string, std::string> found;
  CheckFile(out, state, found);
  CheckTensors(state, 3, found);
  const std::string values = ReadWholeFile(out).substr(0, 20000);
  EXPECT_THAT(values, HasSubstr("step_seed"));
  // Never over what is there, unless told.
  EXPECT_EQ(Run({"checkpoint", "export", "run@100", out}).exit_status, 5);
  EXPECT_EQ(
      Run({"checkpoint", "export", "run@100", out, "--force", "-i", "model.mask"}).exit_status, 0);
  found.clear();
  CheckFile(out, state, found);
  EXPECT_EQ(found.size(), 1u);
}

TEST_F(Ckptctl, AnExportOfNothingIsNotFound) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 100), TestState::Mixed(1), 1));
  for (const std::string& out : {folder_ / "file", folder_ / "folder/"}) {
    const CommandResult result =
        Run({"checkpoint", "export", "run@100", out, "--include", "modle.**"});
    EXPECT_EQ(result.exit_status, 3) << result.errors;
    EXPECT_THAT(result.errors, HasSubstr("--include"));
    EXPECT_THAT(result.errors, HasSubstr("run@100"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(Ckptctl, ExportsAFolderOfShardsWithAnIndex) {
  const TestState state = TestState::Mixed(3, 3 << 20);
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 100), state, 2));
  const std::string out = folder_ / "model";
  const CommandResult result =
      Run({"checkpoint", "export", "run@100", out, "--shard-size", "512KiB"});
  ASSERT_EQ(result.exit_status, 0) << result.errors;
  const Json index =
      Json::parse(ReadWholeFile(out + "/model.safetensors.index.json"), nullptr, false);
  ASSERT_TRUE(index.is_object());
  std::map<std::string, std::string> all;
  std::set<std::string> files;
  uint64_t bytes = 0;
  for (const auto& [tensor, file] : index["weight_map"].items()) files.insert(file);
  EXPECT_GT(files.size(), 2u);
  for (const std::string& file : files) {
    std::map<std::string, std::string> found;
    CheckFile(out + "/" + file, state, found);
    for (const auto& [name, data] : found) {
      EXPECT_EQ(index["weight_map"][name], file);
      bytes += data.size();
    }
    all.merge(found);
  }
  EXPECT_EQ(index["metadata"]["total_size"], bytes);
  CheckTensors(state, 2, all);
  EXPECT_EQ(Run({"checkpoint", "export", "run@100", out}).exit_status, 5);  // not empty
  // Cut otherwise: the files of the first export are gone.
  EXPECT_EQ(Run({"checkpoint", "export", "run@100", out, "--force"}).exit_status, 0);
  EXPECT_TRUE(std::filesystem::exists(out + "/model-00001-of-00001.safetensors"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(out), {}), 2);
}

TEST_F(Ckptctl, AnExportThatFailsLeavesNothingBehind) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 100), TestState::Plain(1, 3 << 20), 1));
  DropClients();
  daemon().Kill();
  std::filesystem::remove_all(daemon().memory_folder());
  for (const std::string& name : daemon().DataFiles()) {
    if (!name.ends_with(".safetensors")) continue;
    std::fstream file(daemon().data_folder() + "/" + name,
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-5, std::ios::end);
    file.write("!!!", 3);
  }
  CKPT_ASSERT_OK(daemon().Restart());
  for (const std::string& out : {folder_ / "file", folder_ / "folder/"}) {
    const CommandResult result = Run({"checkpoint", "export", "run@100", out});
    EXPECT_EQ(result.exit_status, 6) << result.errors;
    EXPECT_THAT(result.errors, HasSubstr("data"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
  EXPECT_EQ(Run({"checkpoint", "export", "run@100", folder_ / "no/such/folder/x"}).exit_status, 3);
}

TEST_F(Ckptctl, ImportsWhatItExported) {
  const TestState state = TestState::Mixed(5, 2 << 20);
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 100), state, 1));
  const std::string out = folder_ / "model";
  ASSERT_EQ(Run({"checkpoint", "export", "run@100", out, "--shard-size=256KiB"}).exit_status, 0);
  const CommandResult imported = Run({"checkpoint", "import", "base/model@7", out, "-o", "json"});
  ASSERT_EQ(imported.exit_status, 0) << imported.errors;
  EXPECT_EQ(Json::parse(imported.output, nullptr, false)["tensor_count"], state.tensors.size());
  const Json shown = RunJson({"checkpoint", "show", "base/model@latest"});
  EXPECT_EQ(shown["state"], "COMMITTED");
  EXPECT_EQ(shown["world_size"], 1);
  // Back out again: the same bytes under the same names.
  ASSERT_EQ(Run({"checkpoint", "export", "run@100", folder_ / "a"}).exit_status, 0);
  ASSERT_EQ(Run({"checkpoint", "export", "base/model@7", folder_ / "b"}).exit_status, 0);
  std::map<std::string, std::string> tensors[2];
  for (int i = 0; i < 2; ++i) {
    const std::string bytes = ReadWholeFile(folder_ / (i == 0 ? "a" : "b"));
    const auto region = SafetensorsRegionBytes(bytes.substr(0, 8), bytes.size());
    ASSERT_TRUE(region.ok()) << region.status();
    const auto header = ParseSafetensorsHeader(bytes.substr(0, *region), bytes.size());
    ASSERT_TRUE(header.ok()) << header.status();
    for (const auto& t : header->tensors) {
      tensors[i][t.name] = bytes.substr(*region + t.begin, t.end - t.begin);
    }
  }
  EXPECT_EQ(tensors[0].size(), state.tensors.size());
  EXPECT_TRUE(tensors[0] == tensors[1]);
  const Json values = RunJson({"tensor", "ls", "base/model@7", "-i", "__metadata__.format"});
  ASSERT_EQ(values.size(), 1u);
  EXPECT_EQ(values[0]["value"], "pt");
  // The step exists now.
  EXPECT_EQ(Run({"checkpoint", "import", "base/model@7", out}).exit_status, 5);
  EXPECT_EQ(Run({"checkpoint", "import", "base/model@7", out, "--force"}).exit_status, 0);
}

TEST_F(Ckptctl, ImportRefusesHostileFilesAndSavesNothing) {
  const std::string bad = folder_ / "bad.safetensors";
  std::ofstream(bad, std::ios::binary) << std::string(8, '\xff') << "{}";
  const CommandResult result = Run({"checkpoint", "import", "run@1", bad});
  EXPECT_EQ(result.exit_status, 2) << result.errors;
  EXPECT_THAT(result.errors, HasSubstr(bad));
  const std::string truncated = folder_ / "truncated.safetensors";
  const std::string json = R"({"a":{"dtype":"U8","shape":[400],"data_offsets":[0,400]}})";
  std::ofstream(truncated, std::ios::binary)
      << std::string(1, static_cast<char>(json.size())) << std::string(7, '\0') << json << "short";
  EXPECT_EQ(Run({"checkpoint", "import", "run@1", truncated}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "import", "run@1", folder_ / "none"}).exit_status, 3);
  EXPECT_EQ(Run({"checkpoint", "import", "../evil@1", bad}).exit_status, 2);
  EXPECT_EQ(Run({"checkpoint", "import", "run@latest", bad}).exit_status, 2);
  EXPECT_THAT(Run({"run", "ls"}).output, HasSubstr("no runs"));
}

TEST_F(Ckptctl, ImportDoesNotDisturbATrainerUnasked) {
  absl::StatusOr<std::unique_ptr<RankProcess>> rank = RankProcess::Start(daemon().socket());
  ASSERT_TRUE(rank.ok()) << rank.status();
  CKPT_ASSERT_OK((*rank)->Save({.id = NewId("run", 5), .hold_at = 100}));
  CKPT_ASSERT_OK((*rank)->AwaitHeld());
  const std::string json = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  const std::string file = folder_ / "a.safetensors";
  std::ofstream(file, std::ios::binary)
      << std::string(1, static_cast<char>(json.size())) << std::string(7, '\0') << json << "abcd";
  const CommandResult refused = Run({"checkpoint", "import", "run@1", file});
  EXPECT_EQ(refused.exit_status, 5);
  EXPECT_THAT(refused.errors, HasSubstr("run@5"));
  CKPT_ASSERT_OK((*rank)->Release());
  CKPT_EXPECT_OK((*rank)->AwaitCommitted());
}

}  // namespace
}  // namespace ckpt::testing
