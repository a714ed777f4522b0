#include <filesystem>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

class DamagedIndex : public IndexTest {};

TEST_F(DamagedIndex, SaysTheWayOut) {
  Put(IdOf("r", 1));
  index_.reset();
  for (const auto& file : std::filesystem::directory_iterator(path_)) {
    if (absl::StartsWith(file.path().filename().string(), "MANIFEST")) {
      CutFile(file.path().string(), 10);
    }
  }
  auto opened = Index::Open(path_);
  ASSERT_TRUE(absl::IsDataLoss(opened.status())) << opened.status();
  EXPECT_THAT(std::string(opened.status().message()), testing::HasSubstr("ckptutil rebuild-index"));
}

TEST_F(DamagedIndex, OneInUseIsNotTakenForDamaged) {
  EXPECT_TRUE(absl::IsFailedPrecondition(Index::Open(path_).status()));
}

TEST_F(DamagedIndex, ATornLogTailLosesOnlyTheTail) {
  const CheckpointUid first = Put(IdOf("r", 1));
  index_.reset();
  Reopen();
  Put(IdOf("r", 2));
  index_.reset();
  std::string newest;
  for (const auto& file : std::filesystem::directory_iterator(path_)) {
    if (file.path().extension() != ".log") continue;
    newest = std::max(newest, file.path().string());
  }
  ASSERT_FALSE(newest.empty());
  CutFile(newest, std::filesystem::file_size(newest) - 5);
  Reopen();
  EXPECT_TRUE(index_->GetCheckpoint(first).ok());
  EXPECT_TRUE(absl::IsNotFound(index_->FindStep("r", 2, std::nullopt).status()));
}

}  // namespace
}  // namespace ckpt
