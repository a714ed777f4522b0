#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

class Delete : public testing::Test {
 protected:
  void SetUp() override {
    auto store = Store::Open(folder_.path() + "/data");
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    ASSERT_TRUE(store_->Save(IdOf("r", 1), uid_, {5000, 7}, 2).ok());
    ASSERT_TRUE(store_->Save(IdOf("r", 2), other_, {5000, 7}, 2, 30).ok());
  }
  FileId FirstDataFile(CheckpointUid uid) {
    return *FileId::FromBytes(store_->index().GetPartHead(uid, 0)->files(0).file_id(), "id");
  }
  TemporaryFolder folder_;
  std::unique_ptr<Store> store_;
  const CheckpointUid uid_ = CheckpointUid::TimeOrdered();
  const CheckpointUid other_ = CheckpointUid::TimeOrdered();
};

TEST_F(Delete, RemovesTheCheckpointAndNothingElse) {
  ASSERT_TRUE(store_->folder().WriteLabels(uid_, v1::Labels()).ok());
  ASSERT_TRUE(store_->persister().Delete(uid_).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->index().GetCheckpoint(uid_).status()));
  EXPECT_EQ(store_->FilesOnDisk().size(), 2 * 2 + 1u);
  EXPECT_TRUE(store_->Check(other_, 30).ok());
  EXPECT_THAT(*store_->index().Tombstones(), testing::IsEmpty());
  EXPECT_TRUE(absl::IsNotFound(store_->persister().Delete(uid_)));
}

TEST_F(Delete, APinnedFileStaysReadableUntilItsLastPinGoes) {
  const FileId file = FirstDataFile(uid_);
  auto first = store_->folder().Pin(file);
  auto second = store_->folder().Pin(file);
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE(store_->persister().Delete(uid_).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->folder().Pin(file).status()));
  *first = DataFolder::FilePin();
  EXPECT_TRUE(store_->folder().OpenDataFile(file).ok());
  *second = DataFolder::FilePin();
  EXPECT_TRUE(absl::IsNotFound(store_->folder().OpenDataFile(file).status()));
  EXPECT_EQ(store_->FilesOnDisk().size(), 2 * 2 + 1u);
}

TEST_F(Delete, AFileThatAnotherCheckpointReferencesStays) {
  // A later version of the format may do so; the count must be right from the first one on.
  const CheckpointId id = IdOf("r", 3);
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  DurablePart part;
  part.reference = store_->index().GetCheckpoint(uid_)->manifest.parts(0);
  part.manifest = *store_->folder().ReadPartManifest(part.reference);
  part.layout = PartLayout::FromProto(part.manifest.layout()).value();
  part.manifest.clear_layout();
  part.manifest.set_checkpoint_uid(uid.bytes());
  ASSERT_TRUE(store_->persister().Commit(id, uid, 1, {0}, {part}).ok());
  ASSERT_TRUE(store_->persister().Delete(uid_).ok());
  EXPECT_TRUE(store_->folder().OpenDataFile(FirstDataFile(uid)).ok());
  EXPECT_TRUE(store_->folder().ReadPartManifest(part.reference).ok());
  ASSERT_TRUE(store_->persister().Delete(uid).ok());
  EXPECT_EQ(store_->FilesOnDisk().size(), 2 * 2 + 1u);
}

}  // namespace
}  // namespace ckpt
