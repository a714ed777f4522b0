// What others see of the table.
#include <thread>

#include "gtest/gtest.h"
#include "server/persist/commit.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

class WatchTest : public ::testing::Test {
 protected:
  StagingRig rig_;
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(1000);
};

TEST_F(WatchTest, SubscribersSeeEveryStateInOrder) {
  Mutex mutex;
  CondVar changed;
  std::vector<v1::CheckpointState> states;
  const uint64_t number = rig_.table().Subscribe([&](const v1::CheckpointInfo& info, bool deleted) {
    MutexLock lock(mutex);
    EXPECT_FALSE(deleted);
    if (states.empty() || states.back() != info.state()) states.push_back(info.state());
    changed.NotifyAll();
  });
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_), layout_, 1).ok());
  {
    MutexLock lock(mutex);
    while (states.empty() || states.back() != v1::CHECKPOINT_STATE_COMMITTED) changed.Wait(mutex);
    EXPECT_EQ(states, (std::vector<v1::CheckpointState>{v1::CHECKPOINT_STATE_WRITING,
                                                        v1::CHECKPOINT_STATE_STAGED,
                                                        v1::CHECKPOINT_STATE_COMMITTED}));
  }
  rig_.table().Unsubscribe(number);
}

TEST_F(WatchTest, AnnouncementsOfOthersArriveToo) {
  std::string run;
  const uint64_t number = rig_.table().Subscribe(
      [&](const v1::CheckpointInfo& info, bool deleted) { run = deleted ? info.id().run() : ""; });
  v1::CheckpointInfo info;
  info.mutable_id()->set_run("gone");
  rig_.table().Announce(info, /*deleted=*/true);
  rig_.table().Unsubscribe(number);
  EXPECT_EQ(run, "gone");
}

TEST_F(WatchTest, LiveListsNewestFirstWithWhoHasJoined) {
  auto one = rig_.Open(rig_.Claim(1, 1, 2, *layout_), layout_);
  auto two = rig_.Open(rig_.Claim(2, 0, 2, *layout_), layout_);
  const auto live = rig_.table().Live("");
  ASSERT_EQ(live.size(), 2u);
  EXPECT_EQ(live[0].id().step(), 2u);
  EXPECT_EQ(live[1].joined(0), 1u);
  EXPECT_TRUE(rig_.table().Live("another/run").empty());
}

TEST_F(WatchTest, WaitEndsByDeadlineAndByCancellation) {
  auto opened = rig_.Open(rig_.Claim(1, 0, 1, *layout_), layout_);
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      rig_.table().Wait(rig_.Id(1), v1::CHECKPOINT_STATE_STAGED, absl::Now(), Never).status()));
  EXPECT_TRUE(absl::IsCancelled(rig_.table()
                                    .Wait(rig_.Id(1), v1::CHECKPOINT_STATE_STAGED,
                                          absl::InfiniteFuture(), [] { return true; })
                                    .status()));
}

TEST_F(WatchTest, WaitWithoutAnIncarnationMeansTheNewestKnown) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_), layout_, 1).ok());
  EXPECT_TRUE(rig_.WaitFor({rig_.run, 1, Incarnation()}, v1::CHECKPOINT_STATE_COMMITTED).ok());
}

TEST_F(WatchTest, AnAbortedAttemptDoesNotHideTheCommittedStep) {
  const CheckpointId any = {rig_.run, 7, Incarnation()};
  {
    auto opened = rig_.Open(rig_.Claim(7, 0, 1, *layout_), layout_);
    ASSERT_TRUE(opened.ok());
    opened->stream->GiveUp(absl::InvalidArgumentError("enough"));
  }
  EXPECT_TRUE(absl::IsAborted(rig_.WaitFor(any, v1::CHECKPOINT_STATE_COMMITTED)));
  const CheckpointId aborted = rig_.Id(7);
  rig_.incarnation = Incarnation::TimeOrdered();
  ASSERT_TRUE(rig_.Save(rig_.Claim(7, 0, 1, *layout_), layout_, 1).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(7), v1::CHECKPOINT_STATE_COMMITTED).ok());
  EXPECT_TRUE(rig_.WaitFor(any, v1::CHECKPOINT_STATE_COMMITTED).ok());
  rig_.clock().Advance(absl::Minutes(5));  // the committed one is known to the index alone
  rig_.table().Tick();
  EXPECT_TRUE(rig_.WaitFor(any, v1::CHECKPOINT_STATE_COMMITTED).ok());
  EXPECT_TRUE(absl::IsAborted(rig_.WaitFor(aborted, v1::CHECKPOINT_STATE_COMMITTED)));
}

TEST_F(WatchTest, AnAttemptToReplaceThatFailedDoesNotHideWhatIsCommitted) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(7, 0, 1, *layout_), layout_, 1).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(7), v1::CHECKPOINT_STATE_COMMITTED).ok());
  rig_.incarnation = Incarnation::TimeOrdered();
  PartClaim claim = rig_.Claim(7, 0, 1, *layout_);
  claim.if_exists = v1::IF_EXISTS_REPLACE;
  auto opened = rig_.Open(claim, layout_);
  ASSERT_TRUE(opened.ok());
  const CheckpointId any = {rig_.run, 7, Incarnation()};
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      rig_.table().Wait(any, v1::CHECKPOINT_STATE_COMMITTED, absl::Now(), Never).status()))
      << "the later one is being written";
  opened->stream->GiveUp(absl::InvalidArgumentError("enough"));
  EXPECT_TRUE(rig_.WaitFor(any, v1::CHECKPOINT_STATE_COMMITTED).ok());
}

TEST_F(WatchTest, ADeletedOneIsUnknownAndItsTripleMayBeSavedAnew) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(7, 0, 1, *layout_), layout_, 1).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(7), v1::CHECKPOINT_STATE_COMMITTED).ok());
  const auto record = rig_.index().FindStep(rig_.run, 7, std::nullopt);
  ASSERT_TRUE(record.ok());
  const auto uid =
      CheckpointUid::FromBytes(record->manifest.checkpoint_uid(), "checkpoint_uid").value();
  ASSERT_TRUE(DeleteCheckpoint(&rig_.data(), &rig_.index(), uid).ok());
  v1::CheckpointInfo info;
  info.set_checkpoint_uid(uid.bytes());
  rig_.table().Announce(info, /*deleted=*/true);
  EXPECT_TRUE(absl::IsNotFound(rig_.WaitFor(rig_.Id(7), v1::CHECKPOINT_STATE_COMMITTED)));
  ASSERT_TRUE(rig_.Save(rig_.Claim(7, 0, 1, *layout_), layout_, 2).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(7), v1::CHECKPOINT_STATE_COMMITTED).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(7), 0).value(), Pattern(1000, 2));
}

TEST_F(WatchTest, ReplicatedIsRefusedWithoutARemoteTier) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_), layout_, 1).ok());
  EXPECT_TRUE(
      absl::IsFailedPrecondition(rig_.WaitFor(rig_.Id(1), v1::CHECKPOINT_STATE_REPLICATED)));
}

TEST_F(WatchTest, DrainWaitsForWhatIsStaged) {
  rig_.options().persist_delay = absl::Milliseconds(100);
  rig_.Crash();
  rig_.Start();
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_), layout_, 1).ok());
  rig_.table().StopAdmitting();
  EXPECT_GT(rig_.table().WaitDrained(absl::Now(), Never), 0u) << "no time was given";
  EXPECT_EQ(rig_.table().WaitDrained(absl::Now() + absl::Seconds(60), Never), 0u);
  EXPECT_TRUE(rig_.index().FindStep(rig_.run, 1, std::nullopt).ok());
}

}  // namespace
}  // namespace ckpt
