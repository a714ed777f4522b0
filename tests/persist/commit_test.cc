#include <thread>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

using Call = FaultyFileSystem::Call;

class Commit : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(PosixFileSystem()->MakeFolder(folder_.path() + "/shadow").ok());
    files_ = std::make_unique<FaultyFileSystem>(folder_.path() + "/shadow");
    auto store = Store::Open(folder_.path() + "/data", files_.get());
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  TemporaryFolder folder_;
  std::unique_ptr<FaultyFileSystem> files_;
  std::unique_ptr<Store> store_;
};

TEST_F(Commit, MakesACheckpointFindable) {
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  auto record = store_->Save(IdOf("r", 7), uid, {1000, 5}, 3);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->data_bytes, 3 * 1005u);
  EXPECT_EQ(record->shard_count, 6u);
  EXPECT_TRUE(record->manifest.has_committed_at());
  auto found = store_->index().FindLatest("r", kStepMax, true);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->manifest.SerializeAsString(), record->manifest.SerializeAsString());
  EXPECT_EQ(found->data_bytes, record->data_bytes);
  EXPECT_TRUE(store_->Check(uid).ok()) << store_->Check(uid);
}

TEST_F(Commit, AnEmptyStateIsACheckpoint) {
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  ASSERT_TRUE(store_->Save(IdOf("r", 7), uid, {}).ok());
  EXPECT_TRUE(store_->Check(uid).ok());
  EXPECT_EQ(store_->index().GetCheckpoint(uid)->data_bytes, 0u);
}

TEST_F(Commit, AgainIsTheSame) {
  const CheckpointId id = IdOf("r", 7);
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  auto part = store_->Persist(MakePart(id, uid, LayoutOfSizes({9}), 1));
  ASSERT_TRUE(part.ok());
  auto first = store_->persister().Commit(id, uid, 1, {0}, {*part});
  auto second = store_->persister().Commit(id, uid, 1, {0}, {*part});
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->manifest.SerializeAsString(), second->manifest.SerializeAsString());
  EXPECT_EQ(store_->index().CheckpointCount(), 1u);
}

TEST_F(Commit, RefusesPartsThatAreNotTheShare) {
  const CheckpointId id = IdOf("r", 7);
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  auto part = store_->Persist(MakePart(id, uid, LayoutOfSizes({9}), 1));
  ASSERT_TRUE(part.ok());
  EXPECT_TRUE(
      absl::IsInvalidArgument(store_->persister().Commit(id, uid, 2, {0, 1}, {*part}).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(store_->persister().Commit(id, uid, 2, {1}, {*part}).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->index().GetCheckpoint(uid).status()));
}

TEST_F(Commit, ReplacesAnEarlierAttemptAtTheStepAndDeletesIt) {
  const CheckpointUid first = CheckpointUid::TimeOrdered();
  const CheckpointUid second = CheckpointUid::TimeOrdered();
  ASSERT_TRUE(store_->Save(IdOf("r", 7, 1), first, {100000}, 2, 1).ok());
  ASSERT_TRUE(store_->Save(IdOf("r", 7, 2), second, {100000}, 2, 50).ok());
  EXPECT_EQ(store_->index().FindStep("r", 7, std::nullopt)->manifest.checkpoint_uid(),
            second.bytes());
  EXPECT_TRUE(absl::IsNotFound(store_->index().GetCheckpoint(first).status()));
  EXPECT_TRUE(store_->Check(second, 50).ok());
  EXPECT_EQ(store_->FilesOnDisk().size(), 2 * 2 + 1u);
}

TEST_F(Commit, DoesNotDeleteWhatItReplacesWhenThatIsTagged) {
  const CheckpointUid first = CheckpointUid::TimeOrdered();
  const CheckpointUid second = CheckpointUid::TimeOrdered();
  ASSERT_TRUE(store_->Save(IdOf("r", 7, 1), first, {10}).ok());
  v1::Labels labels;
  labels.add_tags("best");
  ASSERT_TRUE(store_->folder().WriteLabels(first, labels).ok());
  ASSERT_TRUE(store_->index().PutLabels(first, labels).ok());
  ASSERT_TRUE(store_->Save(IdOf("r", 7, 2), second, {10}, 1, 9).ok());
  EXPECT_EQ(store_->index().FindTag("r", "best")->manifest.checkpoint_uid(), first.bytes());
  EXPECT_TRUE(store_->Check(first).ok());
  EXPECT_EQ(store_->index().FindStep("r", 7, std::nullopt)->manifest.checkpoint_uid(),
            second.bytes());
}

// A tag that is answered while another attempt is committed at its step keeps what it names.
TEST_F(Commit, ATagThatIsAnsweredWhileItsCheckpointIsReplacedStands) {
  for (uint64_t step = 1; step <= 30; ++step) {
    const CheckpointUid replaced = CheckpointUid::TimeOrdered();
    ASSERT_TRUE(store_->Save(IdOf("r", step, 1), replaced, {9}).ok());
    v1::Labels labels;
    labels.add_tags(absl::StrCat("tag-", step));
    absl::Status tagged;
    std::thread tagging([&] { tagged = store_->persister().PutLabels(replaced, labels); });
    EXPECT_TRUE(store_->Save(IdOf("r", step, 2), CheckpointUid::TimeOrdered(), {9}).ok());
    tagging.join();
    EXPECT_TRUE(tagged.ok() || absl::IsNotFound(tagged)) << tagged;
    EXPECT_EQ(store_->index().FindTag("r", labels.tags(0)).ok(), tagged.ok());
    EXPECT_EQ(store_->folder().ReadLabels(replaced)->tags_size(), tagged.ok() ? 1 : 0);
  }
}

TEST_F(Commit, OfAnOlderIncarnationDoesNotReplaceTheNewer) {
  const CheckpointUid newer = CheckpointUid::TimeOrdered();
  const CheckpointUid late = CheckpointUid::TimeOrdered();
  ASSERT_TRUE(store_->Save(IdOf("r", 7, 2), newer, {10}).ok());
  ASSERT_TRUE(store_->Save(IdOf("r", 7, 1), late, {10}).ok());
  EXPECT_EQ(store_->index().FindStep("r", 7, std::nullopt)->manifest.checkpoint_uid(),
            newer.bytes());
  EXPECT_TRUE(store_->Check(newer).ok());
}

TEST_F(Commit, ThatFailsLeavesNoManifestAndCanBeDiscarded) {
  const CheckpointId id = IdOf("r", 7);
  for (const Call call : {Call::kCreate, Call::kWrite, Call::kSync, Call::kRename}) {
    const CheckpointUid uid = CheckpointUid::TimeOrdered();
    const auto fail = [&] {
      files_->FailOn(call, ".checkpoint", 1, absl::ResourceExhaustedError("no space"));
    };
    if (call != Call::kRename) fail();  // while it is prepared: but for the sync that is survived
    auto part = store_->Persist(MakePart(id, uid, LayoutOfSizes({9}), 1));
    ASSERT_TRUE(part.ok());
    if (call != Call::kSync) fail();
    EXPECT_TRUE(
        absl::IsResourceExhausted(store_->persister().Commit(id, uid, 1, {0}, {*part}).status()));
    EXPECT_TRUE(absl::IsNotFound(store_->index().GetCheckpoint(uid).status()));
    store_->persister().Discard(uid, {*part});
    EXPECT_THAT(store_->FilesOnDisk(), testing::IsEmpty());
  }
}

TEST_F(Commit, WhoseLastFolderSyncFailsIsTakenBack) {
  const CheckpointId id = IdOf("r", 7);
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  auto part = store_->Persist(MakePart(id, uid, LayoutOfSizes({9}), 1));
  ASSERT_TRUE(part.ok());
  files_->FailOn(Call::kSyncFolder, "/checkpoints", 1, absl::InternalError("input/output error"));
  EXPECT_FALSE(store_->persister().Commit(id, uid, 1, {0}, {*part}).ok());
  EXPECT_TRUE(absl::IsNotFound(store_->folder().ReadCheckpointManifest(uid).status()));
}

TEST_F(Commit, ItsManifestIsWrittenWhileTheLastPartBecomesDurable) {
  const CheckpointId id = IdOf("r", 7);
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  auto first = store_->Persist(MakePart(id, uid, LayoutOfSizes({9}), 1, 0, 2));
  EXPECT_EQ(store_->FilesOnDisk().size(), 2u);
  auto second = store_->Persist(MakePart(id, uid, LayoutOfSizes({9}), 2, 1, 2));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_THAT(store_->FilesOnDisk(), testing::Contains(testing::EndsWith(".checkpoint.partial")));
  for (const Call call : {Call::kCreate, Call::kWrite, Call::kSync}) {
    files_->FailOn(call, ".checkpoint", 1, absl::InternalError("not to be called"));
  }
  auto record = store_->persister().Commit(id, uid, 2, {0, 1}, {*first, *second});
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(store_->folder().ReadCheckpointManifest(uid)->SerializeAsString(),
            record->manifest.SerializeAsString());
  EXPECT_EQ(store_->FilesOnDisk().size(), 2 * 2 + 1u);
}

TEST_F(Commit, APreparedManifestThatNoLongerHoldsIsWrittenAnew) {
  const CheckpointUid first = CheckpointUid::TimeOrdered();
  const CheckpointUid second = CheckpointUid::TimeOrdered();
  auto part = store_->Persist(MakePart(IdOf("r", 7, 2), second, LayoutOfSizes({9}), 1));
  ASSERT_TRUE(part.ok());
  ASSERT_TRUE(store_->Save(IdOf("r", 7, 1), first, {9}).ok());  // wins the step meanwhile
  auto record = store_->persister().Commit(IdOf("r", 7, 2), second, 1, {0}, {*part});
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->manifest.replaces_uid(), first.bytes());
  EXPECT_EQ(store_->folder().ReadCheckpointManifest(second)->replaces_uid(), first.bytes());
  EXPECT_TRUE(absl::IsNotFound(store_->index().GetCheckpoint(first).status()));
}

TEST_F(Commit, WhatWasPreparedGoesWithTheParts) {
  const CheckpointId id = IdOf("r", 7);
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  auto part = store_->Persist(MakePart(id, uid, LayoutOfSizes({9}), 1));
  ASSERT_TRUE(part.ok());
  EXPECT_EQ(store_->FilesOnDisk().size(), 3u);
  store_->persister().Discard(uid, {*part});
  EXPECT_THAT(store_->FilesOnDisk(), testing::IsEmpty());
  // As well where a part of it fails at last.
  files_->FailOn(Call::kSync, "/objects/", 1, absl::InternalError("input/output error"));
  EXPECT_FALSE(store_->Persist(MakePart(id, uid, LayoutOfSizes({9}), 1)).ok());
  EXPECT_THAT(store_->FilesOnDisk(), testing::IsEmpty());
}

TEST_F(Commit, DiscardNeverTouchesWhatIsCommitted) {
  const CheckpointId id = IdOf("r", 7);
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  auto part = store_->Persist(MakePart(id, uid, LayoutOfSizes({9}), 1));
  ASSERT_TRUE(part.ok());
  ASSERT_TRUE(store_->persister().Commit(id, uid, 1, {0}, {*part}).ok());
  store_->persister().Discard(uid, {*part});
  EXPECT_TRUE(store_->Check(uid).ok());
}

}  // namespace
}  // namespace ckpt
