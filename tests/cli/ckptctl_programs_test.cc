// What programs rely on: JSON of every verb, as one document and as lines, and exit codes.
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tests/cli/ckptctl_fixture.h"
#include "tests/integration/rank_process.h"

namespace ckpt::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class CkptctlPrograms : public Ckptctl {
 protected:
  // The records of one call with -o jsonl: each line is an object.
  std::vector<Json> RunLines(std::vector<std::string> words) {
    words.insert(words.end(), {"-o", "jsonl"});
    const CommandResult result = Run(words);
    EXPECT_EQ(result.exit_status, 0) << result.errors;
    std::vector<Json> records;
    for (absl::string_view line : absl::StrSplit(result.output, '\n', absl::SkipEmpty())) {
      records.push_back(Json::parse(line.begin(), line.end(), nullptr, false));
      EXPECT_TRUE(records.back().is_object()) << line;
    }
    return records;
  }
  // Verbs that change nothing say the same in both forms.
  void ExpectBothForms(const std::vector<std::string>& words, bool list) {
    SCOPED_TRACE(absl::StrJoin(words, " "));
    const Json document = RunJson(words);
    const std::vector<Json> lines = RunLines(words);
    ASSERT_FALSE(lines.empty());
    if (list) {
      ASSERT_TRUE(document.is_array());
      EXPECT_EQ(document.get<std::vector<Json>>(), lines);
    } else {
      ASSERT_EQ(lines.size(), 1u);
      EXPECT_EQ(document, lines[0]);
    }
  }
  // Without root's right to read and write everything.
  CommandResult RunUnprivileged(std::vector<std::string> words) {
    words.insert(words.begin(), BuiltBinary("ckptctl"));
    if (geteuid() == 0) {
      words.insert(words.begin(),
                   {"/usr/bin/setpriv", "--bounding-set=-dac_override,-dac_read_search"});
    }
    absl::StatusOr<CommandResult> result =
        RunCommand(words, {{"CKPTD_SOCKET", daemon().socket()}});
    EXPECT_TRUE(result.ok()) << result.status();
    return *std::move(result);
  }
  // A safetensors file of one U8 tensor `a`; its last bytes may be a hole.
  std::string MakeFile(const std::string& name, uint64_t tensor_bytes) {
    const std::string json = absl::StrCat(R"({"a":{"dtype":"U8","shape":[)", tensor_bytes,
                                          R"(],"data_offsets":[0,)", tensor_bytes, "]}}");
    const std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary)
        << static_cast<char>(json.size()) << std::string(7, '\0') << json;
    EXPECT_EQ(truncate(path.c_str(), static_cast<off_t>(8 + json.size() + tensor_bytes)), 0);
    return path;
  }
};

TEST_F(CkptctlPrograms, EveryVerbThatAsksSpeaksJson) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Mixed(1), 2));
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 2), TestState::Mixed(2), 2));
  ExpectBothForms({"run", "ls"}, true);
  ExpectBothForms({"checkpoint", "ls", "run"}, true);
  ExpectBothForms({"checkpoint", "show", "run@1"}, false);
  ExpectBothForms({"checkpoint", "wait", "run@1"}, false);
  ExpectBothForms({"checkpoint", "verify", "run@1", "run@2"}, true);
  ExpectBothForms({"tensor", "ls", "run@1"}, true);
  ExpectBothForms({"health"}, false);
  EXPECT_EQ(RunJson({"health"})["serving"], true);
  EXPECT_EQ(RunJson({"health"})["socket"], daemon().socket());
  const std::vector<Json> status = RunLines({"status"});
  ASSERT_EQ(status.size(), 1u);
  EXPECT_EQ(status[0]["committed_checkpoints"], 2);
}

TEST_F(CkptctlPrograms, EveryVerbThatActsSpeaksJson) {
  const Incarnation launch = Incarnation::TimeOrdered();
  for (uint64_t step = 1; step <= 3; ++step) {
    CKPT_ASSERT_OK(SaveCommitted({"run", step, launch}, TestState::Plain(step, 1000), 1));
  }
  const Json tagged = RunJson({"checkpoint", "tag", "run@latest", "best"});
  EXPECT_EQ(tagged["run"], "run");
  EXPECT_EQ(tagged["step"], 3);
  EXPECT_THAT(tagged["tags"], ElementsAre("best"));
  const std::vector<Json> moved = RunLines({"checkpoint", "tag", "run@1", "best"});
  ASSERT_EQ(moved.size(), 1u);
  EXPECT_EQ(moved[0]["step"], 1);

  for (const char* name : {"one", "two"}) {
    const std::vector<std::string> words = {"checkpoint", "export", "run@1", folder_ / name};
    const Json exported = name == std::string("one") ? RunJson(words) : RunLines(words).at(0);
    EXPECT_EQ(exported["run"], "run");
    EXPECT_EQ(exported["step"], 1);
  }
  for (uint64_t step : {7, 8}) {
    const std::vector<std::string> words = {"checkpoint", "import", absl::StrCat("base@", step),
                                            folder_ / "one"};
    const Json imported = step == 7 ? RunJson(words) : RunLines(words).at(0);
    EXPECT_EQ(imported["run"], "base");
    EXPECT_EQ(imported["step"], step);
  }

  const Json removed = RunJson({"checkpoint", "rm", "run@1", "--yes"});
  ASSERT_EQ(removed.size(), 1u);
  EXPECT_EQ(removed[0]["step"], 1);
  const std::vector<Json> both = RunLines({"checkpoint", "rm", "run@2", "run@3", "--yes"});
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[1]["step"], 3);

  const Json drained = RunJson({"drain", "--deadline", "20s"});
  EXPECT_EQ(drained["drained"], true);
  EXPECT_EQ(drained["admitting"], false);
  EXPECT_EQ(RunLines({"drain", "--resume"}).at(0)["admitting"], true);
}

TEST_F(CkptctlPrograms, HealthWhileTheDaemonDrains) {
  StartDaemon({.drain_deadline = "60s", .flags = {"--persist-delay=3s"}});
  EXPECT_EQ(Run({"health"}).exit_status, 0);
  EXPECT_THAT(Run({"health"}).output, Not(HasSubstr("NOT SERVING")));
  for (SaveHandle& save : StartSaves(NewId("run", 1), TestState::Plain(1, 1000), 1)) {
    CKPT_ASSERT_OK(save.AwaitStaged(absl::Seconds(60)));
  }
  daemon().Signal(SIGTERM);
  CKPT_ASSERT_OK(daemon().AwaitLog("no new checkpoints are admitted"));
  CommandResult health;
  CKPT_EXPECT_OK(Eventually("it serves no more", [&] {
    health = Run({"health"});
    return health.exit_status != 0;
  }));
  EXPECT_EQ(health.exit_status, 4) << health.errors;
  EXPECT_THAT(health.output, HasSubstr("NOT SERVING")) << health.errors;
  const absl::StatusOr<int> exited = daemon().AwaitExit();
  ASSERT_TRUE(exited.ok()) << exited.status();
  EXPECT_EQ(*exited, 0);
}

TEST_F(CkptctlPrograms, UnavailableSaysWhetherTheDaemonIsThere) {
  StartDaemon({.drain_deadline = "1s", .flags = {"--persist-delay=1h"}});
  for (SaveHandle& save : StartSaves(NewId("run", 1), TestState::Plain(1, 1000), 1)) {
    CKPT_ASSERT_OK(save.AwaitStaged(absl::Seconds(60)));
  }
  const std::string watched = folder_ / "watched";
  std::vector<std::pair<std::string, pid_t>> waiting;
  for (const std::string verb : {"wait", "watch"}) {
    const absl::StatusOr<pid_t> pid =
        Spawn({.arguments = {BuiltBinary("ckptctl"), "checkpoint", verb,
                             verb == "wait" ? "run@1" : "run", "--socket", daemon().socket()},
               .output = verb == "watch" ? watched : "",
               .errors = folder_ / verb});
    ASSERT_TRUE(pid.ok()) << pid.status();
    waiting.emplace_back(verb, *pid);
  }
  CKPT_EXPECT_OK(Eventually("the snapshot is printed",
                            [&] { return absl::StrContains(ReadWholeFile(watched), "STAGED"); }));
  absl::SleepFor(absl::Milliseconds(300));  // `wait` prints nothing while it waits
  daemon().Signal(SIGTERM);
  for (const auto& [verb, pid] : waiting) {
    const absl::StatusOr<int> status = AwaitProcess(pid, absl::Seconds(60));
    ASSERT_TRUE(status.ok()) << status.status();
    EXPECT_EQ(*status, 4) << verb;
    const std::string errors = ReadWholeFile(folder_ / verb);
    EXPECT_THAT(errors, HasSubstr("the daemon is stopping")) << verb;
    EXPECT_THAT(errors, Not(HasSubstr("no ckptd answers"))) << verb;
  }
  ASSERT_TRUE(daemon().AwaitExit().ok());
  EXPECT_THAT(Run({"run", "ls"}).errors, HasSubstr("no ckptd answers"));
}

TEST_F(CkptctlPrograms, AWatchThatWasAnsweredEndsWithItsTime) {
  const CommandResult watched = Run({"checkpoint", "watch", "--timeout", "300ms"});
  EXPECT_EQ(watched.exit_status, 7);
  EXPECT_THAT(watched.errors, HasSubstr("watched for 300ms, as --timeout says"));
  EXPECT_THAT(watched.errors, Not(HasSubstr("no answer")));
}

TEST_F(CkptctlPrograms, TextsThatNameTheVerbsOwnFlags) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Plain(1, 1000), 1));
  const CommandResult none = Run({"checkpoint", "ls", "run", "--limit", "0"});
  EXPECT_EQ(none.exit_status, 2);
  EXPECT_THAT(none.errors, HasSubstr("--limit"));
  const std::string file = MakeFile("a.safetensors", 4);
  const CommandResult exists = Run({"checkpoint", "import", "run@1", file});
  EXPECT_EQ(exists.exit_status, 5);
  EXPECT_THAT(exists.errors, HasSubstr("run@1 exists already; --force replaces it"));
  EXPECT_THAT(exists.errors, Not(HasSubstr("if_exists")));
  const CommandResult latest = Run({"checkpoint", "import", "base@latest", file});
  EXPECT_EQ(latest.exit_status, 2);
  EXPECT_THAT(latest.errors, HasSubstr("base@1200"));
}

TEST_F(CkptctlPrograms, ExitCodeOfOutputThatCannotBeWritten) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Plain(1, 1000), 1));
  const absl::StatusOr<pid_t> pid =
      Spawn({.arguments = {BuiltBinary("ckptctl"), "run", "ls", "--socket", daemon().socket()},
             .output = "/dev/full"});
  ASSERT_TRUE(pid.ok()) << pid.status();
  const absl::StatusOr<int> status = AwaitProcess(*pid, absl::Seconds(60));
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(*status, 1);
}

TEST_F(CkptctlPrograms, ExitCodeOfAFullDisk) {
  struct statvfs disk = {};
  ASSERT_EQ(statvfs(daemon().data_folder().c_str(), &disk), 0);
  // A hole: it takes no room here, but would there.
  const std::string file =
      MakeFile("huge.safetensors", disk.f_bavail * disk.f_frsize + (uint64_t{64} << 30));
  const CommandResult full = Run({"checkpoint", "import", "run@1", file});
  EXPECT_EQ(full.exit_status, 9) << full.errors;
  EXPECT_THAT(full.errors, HasSubstr("disk"));
  EXPECT_THAT(CommittedSteps("run"), ::testing::IsEmpty());
}

TEST_F(CkptctlPrograms, ExitCodeOfAFileThatMayNotBeRead) {
  const std::string file = MakeFile("secret.safetensors", 4);
  ASSERT_EQ(chmod(file.c_str(), 0), 0);
  const CommandResult denied = RunUnprivileged({"checkpoint", "import", "run@1", file});
  EXPECT_EQ(denied.exit_status, 10) << denied.errors;
  EXPECT_THAT(denied.errors, HasSubstr(file));
}

TEST_F(CkptctlPrograms, ExitCodeOfASocketThatMayNotBeUsed) {
  ASSERT_EQ(chmod(daemon().socket().c_str(), 0), 0);
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"run", "ls"}, {"health"}, {"checkpoint", "export", "run@1", folder_ / "out"}}) {
    const CommandResult denied = RunUnprivileged(words);
    EXPECT_EQ(denied.exit_status, 10) << denied.errors;
    EXPECT_THAT(denied.errors, HasSubstr("may not use the socket " + daemon().socket()));
    EXPECT_THAT(denied.errors, HasSubstr("mode 0000, owner "));
    EXPECT_THAT(denied.errors, Not(HasSubstr("killed")));
  }
}

}  // namespace
}  // namespace ckpt::testing
