// Checkpoints as plain safetensors files.
#include <sys/stat.h>

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/cli/ckptctl_fixture.h"

namespace ckpt::testing {
namespace {

using ::testing::HasSubstr;

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

TEST_F(Ckptctl, ForceReplacesOnlyRegularFiles) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 100), TestState::Plain(1, 1000), 1));
  ASSERT_EQ(mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  std::filesystem::create_symlink("nothing", folder_ / "link.pt");
  std::filesystem::create_directory(folder_ / "model");
  std::filesystem::create_symlink("x", folder_ / "model/model.safetensors.index.json");
  for (const char* name : {"fifo", "link.pt", "model"}) {
    const CommandResult result = Run({"checkpoint", "export", "run@100", folder_ / name, "-f"});
    EXPECT_EQ(result.exit_status, 2) << result.errors;
    EXPECT_THAT(result.errors, HasSubstr(folder_ / name));
  }
  EXPECT_TRUE(std::filesystem::is_fifo(folder_ / "fifo"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "link.pt"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_ / "model"), {}), 1);
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
  daemon().DamageDataFiles();
  CKPT_ASSERT_OK(daemon().Restart());
  for (const std::string& out : {folder_ / "file", folder_ / "folder/"}) {
    const CommandResult result = Run({"checkpoint", "export", "run@100", out});
    EXPECT_EQ(result.exit_status, 6) << result.errors;
    EXPECT_THAT(result.errors, HasSubstr("data"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
  EXPECT_EQ(Run({"checkpoint", "export", "run@100", folder_ / "no/such/folder/x"}).exit_status, 3);
}

}  // namespace
}  // namespace ckpt::testing
