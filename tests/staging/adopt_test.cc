// The daemon dies, and the next one finds what it had promised.
#include <atomic>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

class AdoptTest : public ::testing::Test {
 protected:
  // Nothing is made durable before the first daemon dies.
  StagingRig rig_{{.persist_delay = absl::Hours(1)}};
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(3 << 20);

  void Restart(absl::Duration persist_delay = absl::ZeroDuration()) {
    rig_.Crash();
    rig_.options().persist_delay = persist_delay;
    rig_.Start();
  }
  absl::Status Committed(uint64_t step) {
    return rig_.WaitFor(rig_.Id(step), v1::CHECKPOINT_STATE_COMMITTED);
  }
  std::string Bytes(uint32_t rank) { return Pattern(layout_->part_bytes(), rank); }
};

TEST_F(AdoptTest, AStagedCheckpointIsFinishedByTheNextDaemon) {
  SessionClient client(rig_.socket_path());
  for (uint32_t rank = 0; rank < 2; ++rank) {
    ASSERT_TRUE(rig_.Save(rig_.Claim(5, rank, 2, *layout_, &client), layout_, rank, &client).ok());
  }
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(5), v1::CHECKPOINT_STATE_STAGED).ok());
  Restart();
  EXPECT_EQ(rig_.adopted().parts, 2u);
  EXPECT_EQ(rig_.adopted().checkpoints, 1u);
  ASSERT_TRUE(Committed(5).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(5), 0).value(), Bytes(0));
  EXPECT_EQ(rig_.ReadBack(rig_.Id(5), 1).value(), Bytes(1));
}

TEST_F(AdoptTest, PartsOfOneLayoutShareItAgain) {
  for (uint32_t rank = 0; rank < 2; ++rank) {
    ASSERT_TRUE(rig_.Save(rig_.Claim(5, rank, 2, *layout_), layout_, rank).ok());
  }
  Restart(absl::Hours(1));
  ASSERT_EQ(rig_.adopted().parts, 2u);
  const auto shared = rig_.index().FindLayout(layout_->digest());
  ASSERT_NE(shared, nullptr);
  EXPECT_GE(shared.use_count(), 4) << "this one, the cache's and those of both parts";
}

TEST_F(AdoptTest, RecordsCountAsTheyDidBefore) {
  for (uint32_t rank = 0; rank < 2; ++rank) {
    ASSERT_TRUE(rig_.Save(rig_.Claim(5, rank, 2, *layout_), layout_, rank).ok());
  }
  const MemoryUsage before = rig_.tier().usage();
  ASSERT_GT(before.record_bytes, 0u);
  Restart(absl::Hours(1));
  ASSERT_EQ(rig_.adopted().parts, 2u);
  EXPECT_EQ(rig_.tier().usage().record_bytes, before.record_bytes);
  EXPECT_EQ(rig_.tier().usage().used_bytes, before.used_bytes);
}

TEST_F(AdoptTest, TwoDeathsInARowLoseNothing) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(5, 0, 1, *layout_), layout_, 0).ok());
  Restart(absl::Hours(1));
  EXPECT_EQ(rig_.adopted().parts, 1u);
  Restart();
  ASSERT_TRUE(Committed(5).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(5), 0).value(), Bytes(0));
}

TEST_F(AdoptTest, WaitSettledSeesAdoptedOnes) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(5, 0, 1, *layout_), layout_, 0).ok());
  Restart(absl::Milliseconds(100));
  ASSERT_TRUE(rig_.table().WaitSettled(rig_.run, absl::Now() + absl::Seconds(60), Never).ok());
  EXPECT_TRUE(rig_.index().FindStep(rig_.run, 5, std::nullopt).ok());
}

TEST_F(AdoptTest, AnIncompleteCheckpointIsAbortedAfterOneGrace) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(5, 0, 2, *layout_), layout_, 0).ok());
  Restart();
  EXPECT_EQ(rig_.adopted().parts, 1u);
  rig_.clock().Advance(absl::Seconds(29));
  rig_.table().Tick();
  EXPECT_EQ(rig_.table().Live(rig_.run).size(), 1u);
  rig_.clock().Advance(absl::Seconds(2));
  rig_.table().Tick();
  const absl::Status fate = Committed(5);
  EXPECT_TRUE(absl::IsAborted(fate));
  EXPECT_THAT(std::string(fate.message()), HasSubstr("rank 1 had not finished"));
  EXPECT_EQ(rig_.tier().usage().used_bytes, 0u);
  Restart();
  EXPECT_EQ(rig_.adopted().parts, 0u);
}

TEST_F(AdoptTest, AMissingRankThatComesBackInTimeCompletesIt) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(5, 0, 2, *layout_), layout_, 0).ok());
  const PartClaim claim = rig_.Claim(5, 1, 2, *layout_);
  { auto half = rig_.Open(claim, layout_); }
  Restart();
  ASSERT_TRUE(rig_.Save(claim, layout_, 1).ok()) << "the same request, from its beginning";
  ASSERT_TRUE(Committed(5).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(5), 0).value(), Bytes(0));
  EXPECT_EQ(rig_.ReadBack(rig_.Id(5), 1).value(), Bytes(1));
}

TEST_F(AdoptTest, AStagedAnswerThatWasLostIsGivenByTheNextDaemon) {
  const PartClaim claim = rig_.Claim(5, 0, 2, *layout_);
  ASSERT_TRUE(rig_.Save(claim, layout_, 0).ok());
  Restart();
  auto again = rig_.Open(claim, layout_);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->accepted.resume_from(), layout_->part_bytes());
  EXPECT_TRUE(again->stream->Finish(layout_->part_bytes(), Never).ok());
}

TEST_F(AdoptTest, WhatWasNotFinishedIsUnlinked) {
  auto half = rig_.Open(rig_.Claim(5, 0, 1, *layout_), layout_);
  ASSERT_TRUE(half->stream->Write(0, Received(Bytes(0))).ok());
  rig_.table().Shutdown();
  half->stream = nullptr;
  Restart();
  EXPECT_EQ(rig_.adopted().parts, 0u);
  EXPECT_EQ(rig_.tier().usage().used_bytes, 0u);
}

TEST_F(AdoptTest, ADurablePartIsNotPersistedAgain) {
  Restart();
  ASSERT_TRUE(rig_.Save(rig_.Claim(5, 0, 2, *layout_), layout_, 0).ok());
  while (rig_.table().parts_not_durable() > 0) absl::SleepFor(absl::Milliseconds(1));
  const size_t before = rig_.data().ListObjects()->data_files.size();
  EXPECT_EQ(before, 1u);
  Restart();
  EXPECT_EQ(rig_.adopted().parts, 1u);
  EXPECT_EQ(rig_.data().ListObjects()->data_files.size(), before);
  ASSERT_TRUE(rig_.Save(rig_.Claim(5, 1, 2, *layout_), layout_, 1).ok());
  ASSERT_TRUE(Committed(5).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(5), 0).value(), Bytes(0));
  EXPECT_EQ(rig_.data().ListObjects()->data_files.size(), 2u);
}

TEST_F(AdoptTest, ACommittedCheckpointIsTheMemoryCopyAgain) {
  Restart();
  ASSERT_TRUE(rig_.Save(rig_.Claim(5, 0, 1, *layout_), layout_, 0).ok());
  const CheckpointUid old_uid = [&] {
    EXPECT_TRUE(Committed(5).ok());
    const auto record = rig_.index().FindStep(rig_.run, 5, std::nullopt);
    return CheckpointUid::FromBytes(record->manifest.checkpoint_uid(), "uid").value();
  }();
  Restart();
  EXPECT_EQ(rig_.adopted().copies, 1u);
  EXPECT_EQ(rig_.adopted().parts, 0u);
  EXPECT_TRUE(rig_.tier().Has(old_uid, 0));
}

TEST_F(AdoptTest, ADeletedCheckpointDoesNotComeBack) {
  Restart();
  ASSERT_TRUE(rig_.Save(rig_.Claim(5, 0, 1, *layout_), layout_, 0).ok());
  ASSERT_TRUE(Committed(5).ok());
  const auto record = rig_.index().FindStep(rig_.run, 5, std::nullopt);
  const CheckpointUid uid =
      CheckpointUid::FromBytes(record->manifest.checkpoint_uid(), "uid").value();
  {
    // Deleted, and killed before the memory tier heard of it.
    Persister persister(&rig_.data(), &rig_.index(), {});
    ASSERT_TRUE(persister.Delete(uid).ok());
  }
  Restart();
  EXPECT_EQ(rig_.adopted().parts, 0u);
  EXPECT_EQ(rig_.adopted().copies, 0u);
  EXPECT_EQ(rig_.tier().usage().used_bytes, 0u);
  EXPECT_TRUE(absl::IsNotFound(rig_.index().FindStep(rig_.run, 5, std::nullopt).status()));
}

// The next rank needs the memory that the first one's part holds until it is durable.
TEST_F(AdoptTest, AStagedPartMakesRoomForTheRankThatBeginsAgain) {
  auto layout = PlainLayout(rig_.options().budget_bytes / 4 * 3);
  ASSERT_TRUE(rig_.Save(rig_.Claim(5, 0, 2, *layout), layout, 1).ok());
  Restart();
  PartClaim claim = rig_.Claim(5, 1, 2, *layout);
  claim.on_full = v1::ON_FULL_WAIT;
  claim.memory_wait = absl::Hours(1);
  std::atomic<bool> ended{false};
  std::thread patience([&] {
    for (int i = 0; i < 600 && !ended; ++i) absl::SleepFor(absl::Milliseconds(50));
    if (!ended) rig_.clock().Advance(absl::Hours(2));  // so that a failure ends
  });
  const absl::Status saved = rig_.Save(claim, layout, 2);
  ended = true;
  patience.join();
  EXPECT_TRUE(saved.ok()) << saved;
  EXPECT_TRUE(Committed(5).ok());
}

TEST_F(AdoptTest, ValuesAndEmptyPartsSurviveToo) {
  auto only_values = LayoutMaker().PerRankValue("epoch").Make();
  auto opened = rig_.Open(rig_.Claim(5, 0, 1, *only_values), only_values);
  ASSERT_TRUE(opened.ok()) << opened.status();
  v1::Values values;
  values.add_entries()->mutable_value()->set_integer(42);
  ASSERT_TRUE(opened->stream->SetValues(values.SerializeAsString()).ok());
  ASSERT_TRUE(opened->stream->Finish(0, Never).ok());
  opened->stream = nullptr;
  Restart();
  ASSERT_TRUE(Committed(5).ok());
  const auto record = rig_.index().FindStep(rig_.run, 5, std::nullopt);
  const auto part = rig_.data().ReadPartManifest(record->manifest.parts(0));
  ASSERT_TRUE(part.ok());
  EXPECT_EQ(part->values().entries(0).value().integer(), 42);
}

TEST_F(AdoptTest, AnIncompleteOlderIncarnationIsAbortedAtOnce) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(5, 0, 2, *layout_), layout_, 0).ok());
  const CheckpointId old = rig_.Id(5);
  rig_.incarnation = Incarnation::TimeOrdered();
  // A later launch whose part is staged too: only one of them can go on.
  ASSERT_TRUE(rig_.Save(rig_.Claim(5, 0, 2, *layout_), layout_, 0).ok());
  Restart();
  EXPECT_TRUE(absl::IsAborted(rig_.WaitFor(old, v1::CHECKPOINT_STATE_COMMITTED)));
  EXPECT_EQ(rig_.table().Live(rig_.run).size(), 1u);
}

}  // namespace
}  // namespace ckpt
