// The index on a disk that forgets what was not synced.
#include <filesystem>

#include "tests/fakes/faulty_disk.h"
#include "tests/fakes/faulty_rocks.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

class IndexPowerCut : public IndexTest {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(path_);  // durable: the data folder sees to it
    Start();
  }
  void TearDown() override { index_.reset(); }  // before what it stands on
  void Start() {
    index_.reset();
    auto index = Index::Open(path_, rocks_.get());
    ASSERT_TRUE(index.ok()) << index.status();
    index_ = *std::move(index);
  }
  void CutPower() {
    index_.reset();
    disk_.PowerLoss();
  }
  // Of the two checkpoints that there are, one goes.
  void ExpectATombstoneOutlivesAPowerCut(CheckpointUid kept, CheckpointUid gone) {
    ASSERT_TRUE(index_->Tombstone(gone).ok());
    CutPower();
    Start();
    EXPECT_EQ(*index_->Tombstones(), std::vector<CheckpointUid>{gone});
    EXPECT_TRUE(index_->GetCheckpoint(kept).ok());
    EXPECT_EQ(index_->CheckpointCount(), 1u);
  }
  const TemporaryFolder shadow_;
  FaultyDisk disk_{shadow_.path()};
  const std::shared_ptr<IndexEnvironment> rocks_ = MakeFaultyRocks(&disk_, 64 << 20);
};

TEST_F(IndexPowerCut, WhatWasSyncedIsThere) {
  const CheckpointUid kept = Put(IdOf("r", 1));
  const CheckpointUid gone = Put(IdOf("r", 2));
  ExpectATombstoneOutlivesAPowerCut(kept, gone);
}

// Found by the crash points: PutCheckpoint is not synced; the next process replayed it from the log
// and went on in another; a power cut took the end of the first log, and RocksDB then dropped the
// second one, synced as it was, for the gap before it.
TEST_F(IndexPowerCut, WhatWasSyncedBehindAnUnsyncedBatchOfTheLastProcessIsThere) {
  const CheckpointUid kept = Put(IdOf("r", 1));
  const CheckpointUid gone = Put(IdOf("r", 2));
  Start();  // the process died, the machine did not
  ExpectATombstoneOutlivesAPowerCut(kept, gone);
}

// Found by failing each call of a start: a sync of the log failed, the next process replayed what
// still read, and its own sync of that log changed nothing; a power cut then took it, the batches
// behind it stayed, and the run counted a checkpoint twice.
TEST_F(IndexPowerCut, WhatAFailedSyncLeftInTheLogLastsFromTheNextStartOn) {
  const CheckpointUid kept = Put(IdOf("r", 1));
  const CheckpointUid gone = Put(IdOf("r", 2));
  disk_.FailOn(FaultyDisk::Call::kSync, ".log", 1, absl::InternalError("told to fail"));
  EXPECT_FALSE(index_->PutLabels(kept, {}).ok());
  index_.reset();
  disk_.Restart();
  Start();
  ExpectATombstoneOutlivesAPowerCut(kept, gone);
}

// The rows of a large layout go past the log: they are there before what references them is.
TEST_F(IndexPowerCut, RowsOfALargeLayoutAreThereWithItsCheckpoint) {
  constexpr size_t kLeaves = 70'000;
  const std::vector<uint64_t> sizes(kLeaves, 8);
  const auto layout = LayoutOfSizes(sizes);
  ASSERT_TRUE(index_->PrepareLayout(*layout).ok());
  const CheckpointUid uid = Put(IdOf("r", 1), sizes);
  ASSERT_TRUE(index_->PutLabels(uid, {}).ok());  // synced, and all before it
  CutPower();
  Start();
  const auto found = index_->FindLayout(layout->digest());
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->serialized(), layout->serialized());
}

TEST_F(IndexPowerCut, ALargeLayoutWhoseTableCannotBeSyncedIsWrittenWithItsCheckpoint) {
  const std::vector<uint64_t> sizes(70'000, 8);
  const auto layout = LayoutOfSizes(sizes);
  disk_.FailOn(FaultyDisk::Call::kSync, ".table", 1, absl::InternalError("told to fail"));
  EXPECT_FALSE(index_->PrepareLayout(*layout).ok());
  Put(IdOf("r", 1), sizes);
  EXPECT_NE(index_->FindLayout(layout->digest()), nullptr);
}

}  // namespace
}  // namespace ckpt
