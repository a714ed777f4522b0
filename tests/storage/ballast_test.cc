#include "server/storage/ballast.h"

#include <sys/stat.h>

#include <filesystem>

#include "gtest/gtest.h"
#include "server/storage/names.h"
#include "tests/fixtures/small_disk.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

constexpr uint64_t kMiB = 1 << 20;

class BallastTest : public testing::Test {
 protected:
  void SetUp() override {
    CKPT_NEED_DISK(disk_);
    auto folder = DataFolder::Open(PosixFileSystem(), disk_ / "data");
    ASSERT_TRUE(folder.ok()) << folder.status();
    folder_ = *std::move(folder);
  }
  // On disk.
  uint64_t Allocated() {
    struct stat file;
    if (stat((folder_->path() + "/" + names::kBallast).c_str(), &file) != 0) return 0;
    return static_cast<uint64_t>(file.st_blocks) * 512;
  }
  const SmallDisk disk_{160};  // a sixteenth is 10 MiB
  std::unique_ptr<DataFolder> folder_;
};

TEST_F(BallastTest, IsASmallPartOfTheDiskAndTakesRealRoom) {
  Ballast ballast(folder_.get());
  EXPECT_EQ(Allocated(), 0u);
  ballast.Fit(100 * kMiB);
  EXPECT_EQ(ballast.bytes(), 10 * kMiB);
  EXPECT_EQ(Allocated(), 10 * kMiB);
  EXPECT_EQ(ballast.GiveUp(), 10 * kMiB);
  EXPECT_EQ(Allocated(), 0u);
  EXPECT_EQ(ballast.GiveUp(), 0u);
}

TEST_F(BallastTest, GrowsAndShrinksWithTheRoom) {
  Ballast ballast(folder_.get());
  for (const uint64_t mib : {3, 7, 10, 5, 6, 0, 1}) {
    ballast.Fit(mib * kMiB);
    EXPECT_EQ(Allocated(), mib * kMiB);
  }
}

TEST_F(BallastTest, TheNextProcessHasIt) {
  Ballast(folder_.get()).Fit(100 * kMiB);
  EXPECT_EQ(Ballast(folder_.get()).GiveUp(), 10 * kMiB);
}

TEST_F(BallastTest, MayBeRemovedByHand) {
  Ballast ballast(folder_.get());
  ballast.Fit(100 * kMiB);
  std::filesystem::remove(folder_->path() + "/" + names::kBallast);
  EXPECT_EQ(ballast.GiveUp(), 0u);
  ballast.Fit(100 * kMiB);
  EXPECT_EQ(Allocated(), 10 * kMiB);
}

TEST_F(BallastTest, WhatIsNotThereIsNotTakenAndWhatWasTakenStays) {
  Ballast ballast(folder_.get());
  ballast.Fit(4 * kMiB);
  disk_.Fill();
  ballast.Fit(100 * kMiB);
  EXPECT_EQ(Allocated(), 4 * kMiB);
  disk_.GiveRoom();
  ballast.Fit(100 * kMiB);
  EXPECT_EQ(Allocated(), 10 * kMiB);
}

TEST_F(BallastTest, LeavesWhatItGaveUpAloneForAWhile) {
  Ballast ballast(folder_.get());
  EXPECT_EQ(ballast.GiveUp(absl::Hours(1)), 0u);
  EXPECT_FALSE(ballast.resting());
  ballast.Fit(100 * kMiB);
  EXPECT_EQ(ballast.GiveUp(absl::Hours(1)), 10 * kMiB);
  EXPECT_TRUE(ballast.resting());
  ballast.Fit(100 * kMiB);
  EXPECT_EQ(Allocated(), 0u);
  ballast.EndRest();
  ballast.Fit(100 * kMiB);
  EXPECT_EQ(Allocated(), 10 * kMiB);
}

}  // namespace
}  // namespace ckpt
