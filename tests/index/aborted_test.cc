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

}  // namespace
}  // namespace ckpt
