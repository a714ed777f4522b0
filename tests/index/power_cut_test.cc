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

}  // namespace
}  // namespace ckpt
