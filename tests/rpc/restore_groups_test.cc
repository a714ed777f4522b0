#include "server/rpc/restore_groups.h"

#include "absl/strings/str_cat.h"
#include "common/ids.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

class RestoreGroupsTest : public testing::Test {
 protected:
  static CheckpointRecord RecordOf(CheckpointUid uid) {
    CheckpointRecord record;
    record.manifest.set_checkpoint_uid(uid.bytes());
    return record;
  }
  // What a rank of that launch is answered where `newest_` is the newest.
  CheckpointUid Ask(const std::string& owner, const Incarnation& launch, const std::string& asker,
                    const v1::Selector& selector = {}) {
    v1::RestoreGroup group;
    group.set_incarnation(launch.bytes());
    group.set_world_size(2);
    const auto answer = groups_.Answer(
        group, selector, owner, asker, [&] { return RecordOf(newest_); },
        [](CheckpointUid uid) { return RecordOf(uid); });
    EXPECT_TRUE(answer.ok()) << answer.status();
    return *CheckpointUid::FromBytes(answer->manifest.checkpoint_uid(), "uid");
  }

  RestoreGroups groups_{8};
  CheckpointUid newest_ = CheckpointUid::TimeOrdered();
};

TEST_F(RestoreGroupsTest, NobodyEndsAnothersRound) {
  const CheckpointUid first = newest_;
  const Incarnation launch = Incarnation::TimeOrdered();
  EXPECT_TRUE(Ask("team-b", launch, "rank 0") == first);
  for (int i = 0; i < 100; ++i) Ask("team-a", Incarnation::TimeOrdered(), "x");
  newest_ = CheckpointUid::TimeOrdered();
  EXPECT_TRUE(Ask("team-b", launch, "rank 1") == first);
}

TEST_F(RestoreGroupsTest, AnOwnersOldestRoundGoes) {
  const CheckpointUid first = newest_;
  const Incarnation launch = Incarnation::TimeOrdered();
  EXPECT_TRUE(Ask("team-a", launch, "rank 0") == first);
  for (int i = 0; i < 8; ++i) Ask("team-a", Incarnation::TimeOrdered(), "x");
  newest_ = CheckpointUid::TimeOrdered();
  EXPECT_TRUE(Ask("team-a", launch, "rank 1") == newest_);
}

// Else each would be another question, and kept.
TEST_F(RestoreGroupsTest, WhatIsNotKnownOfASelectorMakesNoOtherQuestion) {
  const CheckpointUid first = newest_;
  const Incarnation launch = Incarnation::TimeOrdered();
  EXPECT_TRUE(Ask("team-a", launch, "rank 0") == first);
  newest_ = CheckpointUid::TimeOrdered();
  v1::Selector selector;
  selector.GetReflection()->MutableUnknownFields(&selector)->AddVarint(1000, 1);
  EXPECT_TRUE(Ask("team-a", launch, "rank 1", selector) == first);
}

}  // namespace
}  // namespace ckpt
