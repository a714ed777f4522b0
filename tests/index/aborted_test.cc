#include <algorithm>
#include <deque>
#include <map>
#include <random>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

class Aborted : public IndexTest {
 protected:
  void Abort(const CheckpointId& id, const std::string& reason) {
    v1::CheckpointInfo info;
    *info.mutable_id() = id.ToProto();
    info.set_checkpoint_uid(CheckpointUid::TimeOrdered().bytes());
    info.set_state(v1::CHECKPOINT_STATE_ABORTED);
    info.set_abort_reason(reason);
    absl::Status status = index_->PutAborted(info);
    ASSERT_TRUE(status.ok()) << status;
  }
};

TEST_F(Aborted, ReasonsAreKeptAcrossARestart) {
  Abort(IdOf("r", 5, 2), "rank 3 died");
  Abort(IdOf("r", 5, 2), "rank 4 died");
  Abort(IdOf("r", 6, 2), "other");
  Reopen();
  EXPECT_EQ(index_->FindAborted(IdOf("r", 5, 2))->abort_reason(), "rank 4 died");
  EXPECT_EQ(index_->FindAborted({.run = "r", .step = 6})->abort_reason(), "other");
  EXPECT_FALSE(index_->FindAborted(IdOf("r", 5, 3)).ok());
  EXPECT_FALSE(index_->FindAborted(IdOf("s", 5, 2)).ok());
  std::vector<std::string> reasons;
  ASSERT_TRUE(index_
                  ->ForEachAborted("r",
                                   [&](const v1::CheckpointInfo& info) {
                                     reasons.push_back(info.abort_reason());
                                     return true;
                                   })
                  .ok());
  EXPECT_THAT(reasons, testing::ElementsAre("other", "rank 4 died", "rank 3 died"));
  EXPECT_EQ(index_->CheckpointCount(), 0u);
  EXPECT_EQ(*index_->NewestIncarnation("r"), IncarnationOf(2));
}

TEST_F(Aborted, AreForgottenAfterAWhile) {
  Abort(IdOf("r", 5), "x");
  ASSERT_TRUE(index_->ForgetAbortedBefore(absl::Now() - absl::Hours(1)).ok());
  EXPECT_TRUE(index_->FindAborted(IdOf("r", 5)).ok());
  ASSERT_TRUE(index_->ForgetAbortedBefore(absl::Now() + absl::Seconds(1)).ok());
  EXPECT_FALSE(index_->FindAborted(IdOf("r", 5)).ok());
}

TEST_F(Aborted, OfARunTheNewestAreKept) {
  for (uint64_t step = 1; step <= kAbortedOfARunMax + 5; ++step) Abort(IdOf("r", step), "x");
  Abort(IdOf("s", 1), "y");
  size_t kept = 0;
  ASSERT_TRUE(index_->ForEachAborted("r", [&](const v1::CheckpointInfo&) { return ++kept; }).ok());
  EXPECT_EQ(kept, kAbortedOfARunMax);
  EXPECT_FALSE(index_->FindAborted(IdOf("r", 5)).ok());
  EXPECT_TRUE(index_->FindAborted(IdOf("r", 6)).ok());
  EXPECT_TRUE(index_->FindAborted(IdOf("s", 1)).ok());
}

// Whatever came before: runs in turn, what was forgotten, restarts.
TEST_F(Aborted, AreThoseThatWereNotForgotten) {
  std::mt19937 random(7);
  std::map<std::string, std::deque<uint64_t>> kept;  // by run, oldest first
  uint64_t step = 0;
  for (int turn = 0; turn < 3000; ++turn) {
    const std::string run(1, static_cast<char>('a' + random() % 3));
    const uint32_t what = random() % 1000;
    if (what < 4) {
      ASSERT_TRUE(index_->ForgetAbortedBefore(absl::Now() + absl::Seconds(1)).ok());
      kept.clear();
    } else if (what < 8) {
      ASSERT_TRUE(index_->ForgetAbortedBefore(absl::Now() - absl::Hours(1)).ok());
    } else if (what < 10) {
      Reopen();
    } else {
      for (uint64_t more = random() % 8; more > 0; --more) {
        Abort(IdOf(run, ++step), "x");
        kept[run].push_back(step);
        if (kept[run].size() > kAbortedOfARunMax) kept[run].pop_front();
      }
    }
    if (turn % 50 != 0) continue;
    std::vector<uint64_t> steps;
    ASSERT_TRUE(index_
                    ->ForEachAborted(run,
                                     [&](const v1::CheckpointInfo& info) {
                                       steps.push_back(info.id().step());
                                       return true;
                                     })
                    .ok());
    ASSERT_THAT(steps, testing::ElementsAreArray(kept[run].rbegin(), kept[run].rend()));
  }
}

// A client may make up names of runs as fast as it likes.
TEST_F(Aborted, OfAllRunsTheNewerHalfIsKept) {
  for (uint64_t run = 0; run <= kAbortedInIndexMax; ++run) {
    ASSERT_NO_FATAL_FAILURE(Abort(IdOf(std::to_string(run), 1), ""));
    if (run == kAbortedInIndexMax / 4) Reopen();
  }
  EXPECT_FALSE(index_->FindAborted(IdOf("0", 1)).ok());
  EXPECT_FALSE(index_->FindAborted(IdOf(std::to_string(kAbortedInIndexMax / 2 - 1), 1)).ok());
  EXPECT_TRUE(index_->FindAborted(IdOf(std::to_string(kAbortedInIndexMax / 2), 1)).ok());
  EXPECT_TRUE(index_->FindAborted(IdOf(std::to_string(kAbortedInIndexMax), 1)).ok());
  EXPECT_EQ(*index_->NewestIncarnation("0"), std::nullopt) << "its run is forgotten";
}

TEST_F(Aborted, OneIncarnationDoesNotShutARunForEver) {
  Put(IdOf("committed", 1));
  Abort(IdOf("committed", 2, 9), "a clock that was ahead");
  Abort(IdOf("never", 1, 9), "a clock that was ahead");
  ASSERT_TRUE(index_->ForgetAbortedBefore(absl::Now() + absl::Seconds(1)).ok());
  EXPECT_EQ(*index_->NewestIncarnation("never"), std::nullopt);
  EXPECT_EQ(*index_->NewestIncarnation("committed"), IncarnationOf(9));
}

TEST_F(Aborted, AShareIsGivenBackWhole) {
  v1::CheckpointInfo info;
  *info.mutable_id() = IdOf("r", 1).ToProto();
  info.set_checkpoint_uid(CheckpointUid::TimeOrdered().bytes());
  info.set_world_size(4);
  for (const uint32_t rank : {1, 3}) info.add_share(rank);
  ASSERT_TRUE(index_->PutAborted(info).ok());
  EXPECT_THAT(index_->FindAborted(IdOf("r", 1))->share(), testing::ElementsAre(1, 3));
  for (const uint32_t rank : {0, 2}) info.add_share(rank);
  std::sort(info.mutable_share()->begin(), info.mutable_share()->end());
  *info.mutable_id() = IdOf("r", 2).ToProto();
  ASSERT_TRUE(index_->PutAborted(info).ok());
  EXPECT_THAT(index_->FindAborted(IdOf("r", 2))->share(), testing::ElementsAre(0, 1, 2, 3));
}

}  // namespace
}  // namespace ckpt
