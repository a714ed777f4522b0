// Parts that do not fit into the budget.
#include <cstring>
#include <thread>

#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

class RingTest : public ::testing::Test {
 protected:
  StagingRig rig_{{.budget_bytes = 8 * kMiB}};
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(30 * kMiB + 12345);

  // Writes a ring as a client does: as far as the credit goes, with Progress.
  absl::Status Write(StagingRig::Opened& opened, SessionClient& client, const std::string& bytes,
                     uint64_t stop_at) {
    const SessionClient::File file = client.Granted(opened.accepted.file_id());
    const uint64_t ring = opened.accepted.file_bytes();
    uint64_t at = 0;
    while (at < stop_at) {
      const uint64_t piece = std::min<uint64_t>(
          {opened.stream->credit() - at, stop_at - at, ring - at % ring, 300000});
      if (piece == 0) {
        if (absl::Status status = opened.stream->status(); !status.ok()) return status;
        std::this_thread::yield();
        continue;
      }
      std::memcpy(file.mapping + at % ring, bytes.data() + at, piece);
      at += piece;
      if (absl::Status status = opened.stream->Progress(at); !status.ok()) return status;
    }
    return absl::OkStatus();
  }
};

TEST_F(RingTest, APartLargerThanTheBudgetSavesThroughSharedMemory) {
  SessionClient client(rig_.socket_path());
  const std::string bytes = Pattern(layout_->part_bytes(), 1);
  auto opened = rig_.Open(rig_.Claim(1, 0, 1, *layout_, &client), layout_);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE(opened->accepted.ring());
  EXPECT_LE(opened->accepted.file_bytes(), 8 * kMiB);
  EXPECT_EQ(opened->accepted.credit(), opened->accepted.file_bytes());
  ASSERT_TRUE(Write(*opened, client, bytes, bytes.size()).ok());
  ASSERT_TRUE(opened->stream->Finish(bytes.size(), Never).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(1), v1::CHECKPOINT_STATE_COMMITTED).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value(), bytes);
  EXPECT_FALSE(rig_.tier().Has(CheckpointUid(), 0));
}

// The last byte is on disk, and then the stream breaks before Finish.
TEST_F(RingTest, AStreamThatBreaksBeforeItsFinishIsResumedWithNothingLeftToWrite) {
  SessionClient client(rig_.socket_path());
  const std::string bytes = Pattern(layout_->part_bytes(), 3);
  const PartClaim claim = rig_.Claim(1, 0, 1, *layout_, &client);
  {
    auto opened = rig_.Open(claim, layout_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    ASSERT_TRUE(Write(*opened, client, bytes, bytes.size()).ok());
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (rig_.table().Live(rig_.run).at(0).parts_durable() == 0 && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(5));
    }
    ASSERT_EQ(rig_.table().Live(rig_.run).at(0).parts_durable(), 1u);
  }
  auto resumed = rig_.Open(claim, layout_);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ(resumed->accepted.resume_from(), bytes.size());
  ASSERT_TRUE(resumed->stream->Finish(bytes.size(), Never).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(1), v1::CHECKPOINT_STATE_COMMITTED).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value(), bytes);
}

TEST_F(RingTest, APartLargerThanTheBudgetSavesThroughTheStream) {
  const std::string bytes = Pattern(layout_->part_bytes(), 2);
  auto opened = rig_.Open(rig_.Claim(1, 0, 1, *layout_), layout_);
  ASSERT_TRUE(opened.ok());
  uint64_t at = 0;
  while (at < bytes.size()) {
    const uint64_t piece =
        std::min<uint64_t>({opened->stream->credit() - at, bytes.size() - at, kMiB});
    if (piece == 0) std::this_thread::yield();
    if (piece == 0) continue;
    ASSERT_TRUE(
        opened->stream->Write(at, Received(absl::string_view(bytes).substr(at, piece))).ok());
    at += piece;
  }
  ASSERT_TRUE(opened->stream->Finish(bytes.size(), Never).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(1), v1::CHECKPOINT_STATE_COMMITTED).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value(), bytes);
}

TEST_F(RingTest, AStagedRingIsOnDiskAndSurvivesTheDaemon) {
  SessionClient client(rig_.socket_path());
  const std::string bytes = Pattern(layout_->part_bytes(), 3);
  {
    auto opened = rig_.Open(rig_.Claim(1, 0, 2, *layout_, &client), layout_);
    ASSERT_TRUE(Write(*opened, client, bytes, bytes.size()).ok());
    ASSERT_TRUE(opened->stream->Finish(bytes.size(), Never).ok());
  }
  rig_.Crash();
  rig_.Start();
  EXPECT_EQ(rig_.adopted().parts, 1u);
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 1, 2, *PlainLayout(1000)), PlainLayout(1000), 4).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(1), v1::CHECKPOINT_STATE_COMMITTED).ok());
  EXPECT_EQ(rig_.ReadBack(rig_.Id(1), 0).value(), bytes);
}

TEST_F(RingTest, AnUnfinishedRingIsNeverAdopted) {
  SessionClient client(rig_.socket_path());
  const std::string bytes = Pattern(layout_->part_bytes(), 3);
  {
    auto opened = rig_.Open(rig_.Claim(1, 0, 1, *layout_, &client), layout_);
    ASSERT_TRUE(Write(*opened, client, bytes, bytes.size()).ok());
    rig_.table().Shutdown();
  }
  rig_.Crash();
  rig_.Start();
  EXPECT_EQ(rig_.adopted().parts, 0u);
}

TEST_F(RingTest, ADeadWriterEndsItsRing) {
  auto client = std::make_unique<SessionClient>(rig_.socket_path());
  auto opened = rig_.Open(rig_.Claim(1, 0, 1, *layout_, client.get()), layout_);
  ASSERT_TRUE(Write(*opened, *client, Pattern(10 * kMiB, 3), 10 * kMiB).ok());
  client = nullptr;
  EXPECT_TRUE(absl::IsAborted(rig_.WaitFor(rig_.Id(1), v1::CHECKPOINT_STATE_COMMITTED)));
  opened->stream = nullptr;
  EXPECT_TRUE(rig_.data().ListObjects().ok());
}

TEST_F(RingTest, ProgressBeyondTheCreditAbortsThePart) {
  SessionClient client(rig_.socket_path());
  auto opened = rig_.Open(rig_.Claim(1, 0, 1, *layout_, &client), layout_);
  EXPECT_TRUE(absl::IsInvalidArgument(opened->stream->Progress(opened->accepted.file_bytes() + 1)));
  EXPECT_TRUE(absl::IsAborted(opened->stream->status()));
}

TEST_F(RingTest, EightRanksLargerThanTheBudgetTakeTurns) {
  auto layout = PlainLayout(9 * kMiB);
  std::vector<std::thread> ranks;
  for (uint32_t rank = 0; rank < 8; ++rank) {
    ranks.emplace_back([&, rank] {
      SessionClient client(rig_.socket_path());
      const std::string bytes = Pattern(layout->part_bytes(), rank);
      auto opened = rig_.Open(rig_.Claim(1, rank, 8, *layout, &client), layout);
      ASSERT_TRUE(opened.ok()) << opened.status();
      ASSERT_TRUE(Write(*opened, client, bytes, bytes.size()).ok());
      ASSERT_TRUE(opened->stream->Finish(bytes.size(), Never).ok());
    });
  }
  for (std::thread& rank : ranks) rank.join();
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(1), v1::CHECKPOINT_STATE_COMMITTED).ok());
  for (uint32_t rank = 0; rank < 8; ++rank) {
    EXPECT_EQ(rig_.ReadBack(rig_.Id(1), rank).value(), Pattern(layout->part_bytes(), rank));
  }
}

}  // namespace
}  // namespace ckpt
