// Plain files as checkpoints.
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "common/safetensors.h"
#include "tests/cli/ckptctl_fixture.h"
#include "tests/integration/rank_process.h"

namespace ckpt::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CkptctlImport : public Ckptctl {
 protected:
  // A safetensors file of one U8 tensor of four bytes.
  std::string MakeFile() {
    return MakeFile(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "abcd");
  }
  std::string MakeFile(const std::string& json, const std::string& data) {
    const std::string file = folder_ / "a.safetensors";
    std::string length(8, '\0');
    for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(uint64_t{json.size()} >> (8 * i));
    std::ofstream(file, std::ios::binary) << length << json << data;
    return file;
  }
  static SafetensorsHeader HeaderOf(const std::string& path) {
    const std::string bytes = ReadWholeFile(path);
    const auto region = SafetensorsRegionBytes(bytes.substr(0, 8), bytes.size());
    EXPECT_TRUE(region.ok()) << region.status();
    const auto header = ParseSafetensorsHeader(bytes.substr(0, *region), bytes.size());
    EXPECT_TRUE(header.ok()) << header.status();
    return *header;
  }
};

TEST_F(CkptctlImport, ImportsWhatItExported) {
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
    const SafetensorsHeader header = HeaderOf(folder_ / (i == 0 ? "a" : "b"));
    for (const auto& t : header.tensors) {
      tensors[i][t.name] = bytes.substr(header.header_region_bytes + t.begin, t.end - t.begin);
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

// Short notes are values of the checkpoint, long ones tensors; out they come as they went in,
// however often, and beside them is only where they come from.
TEST_F(CkptctlImport, WhatAFileSaysOfItselfIsThereAgain) {
  std::map<std::string, std::string> metadata = {{"format", "mlx"},
                                                 {"title", "x"},
                                                 {"tags", std::string(5000, 't')},
                                                 {"values", R"({"n":1})"}};
  Json json = {{"a", {{"dtype", "U8"}, {"shape", {4}}, {"data_offsets", {0, 4}}}},
               {"__metadata__", metadata}};
  std::string file = MakeFile(json.dump(), "abcd");
  for (int round = 1; round <= 2; ++round) {
    const std::string step = absl::StrCat("run@", round);
    const CommandResult imported = Run({"checkpoint", "import", step, file});
    ASSERT_EQ(imported.exit_status, 0) << imported.errors;
    file = folder_ / absl::StrCat("out", round);
    ASSERT_EQ(Run({"checkpoint", "export", step, file}).exit_status, 0);
    const SafetensorsHeader header = HeaderOf(file);
    ASSERT_EQ(header.tensors.size(), 1u);
    for (const auto& [name, text] : metadata) EXPECT_EQ(header.metadata.at(name), text) << name;
    EXPECT_EQ(header.metadata.size(), metadata.size() + 3);
    EXPECT_EQ(header.metadata.at("ckptd.step"), absl::StrCat(round));
  }
}

// A name that prints as nothing is one like any other, and the rest of its checkpoint can be had.
TEST_F(CkptctlImport, ANameOfNoLetters) {
  const std::string file = MakeFile(R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                    R"("w":{"dtype":"U8","shape":[3],"data_offsets":[1,4]}})",
                                    "abcd");
  ASSERT_EQ(Run({"checkpoint", "import", "run@1", file}).exit_status, 0);
  const Json listed = RunJson({"tensor", "ls", "run@1"});
  ASSERT_EQ(listed.size(), 2u);
  EXPECT_EQ(listed[0]["key"], "");
  EXPECT_EQ(RunJson({"tensor", "ls", "run@1", "--key", ""}).size(), 1u);
  for (const std::string key : {"", "w"}) {
    const CommandResult exported =
        Run({"checkpoint", "export", "run@1", folder_ / "out", "--key", key, "-f"});
    ASSERT_EQ(exported.exit_status, 0) << exported.errors;
    const SafetensorsHeader header = HeaderOf(folder_ / "out");
    ASSERT_EQ(header.tensors.size(), 1u);
    EXPECT_EQ(header.tensors[0].name, key);
  }
  EXPECT_EQ(Run({"checkpoint", "diff", "run@1", "run@1"}).exit_status, 0);
}

TEST_F(CkptctlImport, ImportRefusesHostileFilesAndSavesNothing) {
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

TEST_F(CkptctlImport, ImportDoesNotDisturbATrainerUnasked) {
  absl::StatusOr<std::unique_ptr<RankProcess>> rank = RankProcess::Start(daemon().socket());
  ASSERT_TRUE(rank.ok()) << rank.status();
  CKPT_ASSERT_OK((*rank)->Save({.id = NewId("run", 5), .hold_at = 100}));
  CKPT_ASSERT_OK((*rank)->AwaitHeld());
  const std::string file = MakeFile();
  const CommandResult refused = Run({"checkpoint", "import", "run@1", file});
  EXPECT_EQ(refused.exit_status, 5);
  EXPECT_THAT(refused.errors, HasSubstr("run@5"));
  CKPT_ASSERT_OK((*rank)->Release());
  CKPT_EXPECT_OK((*rank)->AwaitCommitted());
  // Asked, it does: the import is a newer launch of the run.
  CKPT_ASSERT_OK((*rank)->Save({.id = NewId("run", 6), .hold_at = 100}));
  CKPT_ASSERT_OK((*rank)->AwaitHeld());
  EXPECT_EQ(Run({"checkpoint", "import", "run@1", file, "--yes"}).exit_status, 0);
  CKPT_ASSERT_OK((*rank)->Release());
  CKPT_EXPECT_ERROR((*rank)->AwaitCommitted(), absl::StatusCode::kAborted, "a later launch");
  EXPECT_THAT(CommittedSteps("run"), ::testing::UnorderedElementsAre(1, 5));
}

TEST_F(CkptctlImport, ADrainingDaemonIsNotTakenForADeadOne) {
  const std::string file = MakeFile();
  ASSERT_EQ(Run({"drain"}).exit_status, 0);
  const CommandResult refused = Run({"checkpoint", "import", "run@1", file});
  EXPECT_EQ(refused.exit_status, 4) << refused.errors;
  EXPECT_THAT(refused.errors, HasSubstr("draining"));
  EXPECT_THAT(refused.errors, HasSubstr("ckptctl drain --resume"));
  EXPECT_THAT(refused.errors, Not(HasSubstr("went away")));
  ASSERT_EQ(Run({"drain", "--resume"}).exit_status, 0);
  const CommandResult imported = Run({"checkpoint", "import", "run@1", file});
  EXPECT_EQ(imported.output, "run@1:  imported 1 tensor, 4 B, committed\n") << imported.errors;
  EXPECT_THAT(Run({"checkpoint", "show", "run@1"}).output, HasSubstr("4 B in 1 shard\n"));
}

}  // namespace
}  // namespace ckpt::testing
