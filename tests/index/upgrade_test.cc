// An index of an older format is brought up to date when it is opened. format_1/ was written by the
// last program of that format: checkpoint r@1 and, with a tombstone, r@2, of two ranks each:
// PER_RANK U8 tensors t0 to t2 of 100, 3 MiB and 7 bytes, and the value `seed`.
#include <filesystem>

#include "gmock/gmock.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

class IndexUpgrade : public IndexTest {
 protected:
  void SetUp() override {
    std::filesystem::copy(CKPT_INDEX_FORMAT_1, path_);
    Reopen();
  }
};

TEST_F(IndexUpgrade, KeepsCheckpointsPartsAndTombstones) {
  for (int start = 0; start < 2; ++start) {
    const auto record = index_->FindStep("r", 1, std::nullopt);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(index_->CheckpointCount(), 1u);
    ASSERT_EQ(index_->Tombstones()->size(), 1u);
    for (const CheckpointUid uid :
         {*CheckpointUid::FromBytes(record->manifest.checkpoint_uid(), "uid"),
          index_->Tombstones()->at(0)}) {
      for (uint32_t rank = 0; rank < 2; ++rank) {
        const auto part = WholePart(uid, rank);
        ASSERT_TRUE(part.ok()) << part.status();
        EXPECT_EQ(part->files_size(), 1);
        EXPECT_EQ(part->files(0).header_length(), 4096u);
        EXPECT_EQ(part->layout().leaves_size(), 4);
        EXPECT_THAT(part->block_hashes(),
                    testing::ElementsAre(1000 * (rank + 1), 1000 * (rank + 1) + 1,
                                         1000 * (rank + 1) + 2, 1000 * (rank + 1) + 3,
                                         1000 * (rank + 1) + 4));
        ASSERT_EQ(part->values().entries_size(), 1);
        EXPECT_EQ(part->values().entries(0).value().integer(), 70 + rank);
        EXPECT_EQ(index_->GetPartHead(uid, rank)->block_hashes_size(), 0);
        const auto leaves = index_->OpenLeaves(part->layout_digest());
        ASSERT_TRUE(leaves.ok()) << leaves.status();
        std::vector<std::string> keys;
        absl::Status status = (*leaves)->Seek("");
        for (; status.ok() && (*leaves)->valid(); status = (*leaves)->Next()) {
          keys.emplace_back((*leaves)->printed_key());
        }
        EXPECT_TRUE(status.ok()) << status;
        EXPECT_THAT(keys, testing::ElementsAre("seed", "t0", "t1", "t2"));
      }
    }
    Reopen();
  }
  ASSERT_TRUE(index_->FinishTombstone(index_->Tombstones()->at(0)).ok());
  EXPECT_TRUE(index_->FindStep("r", 1, std::nullopt).ok());
}

}  // namespace
}  // namespace ckpt
