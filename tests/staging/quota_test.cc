// Quotas of a section of runs, at the table: who is let in, what is counted, and that nothing stays
// counted.
#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "gtest/gtest.h"
#include "server/persist/commit.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

RigOptions WithQuota(QuotaAmounts limits, absl::Duration persist_delay = absl::ZeroDuration()) {
  return {.quotas = {{*RunPattern::Parse("team/**"), limits, "f:1 [team/**]"}},
          .persist_delay = persist_delay};
}

// Refused, and the text names quota, section and limit.
testing::AssertionResult Names(const absl::Status& status, absl::string_view quota) {
  if (absl::IsResourceExhausted(status) && absl::StrContains(status.message(), quota) &&
      absl::StrContains(status.message(), "[team/**]") &&
      absl::StrContains(status.message(), "limit")) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << status << " instead of a refusal by " << quota;
}

QuotaAmounts Used(StagingRig& rig) { return rig.table().QuotasInUse().at(0).used; }

absl::Status SaveCommitted(StagingRig& rig, PartClaim claim,
                           const std::shared_ptr<const PartLayout>& layout) {
  const CheckpointId id = claim.id;
  CKPT_RETURN_IF_ERROR(rig.Save(std::move(claim), layout, 1));
  return rig.WaitFor(id, v1::CHECKPOINT_STATE_COMMITTED);
}

void Delete(StagingRig& rig, uint64_t step) {
  const auto record = rig.index().FindStep(rig.run, step, std::nullopt);
  ASSERT_TRUE(record.ok()) << record.status();
  const auto uid = CheckpointUid::FromBytes(record->manifest.checkpoint_uid(), "uid");
  ASSERT_TRUE(DeleteCheckpoint(&rig.data(), &rig.index(), *uid).ok());
}

TEST(QuotaTest, OpenSavesAreThoseThatHaveNotEnded) {
  StagingRig rig(WithQuota({.open_saves = 1}));
  const auto layout = PlainLayout(1000);
  auto first = rig.Open(rig.Claim(1, 0, 2, *layout), layout);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(Names(rig.Open(rig.Claim(2, 0, 1, *layout), layout).status(), "open-saves"));
  EXPECT_TRUE(rig.table().Live(rig.run).size() == 1) << "what was refused was not begun";
  auto second_rank = rig.Open(rig.Claim(1, 1, 2, *layout), layout);
  EXPECT_TRUE(second_rank.ok()) << "it joins: " << second_rank.status();
  PartClaim stranger = rig.Claim(2, 0, 1, *layout);
  stranger.id.run = "other/run";
  EXPECT_TRUE(SaveCommitted(rig, stranger, layout).ok()) << "of no section";
  EXPECT_EQ(Used(rig).open_saves, 1u);
  first->stream->GiveUp(absl::InternalError("given up"));
  EXPECT_EQ(Used(rig).open_saves, 0u);
  EXPECT_TRUE(SaveCommitted(rig, rig.Claim(2, 0, 1, *layout), layout).ok());
  EXPECT_TRUE(SaveCommitted(rig, rig.Claim(3, 0, 1, *layout), layout).ok());
}

TEST(QuotaTest, ALaterLaunchIsNotRefusedForWhatItSupersedes) {
  StagingRig rig(WithQuota({.open_saves = 1}));
  const auto layout = PlainLayout(1000);
  auto dead = rig.Open(rig.Claim(1, 0, 1, *layout), layout);
  ASSERT_TRUE(dead.ok()) << dead.status();
  rig.incarnation = Incarnation::TimeOrdered();
  EXPECT_TRUE(SaveCommitted(rig, rig.Claim(1, 0, 1, *layout), layout).ok());
  EXPECT_TRUE(absl::IsAborted(dead->stream->status()));
}

TEST(QuotaTest, CheckpointsAreCountedUntilTheyAreDeleted) {
  StagingRig rig(WithQuota({.checkpoints = 2}));
  const auto layout = PlainLayout(1000);
  ASSERT_TRUE(SaveCommitted(rig, rig.Claim(1, 0, 1, *layout), layout).ok());
  ASSERT_TRUE(SaveCommitted(rig, rig.Claim(2, 0, 1, *layout), layout).ok());
  PartClaim same_section = rig.Claim(3, 0, 1, *layout);
  same_section.id.run = "team/other";
  EXPECT_TRUE(Names(rig.Open(same_section, layout).status(), "checkpoints"))
      << "the limit is for all runs of the section together";
  EXPECT_TRUE(Names(rig.Open(rig.Claim(3, 0, 1, *layout), layout).status(), "checkpoints"));
  Delete(rig, 1);
  EXPECT_TRUE(SaveCommitted(rig, same_section, layout).ok());
  EXPECT_EQ(Used(rig).checkpoints, 2u);
}

TEST(QuotaTest, OneThatIsReplacedIsNotCountedTwice) {
  StagingRig rig(WithQuota({.disk_bytes = 3000, .checkpoints = 1}));
  const auto layout = PlainLayout(1000);
  ASSERT_TRUE(SaveCommitted(rig, rig.Claim(1, 0, 1, *layout), layout).ok());
  for (int i = 0; i < 5; ++i) {
    PartClaim again = rig.Claim(1, 0, 1, *layout);
    again.if_exists = v1::IF_EXISTS_REPLACE;
    const absl::Status saved = SaveCommitted(rig, again, layout);
    ASSERT_TRUE(saved.ok()) << saved;
    EXPECT_EQ(Used(rig).checkpoints, 1u);
    EXPECT_EQ(Used(rig).disk_bytes, 1000u);
    EXPECT_EQ(Used(rig).open_saves, 0u);
  }
}

TEST(QuotaTest, APartThatIsTooLargeIsRefusedAndItsRankMayTryAgain) {
  StagingRig rig(WithQuota({.disk_bytes = 5 * kMiB}));
  const auto three = PlainLayout(3 * kMiB);
  ASSERT_TRUE(SaveCommitted(rig, rig.Claim(1, 0, 1, *three), three).ok());
  EXPECT_TRUE(Names(rig.Open(rig.Claim(2, 0, 1, *three), three).status(), "disk-bytes"));
  EXPECT_EQ(Used(rig).disk_bytes, 3 * kMiB) << "what was refused is not counted";
  Delete(rig, 1);
  EXPECT_TRUE(SaveCommitted(rig, rig.Claim(2, 0, 1, *three), three).ok());
}

TEST(QuotaTest, ARefusedRankThatDoesNotComeBackEndsTheCheckpoint) {
  StagingRig rig(WithQuota({.disk_bytes = 5 * kMiB}));
  const auto three = PlainLayout(3 * kMiB);
  ASSERT_TRUE(rig.Save(rig.Claim(1, 0, 2, *three), three, 1).ok());
  EXPECT_TRUE(Names(rig.Open(rig.Claim(1, 1, 2, *three), three).status(), "disk-bytes"));
  EXPECT_EQ(Used(rig).disk_bytes, 3 * kMiB);
  rig.clock().Advance(absl::Seconds(31));
  rig.table().Tick();
  const absl::Status ended = rig.WaitFor(rig.Id(1), v1::CHECKPOINT_STATE_COMMITTED);
  EXPECT_TRUE(absl::IsAborted(ended)) << ended;
  EXPECT_TRUE(absl::StrContains(ended.message(), "rank 1 was refused")) << ended;
  EXPECT_TRUE(absl::StrContains(ended.message(), "disk-bytes")) << ended;
  EXPECT_EQ(Used(rig).disk_bytes, 0u);
  EXPECT_EQ(Used(rig).checkpoints, 0u);
}

TEST(QuotaTest, OfManyAtOnceAsManyAreLetInAsTheLimitSays) {
  StagingRig rig(WithQuota({.disk_bytes = 10'000, .open_saves = 5}));
  const auto layout = PlainLayout(3000);
  std::atomic<int> begun = 0, refused = 0;
  std::vector<std::thread> jobs;
  std::vector<std::unique_ptr<PartStream>> held(8);
  for (int job = 0; job < 8; ++job) {
    jobs.emplace_back([&, job] {
      PartClaim claim = rig.Claim(1, 0, 1, *layout);
      claim.id.run = absl::StrCat("team/job-", job);
      auto opened = rig.Open(claim, layout);
      if (opened.ok()) {
        held[job] = std::move(opened->stream);
        ++begun;
      } else if (absl::IsResourceExhausted(opened.status())) {
        ++refused;
      }
    });
  }
  for (std::thread& job : jobs) job.join();
  EXPECT_EQ(begun, 3) << "3 times 3000 of 10000 bytes";
  EXPECT_EQ(refused, 5);
  EXPECT_EQ(Used(rig).disk_bytes, 9000u);
  EXPECT_LE(Used(rig).open_saves, 5u);
}

TEST(QuotaTest, NothingIsMissedOrCountedTwiceWhileItCommits) {
  StagingRig rig(WithQuota({.checkpoints = 1'000'000}));
  const auto layout = PlainLayout(1000);
  std::atomic<bool> done = false;
  std::atomic<uint64_t> begun = 0;
  std::thread reader([&] {
    while (!done) {
      const uint64_t before = begun;
      const QuotaAmounts used = Used(rig);
      EXPECT_GE(used.checkpoints + 1, before);
      EXPECT_LE(used.checkpoints, begun.load());
      EXPECT_LE(used.open_saves, 1u);
    }
  });
  for (uint64_t step = 1; step <= 30; ++step) {
    ++begun;
    EXPECT_TRUE(SaveCommitted(rig, rig.Claim(step, 0, 1, *layout), layout).ok());
  }
  done = true;
  reader.join();
  EXPECT_EQ(Used(rig).checkpoints, 30u);
  EXPECT_EQ(Used(rig).disk_bytes, 30'000u);
}

TEST(QuotaTest, WhatAnEarlierDaemonStagedCounts) {
  StagingRig rig(WithQuota({.memory_bytes = 64 * kMiB, .open_saves = 1}, absl::Hours(1)));
  const auto layout = PlainLayout(2 * kMiB);
  SessionClient client(rig.socket_path());
  ASSERT_TRUE(rig.Save(rig.Claim(1, 0, 1, *layout, &client), layout, 1, &client).ok());
  EXPECT_EQ(Used(rig).memory_bytes, 2 * kMiB);
  rig.Crash();
  rig.Start();
  EXPECT_EQ(Used(rig).open_saves, 1u);
  EXPECT_EQ(Used(rig).memory_bytes, 2 * kMiB);
  EXPECT_EQ(Used(rig).disk_bytes, 2 * kMiB);
  EXPECT_TRUE(Names(rig.Open(rig.Claim(2, 0, 1, *layout), layout).status(), "open-saves"));
}

class MemoryQuotaTest : public ::testing::Test {
 protected:
  StagingRig rig_{WithQuota({.memory_bytes = 8 * kMiB})};
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(6 * kMiB);
};

TEST_F(MemoryQuotaTest, AFullQuotaIsWaitedForOrRefused) {
  auto held = rig_.Open(rig_.Claim(1, 0, 1, *layout_), layout_);
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(Used(rig_).memory_bytes, 6 * kMiB);
  PartClaim hasty = rig_.Claim(2, 0, 1, *layout_);
  hasty.on_full = v1::ON_FULL_REFUSE;
  EXPECT_TRUE(Names(rig_.Open(hasty, layout_).status(), "memory-bytes"))
      << "the tier itself has room";
  PartClaim stranger = hasty;
  stranger.id.run = "other/run";
  EXPECT_TRUE(rig_.Open(stranger, layout_).ok());
  PartClaim patient = rig_.Claim(2, 0, 1, *layout_);
  patient.memory_wait = absl::ZeroDuration();
  EXPECT_TRUE(Names(rig_.Open(patient, layout_).status(), "memory-bytes")) << "it is bounded";
  patient.request_id = RequestId::Random();
  patient.memory_wait = absl::Minutes(10);
  std::thread waiter([&] {
    const absl::Status saved = rig_.Save(patient, layout_, 2);
    EXPECT_TRUE(saved.ok()) << saved;
  });
  ASSERT_TRUE(held->stream->Write(0, Received(Pattern(6 * kMiB, 1))).ok());
  ASSERT_TRUE(held->stream->Finish(6 * kMiB, Never).ok());
  waiter.join();
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(1), v1::CHECKPOINT_STATE_COMMITTED).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(2), v1::CHECKPOINT_STATE_COMMITTED).ok());
  EXPECT_EQ(Used(rig_).memory_bytes, 0u);
  EXPECT_EQ(rig_.ReadBack(rig_.Id(2), 0).value(), Pattern(6 * kMiB, 2));
}

TEST_F(MemoryQuotaTest, APartLargerThanTheQuotaGoesThroughARingInIt) {
  const auto large = PlainLayout(20 * kMiB);
  const std::string bytes = Pattern(20 * kMiB, 3);
  auto opened = rig_.Open(rig_.Claim(1, 0, 1, *large), large);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE(opened->accepted.ring());
  EXPECT_LE(opened->accepted.file_bytes(), 2 * kMiB);
  EXPECT_LE(Used(rig_).memory_bytes, 2 * kMiB);
  uint64_t at = 0;
  while (at < bytes.size()) {
    const uint64_t piece = std::min<uint64_t>({opened->stream->credit() - at, bytes.size() - at,
                                               kMiB});
    if (piece == 0) {
      ASSERT_TRUE(opened->stream->status().ok()) << opened->stream->status();
      std::this_thread::yield();
      continue;
    }
    ASSERT_TRUE(
        opened->stream->Write(at, Received(absl::string_view(bytes).substr(at, piece))).ok());
    at += piece;
  }
  ASSERT_TRUE(opened->stream->Finish(bytes.size(), Never).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(1), v1::CHECKPOINT_STATE_COMMITTED).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value(), bytes);
  EXPECT_EQ(Used(rig_).memory_bytes, 0u);
}

TEST_F(MemoryQuotaTest, RanksOfOneCheckpointThatDoNotFitTogetherStillMakeIt) {
  std::vector<std::thread> ranks;
  for (uint32_t rank = 0; rank < 3; ++rank) {
    ranks.emplace_back([&, rank] {
      SessionClient client(rig_.socket_path());
      const absl::Status saved =
          rig_.Save(rig_.Claim(1, rank, 3, *layout_, &client), layout_, rank, &client);
      EXPECT_TRUE(saved.ok()) << saved;
    });
  }
  for (std::thread& rank : ranks) rank.join();
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(1), v1::CHECKPOINT_STATE_COMMITTED).ok());
  for (uint32_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(rig_.ReadBack(rig_.Id(1), rank).value(), Pattern(6 * kMiB, rank));
  }
}

}  // namespace
}  // namespace ckpt
