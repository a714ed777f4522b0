#include "gmock/gmock.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

v1::Labels Tags(const std::vector<std::string>& tags) {
  v1::Labels labels;
  labels.mutable_tags()->Add(tags.begin(), tags.end());
  return labels;
}

class LabelRows : public IndexTest {};

TEST_F(LabelRows, ATagNamesOneCheckpointOfARunAndMoves) {
  const CheckpointUid first = Put(IdOf("r", 1), {100}, 1, 0, Tags({"best", "old"}));
  const CheckpointUid second = Put(IdOf("r", 2));
  Put(IdOf("s", 1), {100}, 1, 0, Tags({"best"}));
  EXPECT_EQ(index_->FindTag("r", "best")->manifest.checkpoint_uid(), first.bytes());
  ASSERT_TRUE(index_->PutLabels(second, Tags({"best"})).ok());
  EXPECT_EQ(index_->FindTag("r", "best")->manifest.checkpoint_uid(), second.bytes());
  EXPECT_THAT(index_->GetCheckpoint(first)->labels.tags(), testing::ElementsAre("old"));
  EXPECT_EQ(index_->FindTag("s", "best")->manifest.id().run(), "s");
}

TEST_F(LabelRows, ARemovedTagIsNotFound) {
  const CheckpointUid uid = Put(IdOf("r", 1), {100}, 1, 0, Tags({"a", "b"}));
  ASSERT_TRUE(index_->PutLabels(uid, Tags({"b", "c"})).ok());
  EXPECT_TRUE(absl::IsNotFound(index_->FindTag("r", "a").status()));
  EXPECT_TRUE(index_->FindTag("r", "b").ok());
  EXPECT_TRUE(index_->FindTag("r", "c").ok());
}

TEST_F(LabelRows, SeveralTagsMoveAtOnce) {
  const CheckpointUid first = Put(IdOf("r", 1), {100}, 1, 0, Tags({"a", "b", "c"}));
  const CheckpointUid second = Put(IdOf("r", 2), {100}, 1, 0, Tags({"a", "b"}));
  EXPECT_THAT(index_->GetCheckpoint(first)->labels.tags(), testing::ElementsAre("c"));
  EXPECT_EQ(index_->FindTag("r", "b")->manifest.checkpoint_uid(), second.bytes());
}

TEST_F(LabelRows, ATagGoesWithItsCheckpoint) {
  const CheckpointUid uid = Put(IdOf("r", 1), {100}, 1, 0, Tags({"a"}));
  ASSERT_TRUE(index_->Tombstone(uid).ok());
  EXPECT_TRUE(absl::IsNotFound(index_->FindTag("r", "a").status()));
}

}  // namespace
}  // namespace ckpt
