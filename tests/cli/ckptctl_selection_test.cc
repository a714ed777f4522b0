// Selecting: the same flags on every verb, and slices of tensors.
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/cli/ckptctl_fixture.h"

namespace ckpt::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

class CkptctlSelection : public Ckptctl {
 protected:
  void SetUp() override {
    CKPT_ASSERT_OK(SaveCommitted(NewId("run", 100), state_, 2));
  }
  // Keys that tensor ls lists.
  std::vector<std::string> Listed(std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"tensor", "ls", "run@100"});
    std::vector<std::string> keys;
    for (const Json& tensor : RunJson(flags)) keys.push_back(tensor["key"]);
    return keys;
  }
  // What an export with these flags holds.
  std::map<std::string, std::string> Exported(std::vector<std::string> flags) {
    const std::string out = folder_ / "out.safetensors";
    flags.insert(flags.begin(), {"checkpoint", "export", "run@100", out, "--force"});
    const CommandResult result = Run(flags);
    EXPECT_EQ(result.exit_status, 0) << result.errors;
    std::map<std::string, std::string> found;
    CheckFile(out, state_, found);
    return found;
  }
  const TestTensor& Tensor(absl::string_view key) const {
    for (const TestTensor& tensor : state_.tensors) {
      if (tensor.key == key) return tensor;
    }
    return state_.tensors[0];
  }

  const TestState state_ = TestState::Mixed(3, 3 << 20);
};

TEST_F(CkptctlSelection, ListsByEveryFact) {
  EXPECT_THAT(Listed({"--dtype", "F64,bool"}),
              ElementsAre("model.mask", "model.norm.bias"));
  EXPECT_THAT(Listed({"--regex", "^model\\.layers\\.[01]\\.", "--exclude-regex", "1"}),
              ElementsAre("model.layers.0.weight"));
  EXPECT_THAT(Listed({"--top-level", "optimizer"}),
              ElementsAre("optimizer.empty", "optimizer.step"));
  EXPECT_THAT(Listed({"--min-size", "100KiB", "-x", "model.layers.**"}),
              ElementsAre("model.embedding.weight"));
  EXPECT_THAT(Listed({"--key", "random.state"}).size(), 2u);
  EXPECT_THAT(Listed({"--key", "random.state", "--rank", "1"}).size(), 1u);
  const CommandResult missing = Run({"tensor", "ls", "run@100", "--key", "model.maks"});
  EXPECT_EQ(missing.exit_status, 3);
  EXPECT_THAT(missing.errors, HasSubstr("model.mask"));
}

TEST_F(CkptctlSelection, AKeyThatIsNotThereIsAnErrorWhateverElseIsAsked) {
  for (const std::vector<std::string>& restriction : std::vector<std::vector<std::string>>{
           {}, {"--dtype", "F64"}, {"--top-level", "model"}, {"--rank", "0"}, {"-i", "model.**"}}) {
    for (std::vector<std::string> words : std::vector<std::vector<std::string>>{
             {"tensor", "ls", "run@100"},
             {"tensor", "ls", "run@100", "--summary"},
             {"checkpoint", "diff", "run@100", "run@100"},
             {"checkpoint", "export", "run@100", folder_ / "none"}}) {
      words.insert(words.end(),
                   {"--key", "model.maks", "--key", "model.norm.bias", "--key", "stp"});
      words.insert(words.end(), restriction.begin(), restriction.end());
      const CommandResult result = Run(words);
      const std::string asked = absl::StrJoin(words, " ");
      EXPECT_EQ(result.exit_status, 3) << asked << "\n" << result.output;
      EXPECT_THAT(result.errors, HasSubstr("'model.maks' (nearest: 'model.mask'")) << asked;
      EXPECT_THAT(result.errors, HasSubstr("'stp'")) << "all that are missing: " << asked;
      EXPECT_THAT(result.errors, Not(HasSubstr("'model.norm.bias'"))) << asked;
    }
  }
  EXPECT_THAT(Run({"tensor", "ls", "run@100", "--key", "model"}).errors,
              HasSubstr("no key 'model' (but keys below it: a glob takes them all, 'model.**')"));
  // There, but of another type: that selects nothing, and is no error of a list.
  const CommandResult other =
      Run({"tensor", "ls", "run@100", "--key", "model.mask", "--dtype", "F64"});
  EXPECT_EQ(other.exit_status, 0) << other.errors;
  EXPECT_EQ(other.output, "nothing matches\n");
}

TEST_F(CkptctlSelection, ARankThatIsNotThereIsAnError) {
  const std::string out = folder_ / "out.safetensors";
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"tensor", "ls", "run@100"},
                                             {"tensor", "ls", "run@100", "--summary"},
                                             {"checkpoint", "export", "run@100", out},
                                             {"checkpoint", "diff", "run@100", "run@100"}}) {
    std::vector<std::string> asked = words;
    asked.insert(asked.end(), {"--rank", "1,9"});
    const CommandResult result = Run(asked);
    EXPECT_EQ(result.exit_status, 3) << words[1];
    EXPECT_THAT(result.errors, HasSubstr("of rank 9: there are ranks 0-1"));
  }
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST_F(CkptctlSelection, AllThatIsWrongIsToldAtOnce) {
  const CommandResult words =
      Run({"tensor", "ls", "run@100", "--slice", "a[", "--slice", "b", "--regex", "x(y", "--regex",
           "[z", "-i", "c\\", "--dtype", "F99", "--rank", "-1"});
  EXPECT_EQ(words.exit_status, 2);
  for (const char* text : {"\"a[\"", "\"b\"", "'x(y'", "'[z'", "'c\\", "F99", "--rank"}) {
    EXPECT_THAT(words.errors, HasSubstr(text));
  }
  for (std::vector<std::string> verb : std::vector<std::vector<std::string>>{
           {"tensor", "ls", "run@100"}, {"checkpoint", "export", "run@100", folder_ / "none"}}) {
    verb.insert(verb.end(), {"--slice", "model.norm.bias[30:40]", "--slice", "step_seed[0]",
                             "--slice", "model.mask[:,:,:]"});
    const CommandResult boxes = Run(verb);
    EXPECT_EQ(boxes.exit_status, 2);
    for (const char* text : {"30:40", "'step_seed' is not a tensor", "3 ranges"}) {
      EXPECT_THAT(boxes.errors, HasSubstr(text)) << verb[1];
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(CkptctlSelection, TheListEndsWithItsTotal) {
  const CommandResult list =
      Run({"tensor", "ls", "run@100", "-i", "model.norm.*", "-i", "rank_note"});
  const std::vector<std::string> lines = absl::StrSplit(list.output, '\n', absl::SkipEmpty());
  EXPECT_EQ(lines.back(), "1 tensor and 2 values, 296 B");
  EXPECT_THAT(Run({"tensor", "ls", "run@100", "-i", "nowhere"}).output, "nothing matches\n");
}

TEST_F(CkptctlSelection, ExportsWhatIsSelected) {
  const auto found = Exported({"--dtype", "F64,BF16", "-i", "model.**", "--max-size=1GiB"});
  ASSERT_EQ(found.size(), 2u);
  for (const char* key : {"model.layers.0.weight", "model.norm.bias"}) {
    EXPECT_TRUE(found.at(key) ==
                TestBytes(state_, Tensor(key), 0, Box::Whole(Tensor(key).shape)));
  }
  EXPECT_EQ(Exported({"--key", "random.state", "--rank", "1"}).at("random.state.rank1"),
            TestBytes(state_, Tensor("random.state"), 1, Box::Whole({1000})));
  const CommandResult none =
      Run({"checkpoint", "export", "run@100", folder_ / "none", "--dtype", "F16"});
  EXPECT_EQ(none.exit_status, 3);
  EXPECT_THAT(none.errors, HasSubstr("--dtype"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "none"));
}

TEST_F(CkptctlSelection, ExportsSlicesInAnyDimension) {
  // Rows of both ranks' shards, and some of the inner dimensions.
  const TestTensor& layer = Tensor("model.layers.1.weight");
  const uint64_t middle = layer.shape[0] / 2;
  const auto found = Exported(
      {"--slice", absl::StrCat("model.layers.1.weight[", middle - 5, ":", middle + 5, ",1:3,-4:]"),
       "--slice", "model.norm.bias[7]", "-i", "model.mask"});
  ASSERT_EQ(found.size(), 3u);
  EXPECT_TRUE(found.at("model.layers.1.weight") ==
              TestBytes(state_, layer, 0, Box{{middle - 5, 1, 12}, {10, 2, 4}}));
  EXPECT_TRUE(found.at("model.norm.bias") ==
              TestBytes(state_, Tensor("model.norm.bias"), 0, Box{{7}, {1}}));
  EXPECT_EQ(found.at("model.mask").size(), 15u);
  EXPECT_THAT(ReadWholeFile(folder_ / "out.safetensors").substr(0, 4096),
              HasSubstr("\"ckptd.slice.model.norm.bias\":\"[7:8]\""));
}

TEST_F(CkptctlSelection, ATorchFileHoldsTheSameSlices) {
  const TestTensor& layer = Tensor("model.layers.1.weight");
  const uint64_t middle = layer.shape[0] / 2;
  const std::vector<std::string> flags = {
      "--slice", absl::StrCat("model.layers.1.weight[", middle - 5, ":", middle + 5, ",1:3,-4:]"),
      "--slice", "model.norm.bias[7]", "-i", "model.mask"};
  const std::string file = folder_ / "out.pt";
  std::vector<std::string> words = {"checkpoint", "export", "run@100", file};
  words.insert(words.end(), flags.begin(), flags.end());
  const Json exported = RunJson(words);
  EXPECT_EQ(exported["data_bytes"], 10 * 2 * 4 * DTypeBytes(layer.dtype) + 8 + 15);
  // What the file holds, read again.
  const CommandResult imported = Run({"checkpoint", "import", "again@100", file});
  EXPECT_EQ(imported.exit_status, 0) << imported.errors;
  for (const Json& tensor : RunJson({"tensor", "ls", "again@100", "--regex", "weight"})) {
    EXPECT_EQ(tensor["shape"], Json::parse("[10, 2, 4]"));
  }
  const std::string plain = folder_ / "again.safetensors";
  const CommandResult again = Run({"checkpoint", "export", "again@100", plain});
  EXPECT_EQ(again.exit_status, 0) << again.errors;
  std::map<std::string, std::string> found;
  CheckFile(plain, state_, found);
  EXPECT_EQ(found.size(), 3u);
  EXPECT_TRUE(found == Exported(flags));
}

TEST_F(CkptctlSelection, ADryRunTellsWhatWouldMoveAndWritesNothing) {
  const uint64_t mask_bytes = 15;
  const uint64_t bias_bytes = 37 * 8;
  const Json dry = RunJson(
      {"checkpoint", "export", "run@latest", "--dry-run", "-i", "model.norm.*", "-i", "**.mask"});
  EXPECT_EQ(dry["step"], 100);
  EXPECT_EQ(dry["tensor_count"], 2);
  EXPECT_EQ(dry["leaf_count"], 2);
  EXPECT_EQ(dry["data_bytes"], mask_bytes + bias_bytes);
  EXPECT_EQ(dry["bytes_from_memory"], mask_bytes + bias_bytes);
  EXPECT_EQ(dry["bytes_from_disk"], 0);
  const Json slice = RunJson({"checkpoint", "export", "run@100", folder_ / "none", "--dry-run",
                              "--slice", "model.embedding.weight[0:2]"});
  EXPECT_EQ(slice["data_bytes"], 2 * 64 * 4);
  EXPECT_GT(slice["bytes_from_memory"], 2 * 64 * 4);
  EXPECT_THAT(Run({"checkpoint", "export", "run@100", "--dry-run", "--slice",
                   "model.embedding.weight[0:2]"})
                  .output,
              HasSubstr("whole blocks of up to 1.0 MiB are read"));
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));

  // The list adds up to what its summary says.
  uint64_t bytes = 0;
  uint64_t tensors = 0;
  for (const Json& tensor : RunJson({"tensor", "ls", "run@100"})) {
    if (!tensor.contains("data_bytes")) continue;
    bytes += tensor["data_bytes"].get<uint64_t>();
    ++tensors;
  }
  const Json summary = RunJson({"tensor", "ls", "run@100", "--summary"});
  EXPECT_EQ(summary["data_bytes"], bytes);
  EXPECT_EQ(summary["tensor_count"], tensors);
  const Json sliced = RunJson({"tensor", "ls", "run@100", "--slice",
                               "model.embedding.weight[2:4]", "--key", "model.norm.bias"});
  ASSERT_EQ(sliced.size(), 2u);
  EXPECT_EQ(sliced[0]["key"], "model.embedding.weight");
  EXPECT_EQ(sliced[0]["slice"]["offset"], Json::parse("[2, 0]"));
  EXPECT_EQ(sliced[0]["slice"]["extent"], Json::parse("[2, 64]"));
  EXPECT_EQ(sliced[0]["slice_bytes"], 2 * 64 * 4);
  EXPECT_GT(sliced[0]["data_bytes"], sliced[0]["slice_bytes"]);
  EXPECT_FALSE(sliced[1].contains("slice"));
  EXPECT_EQ(RunJson({"tensor", "ls", "run@100", "--summary", "--slice",
                     "model.embedding.weight[2:4]"})["data_bytes"],
            2 * 64 * 4);
  EXPECT_THAT(Run({"tensor", "ls", "run@100", "--slice", "model.embedding.weight[2:4]"}).output,
              HasSubstr("model.embedding.weight[2:4, 0:64]"));
  EXPECT_EQ(
      Run({"tensor", "ls", "run@100", "--slice", "model.embedding.weight[:,64:]"}).exit_status, 2);
  const CommandResult none = Run({"tensor", "ls", "run@100", "--summary", "--dtype", "F16"});
  EXPECT_EQ(none.exit_status, 3);
  EXPECT_THAT(none.errors, HasSubstr("--dtype"));

  // After a restart without the memory tier everything would come from disk.
  DropClients();
  daemon().Kill();
  std::filesystem::remove_all(daemon().memory_folder());
  CKPT_ASSERT_OK(daemon().Restart());
  const Json cold = RunJson({"tensor", "ls", "run@100", "--summary", "-i", "**.mask"});
  EXPECT_EQ(cold["bytes_from_memory"], 0);
  EXPECT_EQ(cold["bytes_from_disk"], mask_bytes);
}

TEST_F(CkptctlSelection, SlicesThatAreNotThereWriteNothing) {
  struct Case {
    const char* slice;
    int exit_status;
    const char* text;
  };
  for (const Case& c : std::vector<Case>{{"model.norm.bias[30:40]", 2, "[37]"},
                                         {"model.norm.bias[:,:]", 2, "2 ranges"},
                                         {"model.norm.bais[0]", 3, "model.norm.bias"},
                                         {"step_seed[0]", 2, "not a tensor"},
                                         {"model.norm.bias", 2, "KEY[0:100,:]"}}) {
    const CommandResult result =
        Run({"checkpoint", "export", "run@100", folder_ / "none", "--slice", c.slice});
    EXPECT_EQ(result.exit_status, c.exit_status) << c.slice << ": " << result.errors;
    EXPECT_THAT(result.errors, HasSubstr(c.text)) << c.slice;
  }
  EXPECT_EQ(Run({"checkpoint", "export", "run@100", folder_ / "none", "--slice",
                 "model.norm.bias[0]", "--slice", "model.norm.bias[1]"})
                .exit_status,
            2);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

}  // namespace
}  // namespace ckpt::testing
