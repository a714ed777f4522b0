// SaveHandle::AwaitCommitted against a fake daemon: asked again across restarts, timed out,
// aborted.
#include "client/save/save_state.h"
#include "gmock/gmock.h"
#include "tests/client/save_fixture.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

TEST_F(SaveTest, CommittedIsAskedOfTheDaemonAcrossItsRestarts) {
  auto handle = Save();
  ASSERT_TRUE(handle.ok() && handle->AwaitStaged().ok());
  std::atomic<int> asked{0};
  daemon_.on_wait = [&](const v1::WaitCheckpointRequest& request,
                        v1::WaitCheckpointResponse* response, grpc::ServerContext*) {
    if (asked.fetch_add(1) == 0) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "stopping");
    EXPECT_EQ(request.state(), v1::CHECKPOINT_STATE_COMMITTED);
    EXPECT_EQ(request.id().step(), 1u);
    response->mutable_checkpoint()->set_state(v1::CHECKPOINT_STATE_COMMITTED);
    return grpc::Status::OK;
  };
  EXPECT_TRUE(handle->AwaitCommitted().ok());
  EXPECT_EQ(asked.load(), 2);
  EXPECT_EQ(handle->Progress().state, v1::CHECKPOINT_STATE_COMMITTED);
}

class AwaitCommittedTest : public SaveTest {
 protected:
  AwaitCommittedTest() {
    auto connection = Connection::Open({.socket = daemon_.socket(), .name = "save_test"});
    EXPECT_TRUE(connection.ok()) << connection.status();
    state_ = std::make_unique<SaveHandle::Impl>(Id(), *connection, 0, absl::Now(), kGrace);
    state_->SetStaged();
  }
  absl::Status Poll(absl::Duration timeout) {
    return state_->AwaitCommitted(absl::Now() + timeout);
  }
  static constexpr absl::Duration kGrace = absl::Milliseconds(300);
  std::unique_ptr<SaveHandle::Impl> state_;
};

TEST_F(AwaitCommittedTest, ShortWaitsLearnThatTheDaemonIsGone) {
  daemon_.Stop();
  const absl::Time begin = absl::Now();
  absl::Status status;
  do {
    status = Poll(absl::Milliseconds(20));
  } while (absl::IsDeadlineExceeded(status) && absl::Now() < begin + absl::Seconds(20));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_GT(absl::Now() - begin, kGrace);
}

TEST_F(AwaitCommittedTest, AnAnswerBetweenTwoRestartsEndsTheFirst) {
  std::atomic<bool> stopping{true};
  daemon_.on_wait = [&](const v1::WaitCheckpointRequest&, v1::WaitCheckpointResponse*,
                        grpc::ServerContext* context) {
    if (stopping.load()) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "stopping");
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  EXPECT_TRUE(absl::IsDeadlineExceeded(Poll(absl::Milliseconds(50))));
  stopping.store(false);
  EXPECT_TRUE(absl::IsDeadlineExceeded(Poll(kGrace)));
  stopping.store(true);
  EXPECT_TRUE(absl::IsDeadlineExceeded(Poll(absl::Milliseconds(50))));
}

TEST_F(SaveTest, CommittedMayTimeOutOrBeAborted) {
  auto handle = Save();
  ASSERT_TRUE(handle.ok() && handle->AwaitStaged().ok());
  daemon_.on_wait = [&](const v1::WaitCheckpointRequest&, v1::WaitCheckpointResponse*,
                        grpc::ServerContext* context) {
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  EXPECT_EQ(handle->AwaitCommitted(absl::Milliseconds(30)).code(),
            absl::StatusCode::kDeadlineExceeded);
  daemon_.on_wait = [&](const v1::WaitCheckpointRequest&, v1::WaitCheckpointResponse*,
                        grpc::ServerContext*) {
    return grpc::Status(grpc::StatusCode::ABORTED, "rank 1 never came");
  };
  const absl::Status aborted = handle->AwaitCommitted();
  EXPECT_EQ(aborted.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(handle->status(), aborted);
}

}  // namespace
}  // namespace ckpt
