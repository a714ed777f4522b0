// Who opened the index is told of writes that fail: the disk is full, or no batch is taken any
// more.
#include "tests/fakes/faulty_disk.h"
#include "tests/fakes/faulty_rocks.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

class IndexTroublesTest : public IndexTest {
 protected:
  void SetUp() override {
    auto index =
        Index::Open(path_, rocks_.get(),
                    {.full = [this] { ++full_; },
                     .broken = [this](const absl::Status& why) { broken_.push_back(why); }});
    ASSERT_TRUE(index.ok()) << index.status();
    index_ = *std::move(index);
    uid_ = Put(IdOf("r", 1));
  }
  void TearDown() override { index_.reset(); }  // before what it stands on
  // A synced batch whose write to the log fails with this.
  absl::Status WriteThatFails(absl::Status status) {
    disk_.FailOn(FaultyDisk::Call::kWrite, ".log", 1, std::move(status));
    return index_->PutLabels(uid_, {});
  }
  const TemporaryFolder shadow_;
  FaultyDisk disk_{shadow_.path()};
  const std::shared_ptr<IndexEnvironment> rocks_ = MakeFaultyRocks(&disk_, 64 << 20);
  CheckpointUid uid_;
  int full_ = 0;
  std::vector<absl::Status> broken_;
};

TEST_F(IndexTroublesTest, AFullDisk) {
  const absl::Status written = WriteThatFails(absl::ResourceExhaustedError("told to be full"));
  EXPECT_TRUE(absl::IsResourceExhausted(written)) << written;
  EXPECT_EQ(full_, 1);
  EXPECT_TRUE(broken_.empty());
}

TEST_F(IndexTroublesTest, ALogThatCannotBeWritten) {
  const absl::Status written = WriteThatFails(absl::InternalError("told to fail"));
  EXPECT_TRUE(absl::IsInternal(written)) << written;
  EXPECT_EQ(full_, 0);
  EXPECT_EQ(broken_, std::vector<absl::Status>{written});
}

// RocksDB takes it for any other error, and nothing more.
TEST_F(IndexTroublesTest, ADiskQuotaThatIsUsedUp) {
  const absl::Status written = WriteThatFails(absl::InternalError("Disk quota exceeded"));
  EXPECT_TRUE(absl::IsResourceExhausted(written)) << written;
  EXPECT_EQ(full_, 0);
  EXPECT_EQ(broken_, std::vector<absl::Status>{written});
}

TEST_F(IndexTroublesTest, ATableOfALargeLayoutThatDoesNotFit) {
  const auto layout = LayoutOfSizes(std::vector<uint64_t>(70'000, 8));
  disk_.FailOn(FaultyDisk::Call::kWrite, ".table", 1, absl::ResourceExhaustedError("full"));
  const absl::Status prepared = index_->PrepareLayout(*layout);
  EXPECT_TRUE(absl::IsResourceExhausted(prepared)) << prepared;
  EXPECT_EQ(full_, 1);
  EXPECT_TRUE(broken_.empty());
}

}  // namespace
}  // namespace ckpt
