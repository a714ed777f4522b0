// import and export of torch files by the real tool against the real daemon, without PyTorch: what
// is refused leaves nothing behind, and a daemon that dies in the middle ends the import.
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "tests/cli/torch_file_bytes.h"
#include "tests/fixtures/process.h"
#include "tests/integration/integration_test.h"

namespace ckpt::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class TorchCkptctl : public IntegrationTest {
 protected:
  CommandResult Run(std::vector<std::string> words) {
    words.insert(words.begin(), {BuiltBinary("ckptctl"), "checkpoint"});
    absl::StatusOr<CommandResult> result =
        RunCommand(words, {{"CKPTD_SOCKET", daemon().socket()}}, absl::Minutes(1));
    EXPECT_TRUE(result.ok()) << result.status();
    return *std::move(result);
  }
  std::string Put(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }
  ScratchFolder folder_;
};

TEST_F(TorchCkptctl, HostileFilesAreRefusedAndNothingIsSaved) {
  const std::string marker = folder_ / "executed";
  const std::string command = PickledText("touch " + marker);
  const std::string tensor =
      PickledTensor(PickledStorage("FloatStorage", "0", 2), 0, {2}, {1});
  const std::string honest = TorchFileOf(PickledDict("t", tensor), {"01234567"});
  struct Case {
    std::string bytes;
    std::string text;
    int exit_status = 2;
  };
  std::string damaged = honest;
  damaged[honest.find("01234567")] ^= 1;
  const Case cases[] = {
      {TorchFileOf(PickledCall(PickledGlobal("posix", "system"), command)),
       "refuses posix.system: only tensors, containers and plain values are read"},
      {TorchFileOf(PickledDict("t", tensor) +
                       PickledCall(PickledGlobal("builtins", "eval"), command),
                   {"01234567"}),
       "refuses builtins.eval"},
      {TorchFileOf(PickledDict("t", PickledTensor(PickledStorage("FloatStorage", "../0", 2), 0,
                                                  {2}, {1}))),
       "names no entry"},
      {TorchFileOf(PickledDict("t", tensor), {"0123"}), "should be 8 B"},
      {ZipOf({{"../data.pkl", "\x80\x02}."}}), "an entry called '../data.pkl'"},
      {honest.substr(0, honest.size() / 2), "no directory at its end"},
      {damaged, "fail their CRC-32", 6}};
  for (const Case& hostile : cases) {
    const std::string path = Put("hostile.pt", hostile.bytes);
    const CommandResult result = Run({"import", "evil@1", path});
    EXPECT_EQ(result.exit_status, hostile.exit_status) << result.errors;
    EXPECT_THAT(result.errors, HasSubstr(hostile.text));
    EXPECT_THAT(result.errors, HasSubstr(path));
  }
  EXPECT_FALSE(std::filesystem::exists(marker));
  EXPECT_TRUE(List("evil", true).empty());
  // An honest one between two hostile ones: all or nothing.
  const std::string good = Put("good.pt", honest);
  EXPECT_EQ(Run({"import", "evil@1", good, Put("bad.pt", cases[0].bytes)}).exit_status, 2);
  EXPECT_TRUE(List("evil", true).empty());
  EXPECT_EQ(Run({"import", "good@1", good}).exit_status, 0);
}

TEST_F(TorchCkptctl, TheStateOfSeveralRanksIsNotOne) {
  const TestState state = TestState::Mixed(3);
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), state, 2));
  const std::string out = folder_ / "out.pt";
  const CommandResult refused = Run({"export", "run@1", out});
  EXPECT_EQ(refused.exit_status, 2) << refused.errors;
  EXPECT_THAT(refused.errors, HasSubstr("--rank"));
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
  // Without what each has of its own.
  std::vector<std::string> words = {"export", "run@1", out, "-x", "rank_note"};
  for (const TestTensor& tensor : state.tensors) {
    if (tensor.placement != v1::PLACEMENT_PER_RANK) continue;
    words.insert(words.end(), {"-x", tensor.key});
  }
  const CommandResult exported = Run(words);
  EXPECT_EQ(exported.exit_status, 0) << exported.errors;
  EXPECT_EQ(Run({"import", "again@1", out}).exit_status, 0);
}

TEST_F(TorchCkptctl, TheFormatIsChosenByNameOrByFlag) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Plain(1, 1000), 1));
  const auto is_zip = [&](const std::string& name) {
    return ReadWholeFile(folder_ / name).substr(0, 2) == "PK";
  };
  for (const char* name : {"a.pt", "a.pth", "a.bin"}) {
    EXPECT_EQ(Run({"export", "run@1", folder_ / name}).exit_status, 0);
    EXPECT_TRUE(is_zip(name)) << name;
  }
  EXPECT_EQ(Run({"export", "run@1", folder_ / "b", "--format", "torch"}).exit_status, 0);
  EXPECT_TRUE(is_zip("b"));
  EXPECT_EQ(Run({"export", "run@1", folder_ / "c.pt", "--format=safetensors"}).exit_status, 0);
  EXPECT_FALSE(is_zip("c.pt"));
  EXPECT_EQ(Run({"export", "run@1", folder_ / "d", "--format", "onnx"}).exit_status, 2);
  EXPECT_EQ(Run({"export", "run@1", folder_ / "d.pt", "--shard-size", "1MiB"}).exit_status, 2);
  EXPECT_EQ(Run({"export", "run@1", folder_ / "d/", "--format", "torch"}).exit_status, 2);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "d"));
  EXPECT_EQ(Run({"export", "run@1", folder_ / "a.pt"}).exit_status, 5);  // never over what is there
}

TEST_F(TorchCkptctl, AliasesShareAStorageWhereTheyAreCutAlike) {
  const std::string tensor = PickledTensor(PickledStorage("FloatStorage", "0", 2), 0, {2}, {1});
  const std::string file =
      Put("tied.pt", TorchFileOf(PickledDict("a", tensor) + PickledText("b") + tensor + "s",
                                 {"01234567"}));
  const CommandResult imported = Run({"import", "run@1", file});
  ASSERT_EQ(imported.exit_status, 0) << imported.errors;
  const auto exported = [&](const std::string& a, const std::string& b) {
    const CommandResult result = Run(
        {"export", "run@1", folder_ / "out.pt", "--force", "--slice", a, "--slice", b});
    EXPECT_EQ(result.exit_status, 0) << result.errors;
    return ReadWholeFile(folder_ / "out.pt");
  };
  const std::string alike = exported("a[1]", "b[1]");
  EXPECT_THAT(alike, HasSubstr("4567"));
  EXPECT_THAT(alike, Not(HasSubstr("0123")));
  EXPECT_THAT(alike, Not(HasSubstr("archive/data/1")));
  const std::string apart = exported("a[1]", "b[0]");
  EXPECT_THAT(apart, AllOf(HasSubstr("4567"), HasSubstr("0123"), HasSubstr("archive/data/1")));
  EXPECT_THAT(apart, Not(HasSubstr("01234567")));
}

TEST_F(TorchCkptctl, ASliceOfATextEndsBetweenCharacters) {
  const std::string file =
      Put("text.pt", TorchFileOf("}" + PickledText("note") +
                                 PickledText(Repeated("\u00e9", 5000)) + "s"));
  const CommandResult imported = Run({"import", "run@1", file});
  ASSERT_EQ(imported.exit_status, 0) << imported.errors;
  const std::string out = folder_ / "out.pt";
  const CommandResult cut = Run({"export", "run@1", out, "--slice", "note[0:3]"});
  EXPECT_EQ(cut.exit_status, 2);
  EXPECT_THAT(cut.errors, HasSubstr("note[0:3] cuts a character of the text in two"));
  EXPECT_FALSE(std::filesystem::exists(out));
  const CommandResult whole = Run({"export", "run@1", out, "--slice", "note[2:6]"});
  EXPECT_EQ(whole.exit_status, 0) << whole.errors;
  EXPECT_THAT(ReadWholeFile(out), HasSubstr(PickledText("\u00e9\u00e9")));
}

TEST_F(TorchCkptctl, AnExportOfDamagedBytesLeavesNothingBehind) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Plain(1, 3 << 20), 1));
  DropClients();
  daemon().Kill();
  std::filesystem::remove_all(daemon().memory_folder());
  daemon().DamageDataFiles();
  CKPT_ASSERT_OK(daemon().Restart());
  EXPECT_EQ(Run({"export", "run@1", folder_ / "out.pt"}).exit_status, 6);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

// kill -9 of the daemon while the tool imports.
class ImportOutlivesNoDaemon : public TorchCkptctl {
 protected:
  // A sparse file of zeros.
  std::string PutTensor(uint64_t bytes) {
    const std::string json = absl::StrCat(R"({"a":{"dtype":"U8","shape":[)", bytes,
                                          R"(],"data_offsets":[0,)", bytes, "]}}");
    const std::string path =
        Put("some.safetensors", std::string(1, static_cast<char>(json.size())) +
                                    std::string(7, '\0') + json);
    std::filesystem::resize_file(path, 8 + json.size() + bytes);
    return path;
  }
  // The daemon dies once its log has that; then the tool says `text`.
  void KillAt(const std::string& file, const std::string& log, const std::string& text) {
    const absl::StatusOr<pid_t> tool =
        Spawn({.arguments = {BuiltBinary("ckptctl"), "checkpoint", "import", "run@1", file,
                             "--socket", daemon().socket()},
               .errors = errors_});
    ASSERT_TRUE(tool.ok()) << tool.status();
    CKPT_ASSERT_OK(daemon().AwaitLog(log));
    daemon().Kill();
    const absl::StatusOr<int> status = AwaitProcess(*tool, absl::Minutes(1));
    ASSERT_TRUE(status.ok()) << "the tool hangs: " << status.status();
    EXPECT_EQ(*status, 4) << ReadWholeFile(errors_);
    EXPECT_THAT(ReadWholeFile(errors_), HasSubstr(text));
  }
  const std::string errors_ = folder_ / "errors";
};

TEST_F(ImportOutlivesNoDaemon, KilledAmidTheBytesNothingIsVisible) {
  // Through a ring much smaller than the part: it can't be staged before the disk has all of it.
  StartDaemon({.memory_budget = "64MiB"});
  KillAt(PutTensor(uint64_t{1} << 30), "checkpoint begun run=run step=1",
         "import it again once it is back");
  CKPT_ASSERT_OK(daemon().Restart());
  EXPECT_THAT(daemon().Log(), Not(HasSubstr("checkpoint staged")));
  EXPECT_THAT(CommittedSteps("run"), ::testing::IsEmpty());
  for (const v1::CheckpointInfo& info : List("run", true)) {
    EXPECT_EQ(info.state(), v1::CHECKPOINT_STATE_ABORTED);
  }
  const std::string small = Put("small.pt", TorchFileOf("}" + PickledText("a") + "Ns"));
  const CommandResult again = Run({"import", "run@1", small});
  EXPECT_EQ(again.exit_status, 0) << again.errors;
}

// Every byte was handed over: the tool says how to see what becomes of it, whether or not it was
// told before the kill that the daemon has them; the next daemon makes them durable.
TEST_F(ImportOutlivesNoDaemon, KilledWhenStagedAllOfItAppears) {
  StartDaemon({.flags = {"--persist-delay=1h"}});
  KillAt(PutTensor(1000), "checkpoint staged run=run step=1",
         "ckptctl checkpoint wait run@1");
  CKPT_ASSERT_OK(daemon().Restart({"--persist-delay=0s"}));
  CKPT_EXPECT_OK(Eventually("the adopted import is committed", [&] {
    return CommittedSteps("run") == std::vector<uint64_t>{1};
  }));
  CKPT_EXPECT_OK(Verify("run@1"));
}

}  // namespace
}  // namespace ckpt::testing
