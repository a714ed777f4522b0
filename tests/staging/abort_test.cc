// Ranks that die, fall silent or come back.
#include <chrono>
#include <cstring>
#include <functional>
#include <future>
#include <set>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

class AbortTest : public ::testing::Test {
 protected:
  StagingRig rig_;
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(100000);

  // Blocks until the checkpoint is aborted, as somebody who waits would.
  absl::Status Fate(uint64_t step) {
    return rig_.WaitFor(rig_.Id(step), v1::CHECKPOINT_STATE_COMMITTED);
  }
};

TEST_F(AbortTest, ARankThatDiesBeforeFinishAbortsTheOthersAtOnce) {
  SessionClient living(rig_.socket_path());
  auto dying = std::make_unique<SessionClient>(rig_.socket_path());
  auto first = rig_.Open(rig_.Claim(1, 0, 2, *layout_, &living), layout_);
  auto second = rig_.Open(rig_.Claim(1, 1, 2, *layout_, dying.get()), layout_);
  ASSERT_TRUE(first.ok() && second.ok());
  dying = nullptr;
  const absl::Status fate = Fate(1);
  EXPECT_TRUE(absl::IsAborted(fate));
  EXPECT_THAT(std::string(fate.message()), HasSubstr("rank 1's process"));
  EXPECT_TRUE(absl::IsAborted(first->stream->Finish(layout_->part_bytes(), Never).status()));
}

// Two ranks die at the same moment, one of them while it begins: the thread that begins for it
// aborts the checkpoint, and must not wait for the sessions' thread, which is about to do the same.
// When it did, no session was made or ended by that daemon any more.
TEST_F(AbortTest, ARankThatBeginsAsItDiesDoesNotWaitForTheEndOfAnother) {
  SessionClient dying(rig_.socket_path());
  auto dead = std::make_unique<SessionClient>(rig_.socket_path());
  const std::shared_ptr<Session> session = rig_.Find(dying);
  PartClaim late = rig_.Claim(1, 1, 2, *layout_, dead.get());
  dead = nullptr;
  while (!late.session->closed()) std::this_thread::yield();
  std::promise<void> ending, begun;
  session->OnClose([&] {  // before the table's own, on the sessions' thread
    ending.set_value();
    begun.get_future().wait_for(std::chrono::seconds(60));
  });
  auto first = rig_.Open(rig_.Claim(1, 0, 2, *layout_, &dying), layout_);
  ASSERT_TRUE(first.ok()) << first.status();
  dying.Close();
  ending.get_future().wait();
  (void)rig_.table().Begin(std::move(late), [] {});
  begun.set_value();
  EXPECT_TRUE(absl::IsAborted(Fate(1)));
  const SessionClient next(rig_.socket_path());  // is welcomed
}

TEST_F(AbortTest, ARankThatDiesAfterItsPartIsStagedLosesNothing) {
  {
    SessionClient client(rig_.socket_path());
    ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_, &client), layout_, 5, &client).ok());
  }
  ASSERT_TRUE(Fate(1).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value().substr(0, 100000), Pattern(100000, 5));
}

// Lists look at the table, then at the index: at no moment is it in neither.
TEST_F(AbortTest, AnAbortedOneIsNeverOutOfSight) {
  for (uint64_t step = 1; step <= 20; ++step) {
    {
      SessionClient client(rig_.socket_path());
      ASSERT_TRUE(rig_.Open(rig_.Claim(step, 0, 2, *layout_, &client), layout_).ok());
    }
    EXPECT_FALSE(Fate(step).ok());
    std::set<uint64_t> seen;
    for (const v1::CheckpointInfo& info : rig_.table().Live(rig_.run)) {
      seen.insert(info.id().step());
    }
    ASSERT_TRUE(rig_.index()
                    .ForEachAborted(rig_.run,
                                    [&](const v1::CheckpointInfo& info) {
                                      seen.insert(info.id().step());
                                      return true;
                                    })
                    .ok());
    EXPECT_EQ(seen.count(step), 1u) << step;
  }
}

TEST_F(AbortTest, ABrokenStreamHasItsGrace) {
  {
    auto opened = rig_.Open(rig_.Claim(1, 0, 1, *layout_), layout_);
    ASSERT_TRUE(opened.ok());
  }
  rig_.clock().Advance(absl::Seconds(29));
  rig_.table().Tick();
  EXPECT_EQ(rig_.table().Live(rig_.run).size(), 1u);
  rig_.clock().Advance(absl::Seconds(1));
  rig_.table().Tick();
  EXPECT_THAT(std::string(Fate(1).message()), HasSubstr("did not resume within 30s"));
}

TEST_F(AbortTest, ABrokenStreamResumesWhereItWas) {
  const PartClaim claim = rig_.Claim(1, 0, 1, *layout_);
  const std::string bytes = Pattern(100000, 3);
  {
    auto opened = rig_.Open(claim, layout_);
    ASSERT_TRUE(opened.ok());
    ASSERT_TRUE(opened->stream->Write(0, Received(absl::string_view(bytes).substr(0, 40000))).ok());
  }
  auto resumed = rig_.Open(claim, layout_);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ(resumed->accepted.resume_from(), 40000u);
  ASSERT_TRUE(resumed->stream->Write(40000, Received(absl::string_view(bytes).substr(40000))).ok());
  ASSERT_TRUE(resumed->stream->Finish(layout_->part_bytes(), Never).ok());
  ASSERT_TRUE(Fate(1).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value().substr(0, 100000), bytes);
}

TEST_F(AbortTest, AResumedStreamTakesThePartFromTheOldOne) {
  const PartClaim claim = rig_.Claim(1, 0, 1, *layout_);
  auto old = rig_.Open(claim, layout_);
  auto resumed = rig_.Open(claim, layout_);
  ASSERT_TRUE(resumed.ok());
  EXPECT_TRUE(absl::IsAborted(old->stream->status()));
  EXPECT_TRUE(absl::IsAborted(old->stream->Write(0, Received("x"))));
  old->stream = nullptr;
  EXPECT_TRUE(resumed->stream->status().ok()) << "the old stream's end breaks nothing";
}

TEST_F(AbortTest, AnAnswerThatWasLostIsGivenAgain) {
  const PartClaim claim = rig_.Claim(1, 0, 1, *layout_);
  ASSERT_TRUE(rig_.Save(claim, layout_, 1).ok());
  ASSERT_TRUE(Fate(1).ok());
  auto again = rig_.Open(claim, layout_);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->accepted.resume_from(), again->accepted.part_bytes());
  EXPECT_TRUE(again->stream->Finish(layout_->part_bytes(), Never).ok());
}

TEST_F(AbortTest, ARequestIdServesOnePartOnly) {
  const auto other_layout = PlainLayout(200000);
  const std::vector<std::function<void(PartClaim&)>> changes = {
      [&](PartClaim& claim) { claim.layout_digest = other_layout->digest(); },
      [](PartClaim& claim) {
        claim.share = {0, 1};
      },
      [](PartClaim& claim) { claim.world_size = 4; },
  };
  const auto refused = [](const absl::Status& status) {
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("another layout, share or world size"));
  };
  uint64_t step = 0;
  for (const auto& change : changes) {
    SCOPED_TRACE(++step);
    const PartClaim claim = rig_.Claim(step, 0, 3, *layout_);
    const auto first = rig_.Open(claim, layout_);
    ASSERT_TRUE(first.ok()) << first.status();
    PartClaim again = claim;
    change(again);
    refused(rig_.Open(again, other_layout).status());
    EXPECT_TRUE(absl::IsAborted(first->stream->status())) << "it is not known which one is right";
    const absl::Status fate = Fate(step);
    EXPECT_TRUE(absl::IsAborted(fate)) << fate;
    EXPECT_THAT(std::string(fate.message()), HasSubstr("rank 0 resumed its part with another"));
  }
  // A part that is finished takes no harm any more.
  for (const auto& change : changes) {
    SCOPED_TRACE(++step);
    const PartClaim claim = rig_.Claim(step, 0, 3, *layout_);
    ASSERT_TRUE(rig_.Save(claim, layout_, 0).ok());
    PartClaim again = claim;
    change(again);
    refused(rig_.Open(again, other_layout).status());
    ASSERT_TRUE(rig_.Save(rig_.Claim(step, 1, 3, *layout_), layout_, 1).ok());
    ASSERT_TRUE(rig_.Save(rig_.Claim(step, 2, 3, *layout_), layout_, 2).ok());
    EXPECT_TRUE(Fate(step).ok());
    EXPECT_EQ(rig_.ReadBack(rig_.Id(step), 0).value().substr(0, 100000), Pattern(100000, 0));
  }
}

TEST_F(AbortTest, ARequestIdStaysWithItsSessionAndTransport) {
  SessionClient owner(rig_.socket_path());
  SessionClient stranger(rig_.socket_path());
  const PartClaim claim = rig_.Claim(1, 0, 1, *layout_, &owner);
  const auto first = rig_.Open(claim, layout_);
  ASSERT_TRUE(first.ok()) << first.status();
  PartClaim other_session = claim;
  other_session.session = rig_.Find(stranger);
  PartClaim other_transport = claim;
  other_transport.transport = v1::TRANSPORT_STREAM;
  for (const PartClaim& again : {other_session, other_transport}) {
    const absl::Status refused = rig_.Open(again, layout_).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("another session or transport"));
  }
  EXPECT_EQ(stranger.granted_count(), 0u);
  ASSERT_TRUE(first->stream->status().ok()) << first->stream->status();
  const std::string bytes = Pattern(100000, 6);
  std::memcpy(owner.Granted(first->accepted.file_id()).mapping, bytes.data(), bytes.size());
  ASSERT_TRUE(first->stream->Finish(layout_->part_bytes(), Never).ok());
  ASSERT_TRUE(Fate(1).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value().substr(0, 100000), bytes);
}

TEST_F(AbortTest, ARankThatStallsIsFound) {
  PartClaim claim = rig_.Claim(1, 0, 2, *layout_);
  claim.join_deadline = absl::Seconds(60);
  auto stalled = rig_.Open(claim, layout_);
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 1, 2, *layout_), layout_, 1).ok());
  // A short join deadline cuts no long copy off: nothing is heard of a client that copies.
  rig_.clock().Advance(absl::Seconds(61));
  rig_.table().Tick();
  EXPECT_TRUE(stalled->stream->status().ok());
  rig_.clock().Advance(absl::Minutes(2));
  rig_.table().Tick();
  EXPECT_THAT(std::string(Fate(1).message()), HasSubstr("rank 0 stalled"));
}

TEST_F(AbortTest, ARankThatIsBusyForEverIsEndedToo) {
  SessionClient client(rig_.socket_path());
  auto busy = rig_.Open(rig_.Claim(1, 0, 1, *layout_, &client), layout_);
  for (int minutes = 0; minutes < 6 * 60; minutes += 5) {
    ASSERT_TRUE(busy->stream->Progress(0).ok()) << minutes;
    rig_.table().Tick();
    rig_.clock().Advance(absl::Minutes(5));
  }
  rig_.table().Tick();
  EXPECT_THAT(std::string(Fate(1).message()), HasSubstr("not staged within 6h"));
}

TEST_F(AbortTest, AnAbortGivesMemoryAndDiskSpaceBack) {
  SessionClient client(rig_.socket_path());
  auto big = PlainLayout(40 << 20);
  for (uint64_t step = 1; step <= 3; ++step) {
    auto opened = rig_.Open(rig_.Claim(step, 0, 2, *big, &client), big);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_EQ(rig_.tier().usage().not_durable_bytes, opened->accepted.file_bytes());
    opened->stream->GiveUp(absl::InvalidArgumentError("enough"));
    opened->stream = nullptr;
    EXPECT_EQ(rig_.tier().usage().not_durable_bytes, 0u);
  }
}

TEST_F(AbortTest, AFileOfAnUnfinishedPartIsNotGrantedAgainWhileItsClientMayWriteToIt) {
  SessionClient client(rig_.socket_path());
  client.AnswerRevocations(false);
  auto aborted = rig_.Open(rig_.Claim(1, 0, 2, *layout_, &client), layout_);
  const std::string file_id = aborted->accepted.file_id();
  aborted->stream->GiveUp(absl::InvalidArgumentError("enough"));
  aborted->stream = nullptr;
  client.AwaitRevoked(1);
  EXPECT_EQ(client.revoked().front(), file_id);
  auto next = rig_.Open(rig_.Claim(2, 0, 2, *layout_, &client), layout_);
  ASSERT_TRUE(next.ok());
  EXPECT_NE(next->accepted.file_id(), file_id);
  client.AnswerNow();
}

TEST_F(AbortTest, AStagedPartOfAnAbortedCheckpointIsNotAdoptedLater) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 2, *layout_), layout_, 1).ok());
  {
    auto other = rig_.Open(rig_.Claim(1, 1, 2, *layout_), layout_);
    other->stream->GiveUp(absl::InvalidArgumentError("enough"));
  }
  EXPECT_TRUE(absl::IsAborted(Fate(1)));
  rig_.Crash();
  rig_.Start();
  EXPECT_EQ(rig_.adopted().parts, 0u);
}

TEST_F(AbortTest, FinishBeforeEveryByteOrValueAbortsThePart) {
  {
    auto opened = rig_.Open(rig_.Claim(1, 0, 1, *layout_), layout_);
    ASSERT_TRUE(opened->stream->Write(0, Received("only the beginning")).ok());
    EXPECT_TRUE(
        absl::IsFailedPrecondition(opened->stream->Finish(layout_->part_bytes(), Never).status()));
  }
  EXPECT_TRUE(absl::IsAborted(Fate(1)));
  auto with_value = LayoutMaker().PerRank("t", 10).PerRankValue("epoch").Make();
  auto opened = rig_.Open(rig_.Claim(2, 0, 1, *with_value), with_value);
  ASSERT_TRUE(opened->stream->Write(0, Received(std::string(with_value->part_bytes(), 'x'))).ok());
  const absl::Status refused = opened->stream->Finish(with_value->part_bytes(), Never).status();
  EXPECT_THAT(std::string(refused.message()), HasSubstr("'epoch' is missing"));
}

TEST_F(AbortTest, ShutdownWakesEverybody) {
  auto opened = rig_.Open(rig_.Claim(1, 0, 2, *layout_), layout_);
  std::thread waiter([&] { EXPECT_TRUE(absl::IsUnavailable(Fate(1))); });
  rig_.table().Shutdown();
  waiter.join();
  EXPECT_TRUE(absl::IsUnavailable(opened->stream->status()));
  opened->stream = nullptr;
}

}  // namespace
}  // namespace ckpt
