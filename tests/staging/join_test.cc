// Who may join a checkpoint, and who may not.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

class JoinTest : public ::testing::Test {
 protected:
  StagingRig rig_;
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(100000);

  PartClaim Claim(uint64_t step, uint32_t rank, uint32_t world) {
    return rig_.Claim(step, rank, world, *layout_);
  }
};

TEST_F(JoinTest, AllRanksMakeACheckpoint) {
  ASSERT_TRUE(rig_.Save(Claim(7, 1, 2), layout_, 1).ok());
  EXPECT_EQ(rig_.table().Live(rig_.run).at(0).state(), v1::CHECKPOINT_STATE_WRITING);
  ASSERT_TRUE(rig_.Save(Claim(7, 0, 2), layout_, 0).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(7), v1::CHECKPOINT_STATE_COMMITTED).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(7), 0).value().substr(0, 100000), Pattern(100000, 0));
  EXPECT_EQ(rig_.ReadBack(rig_.Id(7), 1).value().substr(0, 100000), Pattern(100000, 1));
}

TEST_F(JoinTest, ASecondClaimOfARankIsRefusedAndHarmsNobody) {
  auto opened = rig_.Open(Claim(7, 0, 1), layout_);
  ASSERT_TRUE(opened.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(rig_.Open(Claim(7, 0, 1), layout_).status()));
  EXPECT_TRUE(opened->stream->status().ok());
}

TEST_F(JoinTest, RanksThatDisagreeOnTheShareAreToldApart) {
  auto opened = rig_.Open(Claim(7, 0, 2), layout_);
  PartClaim other = Claim(7, 1, 3);
  const absl::Status refused = rig_.Open(other, layout_).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("rank 1 names"));
  EXPECT_TRUE(absl::IsAborted(opened->stream->status())) << "it could never be completed";
}

TEST_F(JoinTest, AnOlderIncarnationIsRefused) {
  const Incarnation old = rig_.incarnation;
  rig_.incarnation = Incarnation::TimeOrdered();
  ASSERT_TRUE(rig_.Save(Claim(7, 0, 1), layout_, 1).ok());
  rig_.incarnation = old;
  const absl::Status refused = rig_.Save(Claim(8, 0, 1), layout_, 1);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
}

TEST_F(JoinTest, AnOlderIncarnationIsRefusedAfterARestartToo) {
  const Incarnation old = rig_.incarnation;
  rig_.incarnation = Incarnation::TimeOrdered();
  ASSERT_TRUE(rig_.Save(Claim(7, 0, 1), layout_, 1).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(7), v1::CHECKPOINT_STATE_COMMITTED).ok());
  rig_.Crash();
  rig_.Start();
  rig_.incarnation = old;
  EXPECT_TRUE(absl::IsFailedPrecondition(rig_.Save(Claim(8, 0, 1), layout_, 1)));
}

TEST_F(JoinTest, ANewerIncarnationAbortsWhatOlderOnesWrite) {
  auto old = rig_.Open(Claim(7, 0, 2), layout_);
  ASSERT_TRUE(old.ok());
  rig_.incarnation = Incarnation::TimeOrdered();
  auto next = rig_.Open(Claim(7, 0, 2), layout_);
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(absl::IsAborted(old->stream->status()));
  EXPECT_TRUE(next->stream->status().ok());
}

TEST_F(JoinTest, ANewerIncarnationLetsStagedOnesFinish) {
  rig_.options().persist_delay = absl::Milliseconds(100);
  rig_.Crash();
  rig_.Start();
  const CheckpointId old = rig_.Id(7);
  ASSERT_TRUE(rig_.Save(Claim(7, 0, 1), layout_, 1).ok());
  rig_.incarnation = Incarnation::TimeOrdered();
  ASSERT_TRUE(rig_.Open(Claim(8, 0, 1), layout_).ok());
  EXPECT_TRUE(rig_.WaitFor(old, v1::CHECKPOINT_STATE_COMMITTED).ok());
}

TEST_F(JoinTest, JoinDeadlineNamesTheRanksThatNeverCame) {
  PartClaim claim = Claim(7, 1, 4);
  claim.join_deadline = absl::Seconds(20);
  auto opened = rig_.Open(claim, layout_);
  ASSERT_TRUE(opened.ok());
  rig_.clock().Advance(absl::Seconds(19));
  rig_.table().Tick();
  EXPECT_TRUE(opened->stream->status().ok());
  rig_.clock().Advance(absl::Seconds(1));
  rig_.table().Tick();
  EXPECT_TRUE(absl::IsAborted(opened->stream->status()));
  EXPECT_THAT(std::string(opened->stream->status().message()), HasSubstr("ranks 0, 2 and 3"));
}

TEST_F(JoinTest, ALateRankIsToldOnceThenMayTryAgain) {
  PartClaim claim = Claim(7, 0, 2);
  claim.join_deadline = absl::Seconds(20);
  {
    auto opened = rig_.Open(claim, layout_);
    rig_.clock().Advance(absl::Seconds(21));
    rig_.table().Tick();
    EXPECT_TRUE(absl::IsAborted(opened->stream->status()));
  }
  EXPECT_TRUE(absl::IsAborted(rig_.Open(claim, layout_).status())) << "the same request";
  EXPECT_TRUE(absl::IsAborted(rig_.Open(Claim(7, 1, 2), layout_).status())) << "first it hears";
  ASSERT_TRUE(rig_.Save(Claim(7, 1, 2), layout_, 1).ok()) << "then it is a new attempt";
  ASSERT_TRUE(rig_.Save(Claim(7, 0, 2), layout_, 0).ok());
  EXPECT_TRUE(rig_.WaitFor(rig_.Id(7), v1::CHECKPOINT_STATE_COMMITTED).ok());
}

TEST_F(JoinTest, AnAbortIsRememberedAcrossARestart) {
  PartClaim claim = Claim(7, 0, 2);
  {
    auto opened = rig_.Open(claim, layout_);
    opened->stream->GiveUp(absl::InvalidArgumentError("a broken chunk"));
  }
  // The reason is written in the background: wait for it by asking the index.
  while (!rig_.index().FindAborted(rig_.Id(7)).ok()) absl::SleepFor(absl::Milliseconds(1));
  rig_.Crash();
  rig_.Start();
  const absl::Status waited = rig_.WaitFor(rig_.Id(7), v1::CHECKPOINT_STATE_COMMITTED);
  EXPECT_TRUE(absl::IsAborted(waited));
  EXPECT_THAT(std::string(waited.message()), HasSubstr("a broken chunk"));
  EXPECT_TRUE(absl::IsAborted(rig_.Open(Claim(7, 1, 2), layout_).status()));
}

TEST_F(JoinTest, WaitingForAnUnknownCheckpointIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(rig_.WaitFor(rig_.Id(99), v1::CHECKPOINT_STATE_COMMITTED)));
}

TEST_F(JoinTest, DrainingAdmitsOnlyRanksOfWhatIsUnderWay) {
  auto first = rig_.Open(Claim(7, 0, 2), layout_);
  ASSERT_TRUE(first.ok());
  rig_.table().StopAdmitting();
  EXPECT_TRUE(absl::IsUnavailable(rig_.Open(Claim(8, 0, 2), layout_).status()));
  EXPECT_TRUE(rig_.Open(Claim(7, 1, 2), layout_).ok());
  rig_.table().Admit();
  EXPECT_TRUE(rig_.Open(Claim(8, 0, 2), layout_).ok());
}

// --- one Begin by itself

v1::Begin GoodBegin() {
  v1::Begin begin;
  begin.set_request_id(RequestId::Random().bytes());
  begin.mutable_id()->set_run("run");
  begin.mutable_id()->set_incarnation(Incarnation::TimeOrdered().bytes());
  begin.set_world_size(2);
  begin.set_layout_digest(std::string(32, 'd'));
  begin.set_transport(v1::TRANSPORT_STREAM);
  return begin;
}

absl::Status Refusal(const v1::Begin& begin) {
  return PartClaim::FromBegin(begin, nullptr, absl::Minutes(10)).status();
}

TEST(Begin, GoodOneIsTaken) {
  auto claim = PartClaim::FromBegin(GoodBegin(), nullptr, absl::Minutes(10));
  ASSERT_TRUE(claim.ok()) << claim.status();
  EXPECT_EQ(claim->share, (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(claim->join_deadline, absl::Minutes(10));
}

TEST(Begin, NamesThatAreNoNamesAreRefused) {
  for (const std::string& run :
       {std::string(), std::string("../etc"), std::string("a//b"), std::string("/a"),
        std::string("a/.."), std::string("a\0b", 3), std::string(10000, 'x'), std::string("a b")}) {
    v1::Begin begin = GoodBegin();
    begin.mutable_id()->set_run(run);
    const absl::Status status = Refusal(begin);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << run;
    EXPECT_LT(status.message().size(), 1000u);
  }
}

TEST(Begin, NumbersOutOfRangeAreRefused) {
  auto refused = [](auto change) {
    v1::Begin begin = GoodBegin();
    change(begin);
    return absl::IsInvalidArgument(Refusal(begin));
  };
  EXPECT_TRUE(refused([](v1::Begin& b) { b.mutable_id()->set_step(uint64_t{1} << 63); }));
  EXPECT_TRUE(refused([](v1::Begin& b) { b.set_world_size(0); }));
  EXPECT_TRUE(refused([](v1::Begin& b) { b.set_world_size(1000000); }));
  EXPECT_TRUE(refused([](v1::Begin& b) { b.set_rank(2); }));
  EXPECT_TRUE(refused([](v1::Begin& b) { b.add_share(1); })) << "rank 0 is not in it";
  EXPECT_TRUE(refused([](v1::Begin& b) {
    b.add_share(0);
    b.add_share(0);
  }));
  EXPECT_TRUE(refused([](v1::Begin& b) {
    b.add_share(0);
    b.add_share(7);
  }));
  EXPECT_TRUE(refused([](v1::Begin& b) { b.set_request_id("short"); }));
  EXPECT_TRUE(refused([](v1::Begin& b) { b.mutable_id()->set_incarnation(""); }));
  EXPECT_TRUE(refused([](v1::Begin& b) { b.set_layout_digest("short"); }));
  EXPECT_TRUE(refused([](v1::Begin& b) { b.set_transport(v1::TRANSPORT_UNSPECIFIED); }));
  EXPECT_TRUE(refused([](v1::Begin& b) { b.mutable_join_deadline()->set_seconds(-1); }));
  EXPECT_TRUE(refused([](v1::Begin& b) { b.set_if_exists(static_cast<v1::IfExists>(99)); }));
}

TEST(Begin, SharedMemoryNeedsASession) {
  v1::Begin begin = GoodBegin();
  begin.set_transport(v1::TRANSPORT_SHARED_MEMORY);
  EXPECT_TRUE(absl::IsUnauthenticated(Refusal(begin)));
}

}  // namespace
}  // namespace ckpt
