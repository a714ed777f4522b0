// Parts that do not fit together.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/staging/part_agreement.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

absl::Status Check(std::vector<std::shared_ptr<const PartLayout>> layouts, bool whole = true) {
  std::vector<RankLayout> parts;
  for (uint32_t rank = 0; rank < layouts.size(); ++rank) parts.push_back({rank, layouts[rank]});
  return CheckAgreement(parts, whole);
}

std::shared_ptr<const PartLayout> Shard(Box box, DType dtype = v1::DTYPE_U8) {
  return LayoutMaker().Sharded("w", {8, 4}, std::move(box), dtype).Make();
}

TEST(Agreement, ShardsThatTileAreFine) {
  EXPECT_TRUE(Check({Shard(Rows(0, 4, 4)), Shard(Rows(4, 8, 4))}).ok());
}

TEST(Agreement, OverlappingBoxesNameKeyAndRanks) {
  const absl::Status status = Check({Shard(Rows(0, 5, 4)), Shard(Rows(4, 8, 4))});
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("'w'"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("of rank 1"));
}

// Every leaf is met by its key, wherever it stands in a part's list.
TEST(Agreement, LeavesInAnotherOrderAndLeavesOfSomeRanksAlone) {
  const auto half = [](uint64_t rank) { return Rows(4 * rank, 4 * rank + 4, 4); };
  const auto first =
      LayoutMaker().Sharded("a", {8, 4}, half(0)).Sharded("b", {8, 4}, half(0)).Make();
  const auto second = LayoutMaker()
                          .Sharded("c", {8, 4}, Rows(0, 8, 4))
                          .Sharded("b", {8, 4}, half(1))
                          .Sharded("a", {8, 4}, half(1))
                          .Make();
  EXPECT_TRUE(Check({first, second}).ok());
  EXPECT_TRUE(Check({second, first}).ok());
  const auto third = LayoutMaker().Sharded("c", {8, 4}, half(1)).Make();
  const absl::Status overlap = Check({first, second, third});
  EXPECT_THAT(std::string(overlap.message()), HasSubstr("'c'"));
  EXPECT_THAT(std::string(overlap.message()), HasSubstr("of rank 2"));
  const auto other =
      LayoutMaker().Sharded("b", {8, 4}, half(1), v1::DTYPE_F32).Sharded("a", {8, 4}, half(1));
  EXPECT_THAT(std::string(Check({first, LayoutMaker(other).Make()}).message()),
              HasSubstr("U8 on rank 0, F32 on rank 1"));
}

TEST(Agreement, BoxesOfAGridAndRanksInFallingOrder) {
  const auto at = [](uint64_t row, uint64_t column) { return Shard({{row, column}, {4, 2}}); };
  EXPECT_TRUE(Check({at(0, 0), at(0, 2), at(4, 0), at(4, 2)}).ok());
  EXPECT_TRUE(Check({at(4, 2), at(4, 0), at(0, 2), at(0, 0)}).ok());
  EXPECT_FALSE(Check({at(0, 0), at(0, 2), at(4, 0), at(4, 0)}).ok());
  EXPECT_FALSE(Check({at(0, 0), at(0, 2), at(4, 0)}).ok());
  EXPECT_TRUE(Check({Shard(Rows(4, 8, 4)), Shard(Rows(0, 4, 4))}).ok());
  EXPECT_FALSE(Check({Shard(Rows(3, 8, 4)), Shard(Rows(0, 4, 4))}).ok());
}

TEST(Agreement, MissingBoxesAreFound) {
  const absl::Status status = Check({Shard(Rows(0, 3, 4)), Shard(Rows(4, 8, 4))});
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("28 of 32"));
}

TEST(Agreement, GapsAreOtherSharesBoxesInASmallerShare) {
  EXPECT_TRUE(Check({Shard(Rows(0, 3, 4)), Shard(Rows(4, 8, 4))}, /*whole=*/false).ok());
  EXPECT_FALSE(Check({Shard(Rows(0, 5, 4)), Shard(Rows(4, 8, 4))}, /*whole=*/false).ok());
}

TEST(Agreement, DifferentDtypesAreNamed) {
  const absl::Status status = Check({Shard(Rows(0, 4, 4)), Shard(Rows(4, 8, 4), v1::DTYPE_F32)});
  EXPECT_THAT(std::string(status.message()), HasSubstr("U8 on rank 0, F32 on rank 1"));
}

TEST(Agreement, DifferentShapesAndPlacementsAreFound) {
  EXPECT_FALSE(Check({LayoutMaker().Sharded("w", {8, 4}, Rows(0, 4, 4)).Make(),
                      LayoutMaker().Sharded("w", {9, 4}, Rows(4, 9, 4)).Make()})
                   .ok());
  EXPECT_FALSE(Check({LayoutMaker().Sharded("w", {4}, Box::Whole({4})).Make(),
                      LayoutMaker().PerRank("w", 4).Make()})
                   .ok());
}

TEST(Agreement, PerRankTensorsMayDiffer) {
  EXPECT_TRUE(Check({PlainLayout(10), PlainLayout(20)}).ok());
}

TEST(Agreement, PerRankTensorMustBeWhole) {
  v1::Layout layout = PlainLayout(10)->ToProto();
  layout.mutable_shards(0)->mutable_box()->set_extent(0, 9);
  EXPECT_FALSE(Check({PartLayout::FromProto(layout).value()}).ok());
}

TEST(Agreement, ReplicatedListsMustBeTheSame) {
  auto one = LayoutMaker().Replicated("a", {4}, Box::Whole({4})).Make();
  auto two = LayoutMaker().Replicated("a", {4}, Box()).Replicated("b", {4}, Box()).Make();
  const absl::Status status = Check({one, two});
  EXPECT_THAT(std::string(status.message()), HasSubstr("replicated"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1"));
}

TEST(Agreement, ReplicatedTensorThatNobodyStoresIsFound) {
  auto none = LayoutMaker().Replicated("a", {4}, Box()).Make();
  EXPECT_FALSE(Check({none, none}, /*whole=*/false).ok());
}

TEST(Agreement, TensorWithoutElementsNeedsNoBox) {
  EXPECT_TRUE(Check({LayoutMaker().Sharded("w", {0, 4}, Box()).Make()}).ok());
}

// In the table: before anybody's bytes, and everybody hears of it.
TEST(AgreementInTable, OverlapAbortsTheCheckpointForAll) {
  StagingRig rig;
  auto first = Shard(Rows(0, 5, 4));
  auto second = Shard(Rows(4, 8, 4));
  auto opened = rig.Open(rig.Claim(1, 0, 2, *first), first);
  ASSERT_TRUE(opened.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(rig.Open(rig.Claim(1, 1, 2, *second), second).status()));
  EXPECT_TRUE(absl::IsAborted(opened->stream->status()));
  EXPECT_THAT(std::string(opened->stream->status().message()), HasSubstr("'w'"));
}

TEST(AgreementInTable, RanksThatDisagreeOnTheReplicatedListAreNamedBeforeTheLastHasCome) {
  StagingRig rig;
  auto first = LayoutMaker().Replicated("a", {4}, Box::Whole({4})).Make();
  auto second = LayoutMaker().Replicated("b", {4}, Box::Whole({4})).Make();
  auto opened = rig.Open(rig.Claim(1, 0, 3, *first), first);
  ASSERT_TRUE(opened.ok());
  EXPECT_FALSE(rig.Open(rig.Claim(1, 1, 3, *second), second).ok());
  const absl::Status status = rig.WaitFor(rig.Id(1), v1::CHECKPOINT_STATE_COMMITTED);
  EXPECT_TRUE(absl::IsAborted(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1"));
}

TEST(AgreementInTable, AgreedLayoutsSaveAgain) {
  StagingRig rig;
  auto first = Shard(Rows(0, 4, 4));
  auto second = Shard(Rows(4, 8, 4));
  for (uint64_t step = 1; step <= 3; ++step) {
    ASSERT_TRUE(rig.Save(rig.Claim(step, 0, 2, *first), first, 1).ok());
    ASSERT_TRUE(rig.Save(rig.Claim(step, 1, 2, *second), second, 2).ok());
    ASSERT_TRUE(rig.WaitFor(rig.Id(step), v1::CHECKPOINT_STATE_COMMITTED).ok());
  }
}

// A rank that holds nothing yet may begin anew with another layout: that one has to agree as well.
TEST(Agreement, IsLookedAtAgainWhenAPartIsBegunAnew) {
  StagingRig rig;
  const auto half = Shard(Rows(0, 4, 4)), good = Shard(Rows(4, 8, 4)), bad = Shard(Rows(3, 8, 4));
  auto first = rig.Open(rig.Claim(1, 0, 2, *half), half);
  ASSERT_TRUE(first.ok()) << first.status();
  {
    auto stream = rig.table().Begin(rig.Claim(1, 1, 2, *good), [] {});
    ASSERT_TRUE(stream.ok()) << stream.status();
    ASSERT_TRUE((*stream)->SetLayout(good->serialized()).ok());  // all agree, and then it is gone
  }
  auto anew = rig.table().Begin(rig.Claim(1, 1, 2, *bad), [] {});
  ASSERT_TRUE(anew.ok()) << anew.status();
  const absl::Status refused = (*anew)->SetLayout(bad->serialized());
  EXPECT_THAT(std::string(refused.message()), HasSubstr("overlap"));
  EXPECT_TRUE(absl::IsAborted(first->stream->status()));
}

}  // namespace
}  // namespace ckpt
