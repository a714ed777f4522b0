// Client::Save against a fake daemon that is strict about the protocol.
#include <pthread.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "gmock/gmock.h"
#include "tests/client/save_fixture.h"

namespace ckpt {
namespace {

using testing::FakeSave;
using ::testing::HasSubstr;

// A switch that tests wait for: plain mutex, so that ThreadSanitizer sees it.
class Switch {
 public:
  void Set() {
    MutexLock lock(mutex_);
    set_ = true;
    changed_.NotifyAll();
  }
  void Await() {
    MutexLock lock(mutex_);
    while (!set_) changed_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool set_ ABSL_GUARDED_BY(mutex_) = false;
};

TEST_F(SaveTest, SharedMemoryBringsEveryByteAndValue) {
  for (const int threads : {1, 3}) {
    auto handle = Save({.copy_threads = threads}, static_cast<uint64_t>(threads));
    ASSERT_TRUE(handle.ok()) << handle.status();
    ASSERT_TRUE(handle->AwaitStaged().ok()) << handle->status();
    EXPECT_EQ(handle->Progress().state, v1::CHECKPOINT_STATE_STAGED);
    EXPECT_EQ(handle->Progress().bytes_copied, handle->Progress().bytes_total);
    EXPECT_GT(handle->stall(), absl::ZeroDuration());
    ExpectReceived(save_.received().back());
    EXPECT_EQ(save_.received().back().progress_messages, 0);
  }
}

TEST_F(SaveTest, TheSecondSaveSendsNoPlanAndMapsNoFile) {
  for (uint64_t step = 1; step <= 3; ++step) {
    tensors_[3][17] = static_cast<char>(step);
    auto handle = Save({}, step);
    ASSERT_TRUE(handle.ok() && handle->AwaitStaged().ok());
    ExpectReceived(save_.received().back());
  }
  EXPECT_EQ(save_.plans_asked(), 1);
  EXPECT_EQ(save_.grants(), 1);
}

TEST_F(SaveTest, APartLargerThanTheFileGoesThroughTheRing) {
  save_.ring_bytes = 100003;  // no multiple of anything, smaller than most tensors
  for (const int threads : {1, 2}) {
    auto handle = Save({.copy_threads = threads}, static_cast<uint64_t>(threads));
    ASSERT_TRUE(handle.ok());
    ASSERT_TRUE(handle->AwaitStaged().ok()) << handle->status();
    ExpectReceived(save_.received().back());
    EXPECT_GT(save_.received().back().progress_messages, 10);
  }
}

TEST_F(SaveTest, StreamTransportBringsEveryByteInOrder) {
  auto handle = Save({.transport = v1::TRANSPORT_STREAM});
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(handle->AwaitStaged().ok()) << handle->status();
  ExpectReceived(save_.received().back());
  EXPECT_EQ(save_.grants(), 0);
}

// The transport sends tensors from where they lie.
TEST_F(SaveTest, AStreamThatFailsHasLetGoOfTheTensors) {
  save_.before_finish = [] { return grpc::Status(grpc::StatusCode::INTERNAL, "by the test"); };
  Part part = MakePart();
  auto owner = std::make_shared<int>();
  const std::weak_ptr<int> watched = owner;
  part.keep_alive = std::move(owner);
  auto handle = client_->Save(Id(), std::move(part), {.transport = v1::TRANSPORT_STREAM});
  ASSERT_TRUE(handle.ok());
  EXPECT_EQ(handle->AwaitStaged(absl::Seconds(30)).code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(watched.expired());
}

TEST_F(SaveTest, ABrokenStreamIsResumedWithTheSameRequestId) {
  save_.break_stream_at = 3 << 20;
  auto handle = Save({.transport = v1::TRANSPORT_STREAM});
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(handle->AwaitStaged().ok()) << handle->status();
  const std::vector<v1::Begin> begins = save_.begins();
  ASSERT_EQ(begins.size(), 2u);
  EXPECT_EQ(begins[0].request_id(), begins[1].request_id());
  FakeSave::Received part = save_.received().back();
  EXPECT_EQ(part.values.entries_size(), 0) << "the first attempt brought them";
  part.values.add_entries()->mutable_value()->set_integer(42);
  ExpectReceived(part);
}

TEST_F(SaveTest, AStreamThatBreaksAfterFinishNeedsNoFileAnyMore) {
  save_.break_after_finish = true;
  for (const v1::Transport transport : {v1::TRANSPORT_SHARED_MEMORY, v1::TRANSPORT_STREAM}) {
    auto handle = Save({.transport = transport}, static_cast<uint64_t>(transport));
    ASSERT_TRUE(handle.ok());
    ASSERT_TRUE(handle->AwaitStaged(absl::Seconds(30)).ok()) << handle->status();
    EXPECT_EQ(handle->Progress().bytes_copied, handle->Progress().bytes_total);
    FakeSave::Received part = save_.received().back();
    part.values.add_entries()->mutable_value()->set_integer(42);  // the first attempt's
    ExpectReceived(part);
  }
  EXPECT_EQ(save_.begins().size(), 4u);
}

TEST_F(SaveTest, TheGrantMayComeAfterAccepted) {
  save_.grant_after_accepted = true;
  auto handle = Save();
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(handle->AwaitStaged().ok()) << handle->status();
  ExpectReceived(save_.received().back());
}

TEST_F(SaveTest, ARevokedFileIsUnmappedOnlyWhenNoSaveUsesIt) {
  save_.ring_bytes = 100003;
  save_.before_finish = [&] {
    daemon_.Revoke(save_.last_file());
    // Frames are handled in order: once a file that it never had is answered for, the revocation
    // before it has been looked at.
    const FileId other = FileId::Random();
    daemon_.Revoke(other);
    EXPECT_TRUE(daemon_.AwaitUnmapped(other));
    EXPECT_FALSE(daemon_.HasUnmapped(save_.last_file()));
    return grpc::Status::OK;
  };
  auto handle = Save();
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(handle->AwaitStaged().ok()) << handle->status();
  EXPECT_TRUE(daemon_.AwaitUnmapped(save_.last_file()));
  ExpectReceived(save_.received().back());
}

TEST_F(SaveTest, AnAbortedSaveTellsTheReason) {
  save_.before_staged = [](grpc::ServerContext*) {
    return grpc::Status(grpc::StatusCode::ABORTED, "rank 3 died");
  };
  auto handle = Save();
  ASSERT_TRUE(handle.ok());
  const absl::Status status = handle->AwaitStaged();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 3 died"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("team/run@1"));
  EXPECT_EQ(handle->Progress().state, v1::CHECKPOINT_STATE_ABORTED);
  EXPECT_EQ(handle->AwaitCommitted(), status);

  save_.before_staged = nullptr;
  auto next = Save({}, 2);
  ASSERT_TRUE(next.ok());
  EXPECT_TRUE(next->AwaitStaged().ok()) << "a failed save is not felt by the next";
}

TEST_F(SaveTest, AnAbortInTheMiddleOfARingEndsIt) {
  save_.ring_bytes = 64 << 10;
  save_.before_finish = [] { return grpc::Status(grpc::StatusCode::ABORTED, "disagreement"); };
  auto handle = Save();
  ASSERT_TRUE(handle.ok());
  EXPECT_EQ(handle->AwaitStaged().code(), absl::StatusCode::kAborted);
}

TEST_F(SaveTest, RetryAfterIsPassedOn) {
  daemon_.on_save = [](testing::SaveStreamServer*, grpc::ServerContext* context) {
    context->AddTrailingMetadata("retry-after-ms", "250");
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "memory budget");
  };
  auto handle = Save();
  ASSERT_TRUE(handle.ok());
  const absl::Status status = handle->AwaitStaged();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("retry after 250 ms"));
}

TEST_F(SaveTest, WaitingMayTimeOutAndGoOn) {
  Switch go;
  save_.before_staged = [&](grpc::ServerContext*) {
    go.Await();
    return grpc::Status::OK;
  };
  auto handle = Save();
  ASSERT_TRUE(handle.ok());
  EXPECT_EQ(handle->AwaitStaged(absl::Milliseconds(20)).code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(handle->status().ok());
  EXPECT_EQ(handle->stall(), absl::ZeroDuration());
  go.Set();
  EXPECT_TRUE(handle->AwaitStaged().ok());
}

TEST_F(SaveTest, ClosingTheClientCancelsWhatIsNotStaged) {
  Switch reached;
  std::atomic<bool> cancelled{false};
  save_.before_staged = [&](grpc::ServerContext* context) {
    reached.Set();
    while (!context->IsCancelled()) std::this_thread::yield();
    cancelled.store(true);
    return grpc::Status::CANCELLED;
  };
  auto handle = Save();
  ASSERT_TRUE(handle.ok());
  reached.Await();
  client_.reset();
  EXPECT_EQ(handle->AwaitStaged().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(daemon_.AwaitSessionEnd(1)) << "a handle that outlives the client keeps no session";
  daemon_.Stop();
  EXPECT_TRUE(cancelled.load());
}

TEST_F(SaveTest, EarlyLeavesMayChangeWhenSaveHasReturned) {
  Switch go;
  save_.before_accepted = [&] {
    go.Await();
    return grpc::Status::OK;
  };
  Part part = MakePart();
  for (size_t i = 0; i < tensors_.size(); i += 2) part.leaves[i].copy_early = true;
  const std::vector<std::string> before = tensors_;
  auto handle = client_->Save(Id(), std::move(part), {.overlap = true});
  ASSERT_TRUE(handle.ok());
  for (size_t i = 0; i < tensors_.size(); i += 2) {
    std::fill(tensors_[i].begin(), tensors_[i].end(), '!');
  }
  go.Set();
  ASSERT_TRUE(handle->AwaitStaged().ok()) << handle->status();
  tensors_ = before;
  ExpectReceived(save_.received().back());
}

TEST_F(SaveTest, ThePartIsLetGoWhenStaged) {
  auto kept = std::make_shared<int>(1);
  const std::weak_ptr<int> watched = kept;
  Part part = MakePart();
  part.keep_alive = std::move(kept);
  auto handle = client_->Save(Id(), std::move(part), {});
  ASSERT_TRUE(handle.ok() && handle->AwaitStaged().ok());
  const absl::Time patience = absl::Now() + absl::Seconds(10);
  while (!watched.expired() && absl::Now() < patience) std::this_thread::yield();
  EXPECT_TRUE(watched.expired());
}

TEST_F(SaveTest, WithoutAnotherThreadForItTheSaveIsRefusedAtOnce) {
  pthread_attr_t before;
  ASSERT_EQ(pthread_getattr_default_np(&before), 0);
  pthread_attr_t huge = before;
  ASSERT_EQ(pthread_attr_setstacksize(&huge, size_t{1} << 60), 0);
  ASSERT_EQ(pthread_setattr_default_np(&huge), 0);
  const auto refused = Save();
  ASSERT_EQ(pthread_setattr_default_np(&before), 0);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted) << refused.status();
  auto next = Save({}, 2);
  ASSERT_TRUE(next.ok());
  EXPECT_TRUE(next->AwaitStaged().ok()) << next->status();
}

TEST_F(SaveTest, PreparingForAPartAsksForItsBytesAndReadsNone) {
  Part part = MakePart();
  const auto plan = MakePartPlan(part);
  ASSERT_TRUE(plan.ok());
  std::atomic<uint64_t> asked{0};
  daemon_.on_prepare = [&](const v1::PrepareRequest& request, v1::PrepareResponse*) {
    asked.store(request.part_bytes());
    EXPECT_EQ(request.files(), 2u);
    return grpc::Status::OK;
  };
  for (PartLeaf& leaf : part.leaves) leaf.data = nullptr;
  EXPECT_TRUE(client_->Prepare(part).ok());
  EXPECT_EQ(asked.load(), plan->layout->part_bytes());
  auto handle = Save();
  ASSERT_TRUE(handle.ok() && handle->AwaitStaged().ok());
  ExpectReceived(save_.received().back());
  part.leaves.push_back(part.leaves[0]);  // the same key twice
  EXPECT_EQ(client_->Prepare(part).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(SaveTest, APartOfValuesAlone) {
  tensors_.clear();
  auto handle = Save();
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(handle->AwaitStaged().ok()) << handle->status();
  ExpectReceived(save_.received().back());
}

TEST_F(SaveTest, ADaemonThatDiesFailsTheSaveOnItsHandleAndTheNextOneReconnects) {
  Switch reached;
  save_.before_staged = [&](grpc::ServerContext* context) {
    reached.Set();
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  auto handle = Save();
  ASSERT_TRUE(handle.ok());
  reached.Await();
  daemon_.Stop();
  const absl::Status status = handle->AwaitStaged();
  EXPECT_TRUE(absl::IsUnavailable(status) || absl::IsCancelled(status)) << status;

  save_.before_staged = nullptr;
  daemon_.Start();
  auto next = Save({}, 2);
  ASSERT_TRUE(next.ok());
  ASSERT_TRUE(next->AwaitStaged().ok()) << next->status();
  EXPECT_EQ(daemon_.sessions_opened(), 2);
  ExpectReceived(save_.received().back());
}

TEST_F(SaveTest, SavesOfSeveralRanksDoNotWaitForEachOther) {
  // Rank 0 is held back until rank 1 is through: with one thread for all saves this would hang.
  Switch second_staged;
  std::atomic<int> accepted{0};
  save_.ring_bytes = 0;
  save_.before_accepted = [&] {
    if (accepted.fetch_add(1) == 0) second_staged.Await();
    return grpc::Status::OK;
  };
  Part first = MakePart();
  first.world_size = 2;
  Part second = MakePart();
  second.world_size = 2;
  second.rank = 1;
  auto handle = client_->Save(Id(), std::move(first), {.transport = v1::TRANSPORT_STREAM});
  ASSERT_TRUE(handle.ok());
  while (accepted.load() == 0) std::this_thread::yield();
  auto other = client_->Save(Id(), std::move(second), {.transport = v1::TRANSPORT_STREAM});
  ASSERT_TRUE(other.ok());
  EXPECT_TRUE(other->AwaitStaged().ok()) << other->status();
  second_staged.Set();
  EXPECT_TRUE(handle->AwaitStaged().ok()) << handle->status();
}

TEST_F(SaveTest, BadArgumentsComeBackAtOnce) {
  const auto code = [&](const CheckpointId& id, SaveOptions options) {
    return client_->Save(id, MakePart(), options).status().code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code({"../etc", 1, incarnation_}, {}), kInvalid);
  EXPECT_EQ(code({"", 1, incarnation_}, {}), kInvalid);
  EXPECT_EQ(code({std::string("a\0b", 3), 1, incarnation_}, {}), kInvalid);
  EXPECT_EQ(code({std::string(10000, 'a'), 1, incarnation_}, {}), kInvalid);
  EXPECT_EQ(code({"run", uint64_t{1} << 63, incarnation_}, {}), kInvalid);
  EXPECT_EQ(code({"run", 1, Incarnation()}, {}), kInvalid);
  EXPECT_EQ(code(Id(), {.copy_threads = 0}), kInvalid);
  EXPECT_EQ(code(Id(), {.copy_threads = 1000}), kInvalid);
  Part null = MakePart();
  null.leaves[0].data = nullptr;
  EXPECT_EQ(client_->Save(Id(), std::move(null), {}).status().code(), kInvalid);
  EXPECT_TRUE(save_.begins().empty()) << "nothing was sent";
}

TEST_F(SaveTest, TheOptionsReachTheDaemon) {
  auto handle = Save({.if_exists = v1::IF_EXISTS_REPLACE,
                      .on_full = v1::ON_FULL_RING,
                      .join_deadline = absl::Seconds(90),
                      .memory_wait = absl::InfiniteDuration(),
                      .resumed_step = 7});
  ASSERT_TRUE(handle.ok() && handle->AwaitStaged().ok());
  const v1::Begin begin = save_.begins().at(0);
  EXPECT_EQ(begin.if_exists(), v1::IF_EXISTS_REPLACE);
  EXPECT_EQ(begin.on_full(), v1::ON_FULL_RING);
  EXPECT_EQ(begin.join_deadline().seconds(), 90);
  EXPECT_GT(begin.memory_wait().seconds(), 3600);
  EXPECT_EQ(begin.resumed_step(), 7u);
  EXPECT_EQ(begin.id().run(), "team/run");
}

}  // namespace
}  // namespace ckpt
