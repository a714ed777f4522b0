// Steps that exist already.
#include "absl/functional/function_ref.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

class ReplaceTest : public ::testing::Test {
 protected:
  StagingRig rig_;
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(1000);

  absl::Status Save(uint64_t step, uint32_t seed,
                    v1::IfExists if_exists = v1::IF_EXISTS_UNSPECIFIED,
                    std::optional<uint64_t> resumed = std::nullopt) {
    PartClaim claim = rig_.Claim(step, 0, 1, *layout_);
    claim.if_exists = if_exists;
    claim.resumed_step = resumed;
    absl::Status status = rig_.Save(claim, layout_, seed);
    if (!status.ok()) return status;
    return rig_.WaitFor(rig_.Id(step), v1::CHECKPOINT_STATE_COMMITTED);
  }
};

TEST_F(ReplaceTest, ACommittedStepIsRefusedByDefault) {
  ASSERT_TRUE(Save(5, 1).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Save(5, 2)));
  EXPECT_EQ(rig_.ReadBack(rig_.Id(5), 0).value(), Pattern(1000, 1));
}

TEST_F(ReplaceTest, ACommittedStepIsRefusedAfterARestartToo) {
  ASSERT_TRUE(Save(5, 1).ok());
  rig_.Crash();
  rig_.Start();
  EXPECT_TRUE(absl::IsAlreadyExists(Save(5, 2)));
}

TEST_F(ReplaceTest, ReplacedWhenAskedFor) {
  ASSERT_TRUE(Save(5, 1).ok());
  ASSERT_TRUE(Save(5, 2, v1::IF_EXISTS_REPLACE).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(5), 0).value(), Pattern(1000, 2));
}

TEST_F(ReplaceTest, NobodyWaitsForOneThatALaterLaunchReplaced) {
  ASSERT_TRUE(Save(5, 1).ok());
  const CheckpointId replaced = rig_.Id(5);
  rig_.incarnation = Incarnation::TimeOrdered();
  ASSERT_TRUE(Save(5, 2, v1::IF_EXISTS_REPLACE).ok());
  EXPECT_TRUE(absl::IsNotFound(rig_.WaitFor(replaced, v1::CHECKPOINT_STATE_COMMITTED)));
}

TEST_F(ReplaceTest, WhatTheIndexDidNotTakeIsIndexedAsSoonAsItDoes) {
  ASSERT_TRUE(Save(5, 1).ok());
  const CheckpointId replaced = rig_.Id(5);
  rig_.incarnation = Incarnation::TimeOrdered();
  rig_.index().SetFull(true);
  ASSERT_TRUE(Save(5, 2, v1::IF_EXISTS_REPLACE).ok()) << "it is committed all the same";
  EXPECT_TRUE(absl::IsNotFound(rig_.ReadBack(rig_.Id(5), 0).status()));
  const auto await = [&](absl::FunctionRef<bool()> condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (!condition() && absl::Now() < deadline) {
      rig_.clock().Advance(absl::Seconds(6));
      rig_.table().Tick();
      absl::SleepFor(absl::Milliseconds(5));
    }
    return condition();
  };
  EXPECT_TRUE(await([&] { return rig_.index().refused() >= 3; })) << "it is tried again and again";
  rig_.index().SetFull(false);
  EXPECT_TRUE(await([&] { return rig_.ReadBack(rig_.Id(5), 0).ok(); }));
  EXPECT_EQ(rig_.ReadBack(rig_.Id(5), 0).value(), Pattern(1000, 2));
  EXPECT_TRUE(await([&] { return absl::IsNotFound(rig_.ReadBack(replaced, 0).status()); }))
      << "what it replaces goes then";
}

TEST_F(ReplaceTest, TheOldOneStaysWholeUntilTheNewOneIsCommitted) {
  ASSERT_TRUE(Save(5, 1).ok());
  PartClaim claim = rig_.Claim(5, 0, 1, *layout_);
  claim.if_exists = v1::IF_EXISTS_REPLACE;
  auto opened = rig_.Open(claim, layout_);
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(5), 0).value(), Pattern(1000, 1));
  opened->stream->GiveUp(absl::InvalidArgumentError("enough"));
  EXPECT_EQ(rig_.ReadBack(rig_.Id(5), 0).value(), Pattern(1000, 1));
}

TEST_F(ReplaceTest, ALaunchReplacesStepsBeyondTheOneItResumedFrom) {
  ASSERT_TRUE(Save(5, 1).ok());
  ASSERT_TRUE(Save(6, 1).ok());
  rig_.incarnation = Incarnation::TimeOrdered();
  EXPECT_TRUE(absl::IsAlreadyExists(Save(5, 2, v1::IF_EXISTS_UNSPECIFIED, 5)));
  EXPECT_TRUE(absl::IsAlreadyExists(Save(6, 2))) << "it did not say that it resumed";
  EXPECT_TRUE(absl::IsAlreadyExists(Save(6, 2, v1::IF_EXISTS_FAIL, 5)));
  ASSERT_TRUE(Save(6, 2, v1::IF_EXISTS_UNSPECIFIED, 5).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(6), 0).value(), Pattern(1000, 2));
}

}  // namespace
}  // namespace ckpt
