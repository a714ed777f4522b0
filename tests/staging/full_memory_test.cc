// A full memory budget, and pages that go round.
#include <unistd.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

class FullMemoryTest : public ::testing::Test {
 protected:
  StagingRig rig_{{.budget_bytes = 20 * kMiB, .persist_delay = absl::Milliseconds(150)}};
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(12 * kMiB);

  absl::Status Committed(uint64_t step) {
    return rig_.WaitFor(rig_.Id(step), v1::CHECKPOINT_STATE_COMMITTED);
  }
  absl::Status Save(uint64_t step, v1::OnFull on_full, SessionClient* client) {
    PartClaim claim = rig_.Claim(step, 0, 1, *layout_, client);
    claim.on_full = on_full;
    return rig_.Save(claim, layout_, static_cast<uint32_t>(step), client);
  }
};

TEST_F(FullMemoryTest, WaitsUntilAnotherPartIsDurable) {
  SessionClient client(rig_.socket_path());
  ASSERT_TRUE(Save(1, v1::ON_FULL_WAIT, &client).ok());
  ASSERT_TRUE(Save(2, v1::ON_FULL_WAIT, &client).ok());
  EXPECT_TRUE(Committed(1).ok()) << "its memory was needed: it was durable before";
  ASSERT_TRUE(Committed(2).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value(), Pattern(12 * kMiB, 1));
  EXPECT_EQ(rig_.ReadBack(rig_.Id(2), 0).value(), Pattern(12 * kMiB, 2));
}

TEST_F(FullMemoryTest, RefusesWhereTheCallerSaysSoAndMayTryAgain) {
  SessionClient client(rig_.socket_path());
  ASSERT_TRUE(Save(1, v1::ON_FULL_WAIT, &client).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(Save(2, v1::ON_FULL_REFUSE, &client)));
  ASSERT_TRUE(Committed(1).ok());
  EXPECT_TRUE(Save(2, v1::ON_FULL_REFUSE, &client).ok()) << "a new request for the same rank";
  EXPECT_TRUE(Committed(2).ok());
}

TEST_F(FullMemoryTest, WaitingIsBounded) {
  SessionClient client(rig_.socket_path());
  ASSERT_TRUE(Save(1, v1::ON_FULL_WAIT, &client).ok());
  PartClaim claim = rig_.Claim(2, 0, 1, *layout_, &client);
  claim.memory_wait = absl::ZeroDuration();
  EXPECT_TRUE(absl::IsResourceExhausted(rig_.Open(claim, layout_).status()));
}

TEST_F(FullMemoryTest, AClientThatGivesNothingBackIsNamed) {
  SessionClient holder(rig_.socket_path()), other(rig_.socket_path());
  ASSERT_TRUE(Save(1, v1::ON_FULL_WAIT, &holder).ok());
  ASSERT_TRUE(Committed(1).ok());
  holder.AnswerRevocations(false);
  PartClaim claim = rig_.Claim(2, 0, 1, *layout_, &other);
  claim.memory_wait = absl::ZeroDuration();
  const absl::Status refused = rig_.Open(claim, layout_).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  const std::string debt =
      absl::StrCat("process ", getpid(), " was asked to give back 12.0 MiB and has not");
  EXPECT_NE(refused.message().find(debt), absl::string_view::npos) << refused;
  holder.AnswerNow();
}

TEST_F(FullMemoryTest, GoesThroughARingOfWhatThereIs) {
  SessionClient client(rig_.socket_path());
  ASSERT_TRUE(Save(1, v1::ON_FULL_WAIT, &client).ok());
  PartClaim claim = rig_.Claim(2, 0, 1, *layout_);
  claim.on_full = v1::ON_FULL_RING;
  auto opened = rig_.Open(claim, layout_);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE(opened->accepted.ring());
  EXPECT_LE(rig_.tier().usage().used_bytes, 21 * kMiB);
}

TEST_F(FullMemoryTest, AnAbortEndsTheWait) {
  SessionClient client(rig_.socket_path());
  auto holder = rig_.Open(rig_.Claim(1, 0, 1, *layout_, &client), layout_);
  ASSERT_TRUE(holder.ok());
  auto dying = std::make_unique<SessionClient>(rig_.socket_path());
  const PartClaim claim = rig_.Claim(2, 0, 1, *layout_, dying.get());
  std::thread waiter([&] { EXPECT_TRUE(absl::IsAborted(rig_.Open(claim, layout_).status())); });
  dying = nullptr;
  waiter.join();
}

TEST_F(FullMemoryTest, RanksThatDoNotFitTogetherStillMakeACheckpoint) {
  // 12 of 20 MiB each: the first is given up once it is durable, long before the commit.
  std::vector<std::thread> ranks;
  for (uint32_t rank = 0; rank < 3; ++rank) {
    ranks.emplace_back([&, rank] {
      SessionClient client(rig_.socket_path());
      ASSERT_TRUE(
          rig_.Save(rig_.Claim(1, rank, 3, *layout_, &client), layout_, rank, &client).ok());
    });
  }
  for (std::thread& rank : ranks) rank.join();
  ASSERT_TRUE(Committed(1).ok());
  for (uint32_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(rig_.ReadBack(rig_.Id(1), rank).value(), Pattern(12 * kMiB, rank));
  }
}

class RecyclingTest : public ::testing::Test {
 protected:
  StagingRig rig_;
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(4 * kMiB);
  absl::Status Save(uint64_t step, SessionClient& client) {
    absl::Status status = rig_.Save(rig_.Claim(step, 0, 1, *layout_, &client), layout_, 1, &client);
    if (!status.ok()) return status;
    return rig_.WaitFor(rig_.Id(step), v1::CHECKPOINT_STATE_COMMITTED);
  }
};

TEST_F(RecyclingTest, TheSteadyStateAllocatesNothing) {
  SessionClient client(rig_.socket_path());
  ASSERT_TRUE(Save(1, client).ok());
  ASSERT_TRUE(Save(2, client).ok());
  const MemoryUsage after_two = rig_.tier().usage();
  const size_t granted = client.granted_count();
  EXPECT_EQ(granted, 2u);
  for (uint64_t step = 3; step <= 8; ++step) ASSERT_TRUE(Save(step, client).ok());
  EXPECT_LE(rig_.tier().usage().used_bytes, after_two.used_bytes + (64 << 10))
      << "but for small records";
  EXPECT_EQ(client.granted_count(), granted);
}

TEST_F(RecyclingTest, PreparedFilesServeTheFirstSave) {
  SessionClient client(rig_.socket_path());
  ASSERT_TRUE(rig_.tier().Prepare(rig_.Find(client), layout_->part_bytes(), 2).ok());
  const uint64_t used = rig_.tier().usage().used_bytes;
  for (uint64_t step = 1; step <= 4; ++step) ASSERT_TRUE(Save(step, client).ok());
  EXPECT_EQ(client.granted_count(), 2u);
  EXPECT_LE(rig_.tier().usage().used_bytes, used + (64 << 10)) << "but for small records";
}

TEST_F(RecyclingTest, TheNewestCheckpointStaysInMemoryWhileTheNextIsWritten) {
  SessionClient client(rig_.socket_path());
  for (uint64_t step = 1; step <= 3; ++step) ASSERT_TRUE(Save(step, client).ok());
  const auto record = rig_.index().FindStep(rig_.run, 3, std::nullopt);
  const CheckpointUid uid =
      CheckpointUid::FromBytes(record->manifest.checkpoint_uid(), "uid").value();
  auto next = rig_.Open(rig_.Claim(4, 0, 1, *layout_, &client), layout_);
  ASSERT_TRUE(next.ok());
  EXPECT_TRUE(rig_.tier().Has(uid, 0));
  auto pin = rig_.tier().Pin(uid, 0);
  ASSERT_NE(pin, nullptr);
}

TEST_F(RecyclingTest, TheNewestCopyOutlivesItsSessionUntilTheNextCommit) {
  CheckpointUid uid;
  {
    SessionClient client(rig_.socket_path());
    ASSERT_TRUE(Save(1, client).ok());
    const auto record = rig_.index().FindStep(rig_.run, 1, std::nullopt);
    uid = CheckpointUid::FromBytes(record->manifest.checkpoint_uid(), "uid").value();
  }
  while (rig_.sessions().count() > 0) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_TRUE(rig_.tier().Has(uid, 0)) << "a restarted trainer reads it from memory";
  SessionClient next(rig_.socket_path());
  ASSERT_TRUE(Save(2, next).ok());
  EXPECT_FALSE(rig_.tier().Has(uid, 0));
}

}  // namespace
}  // namespace ckpt
