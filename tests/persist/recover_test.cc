#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/storage/names.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

class Recover : public testing::Test {
 protected:
  void SetUp() override { Open(); }
  void Open() {
    store_.reset();
    auto store = Store::Open(path_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  void ForgetIndex() {
    store_.reset();
    std::filesystem::remove_all(path_ + "/index");
    Open();
  }
  RecoveryReport Run(const absl::flat_hash_set<FileId>& keep = {}) {
    auto report = RecoverDataFolder(&store_->folder(), &store_->index(), keep);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *report : RecoveryReport();
  }
  std::string ManifestPath(CheckpointUid uid) {
    return store_->folder().CheckpointsFolder() + "/" + names::CheckpointManifest(uid);
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_.path() + "/data";
  std::unique_ptr<Store> store_;
  const CheckpointUid uid_ = CheckpointUid::TimeOrdered();
  const CheckpointUid other_ = CheckpointUid::TimeOrdered();
};

TEST_F(Recover, AnEmptyFolderIsFine) {
  const RecoveryReport report = Run();
  EXPECT_EQ(report.checkpoints + report.indexed + report.orphans_removed + report.damaged, 0u);
}

TEST_F(Recover, IndexesWhatTheIndexLacks) {
  ASSERT_TRUE(store_->Save(IdOf("r", 1), uid_, {100}, 2).ok());
  v1::Labels labels;
  labels.add_tags("best");
  (*labels.mutable_metrics())["loss"] = 0.5;
  ASSERT_TRUE(store_->folder().WriteLabels(uid_, labels).ok());
  const auto before = store_->index().GetCheckpoint(uid_);
  ForgetIndex();
  const RecoveryReport report = Run();
  EXPECT_EQ(report.indexed, 1u);
  EXPECT_EQ(report.checkpoints, 1u);
  const auto after = store_->index().GetCheckpoint(uid_);
  ASSERT_TRUE(after.ok());
  EXPECT_EQ(after->manifest.SerializeAsString(), before->manifest.SerializeAsString());
  EXPECT_EQ(after->labels.metrics().at("loss"), 0.5);
  EXPECT_EQ(after->shard_count, before->shard_count);
  EXPECT_TRUE(store_->index().FindTag("r", "best").ok());
  EXPECT_EQ(Run().indexed, 0u);
}

TEST_F(Recover, FinishesADeletionThatACrashInterrupted) {
  ASSERT_TRUE(store_->Save(IdOf("r", 1), uid_, {100}, 2).ok());
  ASSERT_TRUE(store_->index().Tombstone(uid_).ok());
  Open();
  EXPECT_EQ(Run().deletions_finished, 1u);
  EXPECT_THAT(store_->FilesOnDisk(), testing::IsEmpty());
  EXPECT_THAT(*store_->index().Tombstones(), testing::IsEmpty());
}

// A folder that was restored in part, or a mount that is missing: no file may go for that.
TEST_F(Recover, ManifestsThatAreGoneWithoutATombstoneCostNothingElse) {
  ASSERT_TRUE(store_->Save(IdOf("r", 1), uid_, {100}).ok());
  const std::string path = store_->folder().CheckpointsFolder();
  std::filesystem::rename(path, path + ".away");
  std::filesystem::create_directory(path);
  const size_t files = store_->FilesOnDisk().size();
  const RecoveryReport report = Run();
  EXPECT_EQ(report.damaged, 1u);
  EXPECT_THAT(report.damage[0], testing::HasSubstr("r@1"));
  EXPECT_EQ(report.orphans_removed, 0u);
  EXPECT_EQ(store_->FilesOnDisk().size(), files);
  std::filesystem::remove(path);
  std::filesystem::rename(path + ".away", path);
  EXPECT_EQ(Run().damaged, 0u);
  EXPECT_TRUE(store_->index().GetCheckpoint(uid_).ok());
}

TEST_F(Recover, RemovesOrphansButNotWhatStagingKnows) {
  auto orphan = store_->Persist(MakePart(IdOf("r", 1), uid_, LayoutOfSizes({100}), 1));
  auto kept = store_->Persist(MakePart(IdOf("r", 2), other_, LayoutOfSizes({100}), 1));
  ASSERT_TRUE(orphan.ok() && kept.ok());
  const FileId keep = *FileId::FromBytes(kept->reference.manifest_id(), "id");
  EXPECT_EQ(Run({keep}).orphans_removed, 2u);
  EXPECT_TRUE(store_->folder().ReadPartManifest(kept->reference).ok());
  ASSERT_TRUE(store_->persister().Commit(IdOf("r", 2), other_, 1, {0}, {*kept}).ok());
  EXPECT_TRUE(store_->Check(other_).ok());
}

TEST_F(Recover, ADamagedManifestIsReportedAndStopsTheRemovalOfOrphans) {
  ASSERT_TRUE(store_->Save(IdOf("r", 1), uid_, {100}).ok());
  ASSERT_TRUE(store_->Save(IdOf("r", 2), other_, {100}).ok());
  FlipByte(ManifestPath(uid_), 40);
  const size_t files = store_->FilesOnDisk().size();
  ForgetIndex();
  const RecoveryReport report = Run();
  EXPECT_EQ(report.damaged, 1u);
  ASSERT_EQ(report.damage.size(), 1u);
  EXPECT_THAT(report.damage[0], testing::HasSubstr(uid_.hex()));
  EXPECT_EQ(report.orphans_removed, 0u);
  EXPECT_EQ(store_->FilesOnDisk().size(), files);
  EXPECT_TRUE(store_->index().GetCheckpoint(other_).ok());
}

TEST_F(Recover, ACheckpointWithoutOneOfItsPartsStaysHidden) {
  ASSERT_TRUE(store_->Save(IdOf("r", 1), uid_, {100}, 2).ok());
  const auto record = store_->index().GetCheckpoint(uid_);
  ASSERT_TRUE(
      store_->folder()
          .DeletePartManifest(*FileId::FromBytes(record->manifest.parts(1).manifest_id(), "id"))
          .ok());
  ForgetIndex();
  EXPECT_EQ(Run().damaged, 1u);
  EXPECT_EQ(store_->index().CheckpointCount(), 0u);
}

TEST_F(Recover, FinishesAReplacement) {
  ASSERT_TRUE(store_->Save(IdOf("r", 1, 1), uid_, {100}).ok());
  // As if the process had died between commit and deletion: the index knows only the old one.
  auto part = store_->Persist(MakePart(IdOf("r", 1, 2), other_, LayoutOfSizes({100}), 5));
  ASSERT_TRUE(part.ok());
  v1::CheckpointManifest manifest = store_->index().GetCheckpoint(uid_)->manifest;
  manifest.set_replaces_uid(uid_.bytes());
  manifest.set_checkpoint_uid(other_.bytes());
  *manifest.mutable_id() = IdOf("r", 1, 2).ToProto();
  *manifest.mutable_parts(0) = part->reference;
  ASSERT_TRUE(store_->folder().PublishCheckpointManifest(manifest).ok());
  Open();
  const RecoveryReport report = Run();
  EXPECT_EQ(report.indexed, 1u);
  EXPECT_EQ(report.deletions_finished, 1u);
  EXPECT_TRUE(absl::IsNotFound(store_->index().GetCheckpoint(uid_).status()));
  EXPECT_TRUE(store_->Check(other_, 5).ok());
  EXPECT_EQ(store_->FilesOnDisk().size(), 3u);
}

TEST_F(Recover, BringsLabelsInLine) {
  ASSERT_TRUE(store_->Save(IdOf("r", 1), uid_, {100}).ok());
  v1::Labels labels;
  labels.add_tags("best");
  labels.set_pinned(true);
  ASSERT_TRUE(store_->folder().WriteLabels(uid_, labels).ok());    // died before the index batch
  ASSERT_TRUE(store_->folder().WriteLabels(other_, labels).ok());  // of nothing
  Run();
  EXPECT_TRUE(store_->index().GetCheckpoint(uid_)->labels.pinned());
  EXPECT_TRUE(store_->index().FindTag("r", "best").ok());
  EXPECT_EQ(store_->folder().ListLabels()->size(), 1u);
}

TEST_F(Recover, AFileOfLabelsThatHasGoneTakesNoPinOff) {
  ASSERT_TRUE(store_->Save(IdOf("r", 1), uid_, {100}).ok());
  v1::Labels labels;
  labels.add_tags("best");
  labels.set_pinned(true);
  ASSERT_TRUE(store_->folder().WriteLabels(uid_, labels).ok());
  ASSERT_TRUE(store_->index().PutLabels(uid_, labels).ok());
  std::filesystem::remove(
      absl::StrCat(store_->folder().CheckpointsFolder(), "/", names::Labels(uid_)));
  Open();
  Run();
  EXPECT_TRUE(store_->index().GetCheckpoint(uid_)->labels.pinned());
  EXPECT_TRUE(store_->folder().ReadLabels(uid_)->pinned());
  // Taken off by somebody, they stay off.
  ASSERT_TRUE(store_->folder().WriteLabels(uid_, {}).ok());
  Open();
  Run();
  EXPECT_FALSE(store_->index().GetCheckpoint(uid_)->labels.pinned());
}

TEST_F(Recover, AManifestThatIsGoneTakesNoPinOff) {
  ASSERT_TRUE(store_->Save(IdOf("r", 1), uid_, {100}).ok());
  v1::Labels labels;
  labels.set_pinned(true);
  ASSERT_TRUE(store_->folder().WriteLabels(uid_, labels).ok());
  ASSERT_TRUE(store_->index().PutLabels(uid_, labels).ok());
  const std::string manifest =
      absl::StrCat(store_->folder().CheckpointsFolder(), "/", names::CheckpointManifest(uid_));
  for (const bool with_labels : {true, false}) {
    std::filesystem::rename(manifest, manifest + ".away");
    if (!with_labels) {
      std::filesystem::remove(
          absl::StrCat(store_->folder().CheckpointsFolder(), "/", names::Labels(uid_)));
    }
    for (int start = 0; start < 2; ++start) {
      Open();
      Run();
    }
    std::filesystem::rename(manifest + ".away", manifest);
    Open();
    Run();
    EXPECT_TRUE(store_->index().GetCheckpoint(uid_)->labels.pinned()) << with_labels;
    EXPECT_TRUE(store_->folder().ReadLabels(uid_)->pinned()) << with_labels;
  }
}

TEST_F(Recover, ATagInTwoLabelFilesStaysWhereTheIndexHasIt) {
  ASSERT_TRUE(store_->Save(IdOf("r", 1), uid_, {100}).ok());
  ASSERT_TRUE(store_->Save(IdOf("r", 2), other_, {100}).ok());
  v1::Labels labels;
  labels.add_tags("best");
  // Moved from the newer to the older one; died before the newer one's file was rewritten.
  ASSERT_TRUE(store_->folder().WriteLabels(other_, labels).ok());
  ASSERT_TRUE(store_->index().PutLabels(other_, labels).ok());
  ASSERT_TRUE(store_->folder().WriteLabels(uid_, labels).ok());
  ASSERT_TRUE(store_->index().PutLabels(uid_, labels).ok());
  for (int start = 0; start < 2; ++start) {
    Open();
    Run();
    EXPECT_EQ(store_->index().FindTag("r", "best")->manifest.checkpoint_uid(), uid_.bytes());
    EXPECT_EQ(store_->folder().ReadLabels(other_)->tags_size(), 0);
  }
  ForgetIndex();
  Run();
  EXPECT_EQ(store_->index().FindTag("r", "best")->manifest.checkpoint_uid(), uid_.bytes());
}

}  // namespace
}  // namespace ckpt
