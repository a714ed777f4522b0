#include <filesystem>

#include "common/limits.h"
#include "gmock/gmock.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class Checkpoints : public IndexTest {};

TEST_F(Checkpoints, AreFoundByUidAndStepAfterReopening) {
  const Made made = Make(IdOf("r", 5), {100, 200}, 3);
  v1::Labels labels;
  labels.set_note("hello");
  ASSERT_TRUE(index_->PutCheckpoint(made.manifest, made.parts, labels).ok());
  Reopen();
  auto record = index_->GetCheckpoint(made.uid);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->manifest.SerializeAsString(), made.manifest.SerializeAsString());
  EXPECT_EQ(record->labels.note(), "hello");
  EXPECT_EQ(record->shard_count, 6u);
  EXPECT_EQ(record->data_bytes, 900u);
  EXPECT_EQ(index_->FindStep("r", 5, std::nullopt)->manifest.checkpoint_uid(), made.uid.bytes());
  for (uint32_t rank = 0; rank < 3; ++rank) {
    auto part = WholePart(made.uid, rank);
    ASSERT_TRUE(part.ok()) << part.status();
    EXPECT_EQ(part->SerializeAsString(), made.parts[rank].SerializeAsString());
    EXPECT_FALSE(index_->GetPartHead(made.uid, rank)->has_layout());
  }
  EXPECT_TRUE(absl::IsNotFound(index_->GetPartHead(made.uid, 3).status()));
}

TEST_F(Checkpoints, WhatIsNotThereIsNotFound) {
  Put(IdOf("r", 5));
  EXPECT_TRUE(absl::IsNotFound(index_->GetCheckpoint(CheckpointUid::TimeOrdered()).status()));
  EXPECT_TRUE(absl::IsNotFound(index_->FindStep("r", 4, std::nullopt).status()));
  EXPECT_TRUE(absl::IsNotFound(index_->FindStep("r", 5, IncarnationOf(9)).status()));
  EXPECT_TRUE(absl::IsNotFound(index_->FindStep("s", 5, std::nullopt).status()));
  EXPECT_TRUE(absl::IsNotFound(index_->FindLatest("s", kStepMax, false).status()));
  EXPECT_TRUE(absl::IsNotFound(index_->FindLatest("r", 4, false).status()));
  EXPECT_TRUE(absl::IsNotFound(index_->Tombstone(CheckpointUid::TimeOrdered())));
  EXPECT_TRUE(absl::IsNotFound(index_->PutLabels(CheckpointUid::TimeOrdered(), v1::Labels())));
}

TEST_F(Checkpoints, TheGreatestIncarnationOfAStepWinsThenTheGreatestUid) {
  Put(IdOf("r", 5, 2));
  const CheckpointUid winner = Put(IdOf("r", 5, 7));
  const CheckpointUid other = Put(IdOf("r", 5, 3));
  EXPECT_EQ(index_->FindStep("r", 5, std::nullopt)->manifest.checkpoint_uid(), winner.bytes());
  EXPECT_EQ(index_->FindStep("r", 5, IncarnationOf(3))->manifest.checkpoint_uid(), other.bytes());
  const CheckpointUid later = Put(IdOf("r", 5, 7));
  EXPECT_EQ(index_->FindStep("r", 5, std::nullopt)->manifest.checkpoint_uid(), later.bytes());
  EXPECT_THAT(Steps("r", std::nullopt), ElementsAre(5));
}

TEST_F(Checkpoints, TheNewestStepIsFoundAmongOtherRuns) {
  for (const uint64_t step : {uint64_t{0}, uint64_t{9}, uint64_t{256}, kStepMax}) {
    Put(IdOf("team/a", step));
    Put(IdOf("team/a-longer", step));
    Put(IdOf("team", 3));
  }
  EXPECT_EQ(index_->FindLatest("team/a", kStepMax, true)->manifest.id().step(), kStepMax);
  EXPECT_EQ(index_->FindLatest("team/a", kStepMax - 1, true)->manifest.id().step(), 256u);
  EXPECT_EQ(index_->FindLatest("team/a", 255, true)->manifest.id().step(), 9u);
  EXPECT_EQ(index_->FindLatest("team/a", 8, true)->manifest.id().step(), 0u);
  EXPECT_THAT(Steps("team/a", std::nullopt), ElementsAre(kStepMax, 256, 9, 0));
  EXPECT_THAT(Steps("team/a", 9), ElementsAre(0));
  EXPECT_THAT(Steps("team/a", 0), IsEmpty());
}

TEST_F(Checkpoints, SharesSmallerThanTheWorldAreSkippedWhenAsked) {
  Put(IdOf("r", 1), {100}, 4, 4);
  Put(IdOf("r", 2), {100}, 2, 4);
  EXPECT_EQ(index_->FindLatest("r", kStepMax, false)->manifest.id().step(), 2u);
  EXPECT_EQ(index_->FindLatest("r", kStepMax, true)->manifest.id().step(), 1u);
}

TEST_F(Checkpoints, PuttingTwiceChangesNothing) {
  const Made made = Make(IdOf("r", 5), {100}, 2);
  ASSERT_TRUE(index_->PutCheckpoint(made.manifest, made.parts, {}).ok());
  ASSERT_TRUE(index_->PutCheckpoint(made.manifest, made.parts, {}).ok());
  EXPECT_EQ(index_->CheckpointCount(), 1u);
  ASSERT_TRUE(index_
                  ->ForEachRun("", "",
                               [](const v1::RunInfo& run) {
                                 EXPECT_EQ(run.checkpoint_count(), 1u);
                                 EXPECT_EQ(run.data_bytes(), 200u);
                                 return true;
                               })
                  .ok());
}

TEST_F(Checkpoints, ATombstoneHidesAtOnceAndRemembersTheFiles) {
  const Made made = Make(IdOf("r", 5), {100}, 2);
  ASSERT_TRUE(index_->PutCheckpoint(made.manifest, made.parts, {}).ok());
  Put(IdOf("r", 4));
  ASSERT_TRUE(index_->Tombstone(made.uid).ok());
  EXPECT_TRUE(absl::IsNotFound(index_->Tombstone(made.uid)));
  EXPECT_TRUE(
      absl::IsFailedPrecondition(index_->PutCheckpoint(made.manifest, made.parts, v1::Labels())));
  Reopen();
  EXPECT_TRUE(absl::IsNotFound(index_->GetCheckpoint(made.uid).status()));
  EXPECT_EQ(index_->FindLatest("r", kStepMax, true)->manifest.id().step(), 4u);
  EXPECT_THAT(*index_->Tombstones(), ElementsAre(made.uid));
  EXPECT_EQ(index_->GetTombstone(made.uid)->manifest.parts_size(), 2);
  EXPECT_TRUE(WholePart(made.uid, 1).ok());
  ASSERT_TRUE(index_->FinishTombstone(made.uid).ok());
  ASSERT_TRUE(index_->FinishTombstone(made.uid).ok());
  EXPECT_THAT(*index_->Tombstones(), IsEmpty());
  EXPECT_TRUE(absl::IsNotFound(index_->GetPartHead(made.uid, 1).status()));
  EXPECT_TRUE(absl::IsNotFound(index_->ReadBlockHashes(made.uid, 1, 0).status()));
}

TEST_F(Checkpoints, FilesAreCountedByWhoReferencesThem) {
  Made first = Make(IdOf("r", 1), {100}, 2);
  Made second = Make(IdOf("r", 2), {100}, 2);
  second.parts[0].mutable_files(0)->set_file_id(first.parts[0].files(0).file_id());
  ASSERT_TRUE(index_->PutCheckpoint(first.manifest, first.parts, {}).ok());
  ASSERT_TRUE(index_->PutCheckpoint(second.manifest, second.parts, {}).ok());
  const FileId shared = *FileId::FromBytes(first.parts[0].files(0).file_id(), "id");
  const FileId own = *FileId::FromBytes(first.parts[1].files(0).file_id(), "id");
  EXPECT_TRUE(*index_->IsShared(shared, first.uid));
  EXPECT_TRUE(*index_->IsShared(shared, second.uid));
  EXPECT_FALSE(*index_->IsShared(own, first.uid));
  size_t references = 0;
  ASSERT_TRUE(index_->ForEachFile([&](FileId, CheckpointUid) { return ++references > 0; }).ok());
  EXPECT_EQ(references, 8u);  // 2 checkpoints x (2 part manifests + 2 data files)
  ASSERT_TRUE(index_->Tombstone(first.uid).ok());
  ASSERT_TRUE(index_->FinishTombstone(first.uid).ok());
  EXPECT_FALSE(*index_->IsShared(shared, second.uid));
}

TEST_F(Checkpoints, RunsAreListedInOrderWithTheirTotals) {
  for (const char* run : {"a", "a/x", "b", "team/one", "team/two"}) Put(IdOf(run, 1));
  Put(IdOf("team/one", 8), {1000});
  ASSERT_TRUE(index_->Tombstone(Put(IdOf("gone", 1))).ok());
  const auto names = [&](const std::string& prefix, const std::string& after) {
    std::vector<std::string> out;
    EXPECT_TRUE(index_
                    ->ForEachRun(prefix, after,
                                 [&](const v1::RunInfo& run) {
                                   out.push_back(run.run());
                                   return true;
                                 })
                    .ok());
    return out;
  };
  EXPECT_THAT(names("", ""), ElementsAre("a", "a/x", "b", "team/one", "team/two"));
  EXPECT_THAT(names("", "a"), ElementsAre("a/x", "b", "team/one", "team/two"));
  EXPECT_THAT(names("team/", ""), ElementsAre("team/one", "team/two"));
  EXPECT_THAT(names("team/", "team/one"), ElementsAre("team/two"));
  EXPECT_THAT(names("team/", "zzz"), IsEmpty());
  ASSERT_TRUE(index_
                  ->ForEachRun("team/one", "",
                               [](const v1::RunInfo& run) {
                                 EXPECT_EQ(run.checkpoint_count(), 2u);
                                 EXPECT_EQ(run.data_bytes(), 1100u);
                                 EXPECT_EQ(run.latest_committed_step(), 8u);
                                 return false;
                               })
                  .ok());
}

TEST_F(Checkpoints, TheNewestIncarnationOutlivesItsCheckpoints) {
  EXPECT_EQ(*index_->NewestIncarnation("r"), std::nullopt);
  Put(IdOf("r", 1, 4));
  ASSERT_TRUE(index_->Tombstone(Put(IdOf("r", 2, 6))).ok());
  Put(IdOf("r", 3, 5));
  EXPECT_EQ(*index_->NewestIncarnation("r"), IncarnationOf(6));
}

}  // namespace
}  // namespace ckpt
