// A client that begins saves and breaks them off, faster than they are cleaned up behind him.
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

class AbortFloodTest : public ::testing::Test {
 protected:
  static CheckpointId IdOf(int number) {
    return {absl::StrCat("flood/", number), 1, Incarnation::TimeOrdered()};
  }
  // Under another name each time.
  absl::Status BreakOff(int number) {
    PartClaim claim = rig_.Claim(1, 0, 1, *layout_);
    claim.id = IdOf(number);
    const auto opened = rig_.Open(claim, layout_);
    if (!opened.ok()) return opened.status();
    opened->stream->GiveUp(absl::CancelledError("enough"));
    return absl::OkStatus();
  }
  bool IsRecorded(int number) {
    int rows = 0;
    const absl::Status read = rig_.index().ForEachAborted(
        absl::StrCat("flood/", number), [&](const v1::CheckpointInfo&) { return ++rows; });
    return read.ok() && rows > 0;
  }

  StagingRig rig_{{.budget_bytes = 8 * kMiB}};
  std::shared_ptr<const PartLayout> layout_ = PlainLayout(1000);
};

TEST_F(AbortFloodTest, WaitsUntilItIsCleanedUp) {
  rig_.index().SetAbortPause(absl::Milliseconds(20));
  absl::Status status;
  int broken_off = 0;
  while (status.ok() && broken_off < 5000) status = BreakOff(broken_off++);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status << " after " << broken_off;
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("retry later"));
  rig_.index().SetAbortPause(absl::ZeroDuration());
  const absl::Time patience = absl::Now() + absl::Seconds(60);
  while (!status.ok() && absl::Now() < patience) status = BreakOff(broken_off);
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(AbortFloodTest, KeepsNoCommitWaiting) {
  constexpr int kBrokenOff = 400;
  rig_.index().SetAbortPause(absl::Milliseconds(50));
  for (int i = 0; i < kBrokenOff; ++i) ASSERT_TRUE(BreakOff(i).ok());
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_), layout_, 1).ok());
  ASSERT_TRUE(rig_.WaitFor(rig_.Id(1), v1::CHECKPOINT_STATE_COMMITTED).ok());
  EXPECT_FALSE(IsRecorded(kBrokenOff - 1)) << "it came last";
  rig_.index().SetAbortPause(absl::ZeroDuration());
}

// Each of them holds a list of its ranks.
TEST_F(AbortFloodTest, OfHugeWorldsFewAreKept) {
  constexpr uint32_t kWorld = 65536;
  rig_.index().SetAbortsFail(true);  // so that the table goes on listing them
  for (uint64_t step = 1; step <= 200; ++step) {
    const auto opened = rig_.Open(rig_.Claim(step, 0, kWorld, *layout_), layout_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    opened->stream->GiveUp(absl::CancelledError("enough"));
  }
  const absl::Time patience = absl::Now() + absl::Seconds(60);
  std::vector<v1::CheckpointInfo> known;
  do {
    rig_.table().Tick();
    known = rig_.table().Live(rig_.run);
  } while (known.size() > 4'000'000 / kWorld && absl::Now() < patience);
  EXPECT_LE(known.size(), 4'000'000 / kWorld);
  ASSERT_FALSE(known.empty());
  EXPECT_EQ(known[0].state(), v1::CHECKPOINT_STATE_ABORTED);
  EXPECT_EQ(known[0].share_size(), static_cast<int>(kWorld));
  EXPECT_FALSE(known[0].has_durable_at());
}

}  // namespace
}  // namespace ckpt
