#include "server/storage/ballast.h"

#include <sys/stat.h>

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
  ballast.Take(100 * kMiB);
  EXPECT_EQ(ballast.bytes(), 10 * kMiB);
  EXPECT_GE(Allocated(), 10 * kMiB);
  EXPECT_EQ(ballast.GiveUp(), 10 * kMiB);
  EXPECT_EQ(Allocated(), 0u);
  EXPECT_EQ(ballast.GiveUp(), 0u);
}

TEST_F(BallastTest, GrowsAsThereIsRoom) {
  Ballast ballast(folder_.get());
  ballast.Take(3 * kMiB);
  EXPECT_EQ(ballast.bytes(), 3 * kMiB);
  ballast.Take(0);
  EXPECT_EQ(ballast.bytes(), 3 * kMiB);
  ballast.Take(4 * kMiB);
  EXPECT_EQ(ballast.bytes(), 7 * kMiB);
  EXPECT_GE(Allocated(), 7 * kMiB);
}

TEST_F(BallastTest, TheNextProcessHasIt) {
  Ballast(folder_.get()).Take(100 * kMiB);
  EXPECT_EQ(Ballast(folder_.get()).GiveUp(), 10 * kMiB);
}

TEST_F(BallastTest, WhatIsNotThereIsNotTaken) {
  Ballast ballast(folder_.get());
  disk_.Fill();
  ballast.Take(100 * kMiB);
  EXPECT_EQ(ballast.bytes(), 0u);
  EXPECT_EQ(Allocated(), 0u);
  disk_.GiveRoom();
  ballast.Take(100 * kMiB);
  EXPECT_EQ(ballast.bytes(), 10 * kMiB);
}

}  // namespace
}  // namespace ckpt
