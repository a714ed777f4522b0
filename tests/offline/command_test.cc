// ckptutil as a user meets it: what it prints and what it exits with.
#include "server/offline/command.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/storage/names.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

using testing::HasSubstr;

class Ckptutil : public testing::Test {
 protected:
  void SetUp() override {
    Open();
    ASSERT_TRUE(store_->Save(IdOf("team/run", 5), uid_, {3000000, 10}, 2).ok());
    ASSERT_TRUE(store_->Save(IdOf("team/run", 6), other_, {100}, 1, 9).ok());
    v1::Labels labels;
    labels.add_tags("best");
    ASSERT_TRUE(store_->folder().WriteLabels(uid_, labels).ok());
    v1::RetentionPolicies policies;
    (*policies.mutable_runs())["team/run"].set_keep_last(3);
    ASSERT_TRUE(store_->folder().WriteRetention(policies).ok());
    auto part = store_->index().GetPartHead(uid_, 1);
    file_ = *FileId::FromBytes(part->files(0).file_id(), "id");
    header_ = part->files(0).header_length();
    store_.reset();
  }
  void Open() {
    auto store = Store::Open(path_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  int Run(const std::vector<std::string>& arguments) {
    std::ostringstream text, errors;
    const int code = offline::RunCommand(arguments, {text, errors, false});
    text_ = text.str();
    errors_ = errors.str();
    return code;
  }
  std::string DataPath() { return path_ + "/objects/" + names::DataFile(file_); }

  TemporaryFolder folder_;
  const std::string path_ = folder_.path() + "/data";
  const CheckpointUid uid_ = CheckpointUid::TimeOrdered();
  const CheckpointUid other_ = CheckpointUid::TimeOrdered();
  FileId file_;
  uint64_t header_ = 0;
  std::unique_ptr<Store> store_;
  std::string text_, errors_;
};

TEST_F(Ckptutil, SaysHowItIsUsed) {
  EXPECT_EQ(Run({"--help"}), 0);
  EXPECT_THAT(text_, HasSubstr("rebuild-index"));
  EXPECT_THAT(text_, HasSubstr("Exit codes"));
  EXPECT_EQ(Run({"--version"}), 0);
  EXPECT_THAT(text_, testing::MatchesRegex("ckptutil [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{},
                                             {"frobnicate", path_},
                                             {"verify"},
                                             {"verify", path_, "more"},
                                             {"dump", path_, "-o", "xml"},
                                             {"dump", path_, "-o"},
                                             {"dump", path_, "nonsense"},
                                             {"rebuild-index", "-o", "json", path_},
                                             {"verify", "--fast", path_}}) {
    EXPECT_EQ(Run(wrong), 2);
    EXPECT_THAT(errors_, HasSubstr("--help"));
    EXPECT_EQ(text_, "");
  }
}

TEST_F(Ckptutil, RefusesAFolderInUse) {
  Open();
  for (const char* verb : {"verify", "dump", "rebuild-index"}) {
    EXPECT_EQ(Run({verb, path_}), 5);
    EXPECT_THAT(errors_, HasSubstr("in use"));
    EXPECT_THAT(errors_, HasSubstr("stop the daemon"));
  }
}

TEST_F(Ckptutil, RefusesWhatIsNoDataFolder) {
  EXPECT_EQ(Run({"verify", folder_.path() + "/nothing"}), 3);
  EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/nothing"));
  std::filesystem::create_directory(folder_.path() + "/other");
  std::ofstream(folder_.path() + "/other/thesis.txt") << "precious";
  EXPECT_EQ(Run({"rebuild-index", folder_.path() + "/other"}), 5);
  EXPECT_THAT(errors_, HasSubstr("not a ckptd data folder (no FORMAT file): name the folder that "
                                 "was given to ckptd --data-dir"));
  std::filesystem::create_directory(folder_.path() + "/empty");
  EXPECT_EQ(Run({"verify", folder_.path() + "/empty"}), 3);
  EXPECT_THAT(errors_, HasSubstr("no FORMAT file"));
}

TEST_F(Ckptutil, VerifiesAHealthyFolder) {
  EXPECT_EQ(Run({"verify", path_ + "/"}), 0);
  EXPECT_THAT(text_, HasSubstr("2 checkpoints"));
  EXPECT_THAT(text_, HasSubstr("0 places damaged"));
}

TEST_F(Ckptutil, VerifyNamesCheckpointRankFileKeyAndOffset) {
  FlipByte(DataPath(), header_ + 2000000);
  EXPECT_EQ(Run({"verify", path_}), 6);
  EXPECT_THAT(text_, HasSubstr("team/run@5: rank 1"));
  EXPECT_THAT(text_, HasSubstr(file_.hex()));
  EXPECT_THAT(text_, HasSubstr("t0"));
  EXPECT_THAT(text_, HasSubstr(absl::StrCat("offset ", header_ + (1 << 20))));
  EXPECT_THAT(text_, HasSubstr("1 place damaged"));
  EXPECT_EQ(Run({"verify", path_, "-o", "json"}), 6);
  const nlohmann::json json = nlohmann::json::parse(text_, nullptr, false);
  ASSERT_TRUE(json.is_object()) << text_;
  EXPECT_EQ(json["checkpoints"], 2);
  EXPECT_GT(json["bytes"], 2000000);
  ASSERT_EQ(json["damage"].size(), 1u);
  EXPECT_EQ(json["damage"][0]["where"], "team/run@5");
  EXPECT_THAT(std::string(json["damage"][0]["what"]), HasSubstr(file_.hex()));
}

TEST_F(Ckptutil, VerifyFindsDamagedManifestsToo) {
  FlipByte(path_ + "/checkpoints/" + names::CheckpointManifest(other_), 30);
  FlipByte(path_ + "/checkpoints/" + names::Labels(uid_), 25);
  FlipByte(path_ + "/" + names::kRetention, 30);
  for (const auto& file : std::filesystem::directory_iterator(path_ + "/objects")) {
    if (file.path().extension() == ".part") CutFile(file.path().string(), 50);
  }
  EXPECT_EQ(Run({"verify", path_}), 6);
  EXPECT_THAT(text_, HasSubstr("5 places damaged"));  // two parts are still reachable
}

// A link to itself opens as little as a file without permission.
TEST_F(Ckptutil, VerifyEndsWithAnErrorWhereItCannotTell) {
  std::filesystem::remove(DataPath());
  std::filesystem::create_symlink(DataPath(), DataPath());
  const int code = Run({"verify", path_});
  EXPECT_NE(code, 0);
  EXPECT_NE(code, 6) << "nothing is known to be damaged";
  EXPECT_THAT(errors_, HasSubstr(names::DataFile(file_)));
  EXPECT_EQ(text_, "");
}

TEST_F(Ckptutil, DumpsAListAndOneCheckpoint) {
  EXPECT_EQ(Run({"dump", path_}), 0);
  EXPECT_THAT(text_, HasSubstr("team/run"));
  EXPECT_THAT(text_, HasSubstr("best"));
  EXPECT_THAT(text_, HasSubstr("INCARNATION"));
  const std::string table = text_;
  EXPECT_EQ(Run({"dump", path_, "-o", "json"}), 0);
  const auto list = nlohmann::json::parse(text_);
  EXPECT_THAT(table, HasSubstr(list[0]["incarnation"].get<std::string>().substr(0, 12)));
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0]["step"], 5);
  EXPECT_EQ(list[0]["data_bytes"], 6000020);
  EXPECT_EQ(Run({"dump", path_, "team/run@5"}), 0);
  EXPECT_THAT(text_, HasSubstr("t0  U8 [3000000]"));
  for (const char* selector : {"team/run@5", "team/run@best"}) {
    EXPECT_EQ(Run({"dump", path_, selector, "-o", "json"}), 0);
    const auto one = nlohmann::json::parse(text_);
    ASSERT_EQ(one["parts"].size(), 2u);
    const auto& shards = one["parts"][1]["shards"];
    ASSERT_EQ(shards.size(), 2u);
    EXPECT_EQ(shards[0]["key"], "t0");
    EXPECT_EQ(shards[0]["offset"], header_);
    EXPECT_EQ(shards[1]["offset"], header_ + 3000000);
  }
  EXPECT_EQ(Run({"dump", path_, "team/run@latest", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(text_)["step"], 6);
  EXPECT_EQ(Run({"dump", path_, "team/run@7"}), 3);
}

TEST_F(Ckptutil, RebuildsADestroyedIndex) {
  for (const auto& file : std::filesystem::directory_iterator(path_ + "/index")) {
    CutFile(file.path().string(), 3);
  }
  EXPECT_FALSE(Store::Open(path_).ok());
  std::filesystem::create_directory(path_ + "/index.rebuild");  // of an interrupted attempt
  std::ofstream(path_ + "/index.rebuild/CURRENT") << "garbage";
  EXPECT_EQ(Run({"rebuild-index", path_}), 0) << errors_;
  EXPECT_THAT(text_, HasSubstr("indexed 2 checkpoints"));
  EXPECT_FALSE(std::filesystem::exists(path_ + "/index.rebuild"));
  Open();
  EXPECT_EQ(store_->index().CheckpointCount(), 2u);
  EXPECT_EQ(store_->index().FindTag("team/run", "best")->manifest.checkpoint_uid(), uid_.bytes());
  EXPECT_TRUE(store_->Check(uid_).ok());
}

TEST_F(Ckptutil, RebuildLeavesOutWhatIsDamagedAndDeletesNothing) {
  FlipByte(path_ + "/checkpoints/" + names::CheckpointManifest(other_), 30);
  EXPECT_EQ(Run({"rebuild-index", path_}), 6);
  EXPECT_THAT(text_, HasSubstr(other_.hex()));
  Open();
  EXPECT_EQ(store_->index().CheckpointCount(), 1u);
  EXPECT_EQ(store_->FilesOnDisk().size(), 3 * 2 + 2 + 1u);
}

}  // namespace
}  // namespace ckpt
