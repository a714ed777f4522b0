// Clients that die or are silent, tokens that are none, a daemon that drains or is full.
#include <thread>

#include "tests/rpc_save/save_fixture.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

class SaveFaultTest : public SaveServiceTest {};

TEST_F(SaveFaultTest, ASilentClientHearsAtOnceThatAnotherHasDied) {
  SessionClient living(rig_.socket_path());
  auto dying = std::make_unique<SessionClient>(rig_.socket_path());
  SaveCall silent(*stub_);
  silent.Open(MakeBegin(1, 0, 2, *layout_, &living), *layout_);
  SaveCall dead(*stub_);
  dead.Open(MakeBegin(1, 1, 2, *layout_, dying.get()), *layout_);
  dying = nullptr;
  const grpc::Status status = silent.End();  // it has sent nothing since
  EXPECT_EQ(status.error_code(), grpc::ABORTED);
  EXPECT_THAT(status.error_message(), HasSubstr("rank 1's process"));
}

TEST_F(SaveFaultTest, ASilentClientHearsOfTheJoinDeadline) {
  v1::Begin begin = MakeBegin(1, 0, 2, *layout_);
  begin.mutable_join_deadline()->set_seconds(5);
  SaveCall silent(*stub_);
  silent.Open(begin, *layout_);
  rig_.clock().Advance(absl::Seconds(6));
  rig_.table().Tick();
  const grpc::Status status = silent.End();
  EXPECT_EQ(status.error_code(), grpc::ABORTED);
  EXPECT_THAT(status.error_message(), HasSubstr("rank 1 did not begin"));
}

// It holds a thread, and has shown nothing yet.
TEST_F(SaveFaultTest, AStreamOnWhichBeginNeverComesEnds) {
  StopServing();
  begin_patience_ = absl::Milliseconds(300);
  Serve();
  SaveCall silent(*stub_);
  const absl::Time begin = absl::Now();
  const grpc::Status status = silent.End();
  EXPECT_EQ(status.error_code(), grpc::DEADLINE_EXCEEDED);
  EXPECT_THAT(status.error_message(), HasSubstr("no Begin came within 300ms"));
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(250));
}

TEST_F(SaveFaultTest, UnknownTokensAreUnauthenticated) {
  for (const std::string& token : {std::string(16, 'x'), std::string("short")}) {
    v1::Begin begin = MakeBegin(1, 0, 1, *layout_);
    begin.set_session_token(token);
    SaveCall call(*stub_);
    call.Begin(begin);
    EXPECT_EQ(call.End().error_code(), grpc::UNAUTHENTICATED);
  }
  v1::Begin begin = MakeBegin(1, 0, 1, *layout_);
  begin.set_transport(v1::TRANSPORT_SHARED_MEMORY);
  SaveCall call(*stub_);
  call.Begin(begin);
  EXPECT_EQ(call.End().error_code(), grpc::UNAUTHENTICATED);
}

TEST_F(SaveFaultTest, TwoRanksThatClaimTheSameRank) {
  SaveCall first(*stub_);
  first.Open(MakeBegin(1, 0, 2, *layout_), *layout_);
  SaveCall second(*stub_);
  second.Begin(MakeBegin(1, 0, 2, *layout_));
  EXPECT_EQ(second.End().error_code(), grpc::ALREADY_EXISTS);
}

TEST_F(SaveFaultTest, ADrainingDaemonIsUnavailable) {
  rig_.table().StopAdmitting();
  SaveCall call(*stub_);
  call.Begin(MakeBegin(1, 0, 1, *layout_));
  EXPECT_EQ(call.End().error_code(), grpc::UNAVAILABLE);
}

TEST_F(SaveFaultTest, AStoppingDaemonEndsSilentStreams) {
  SaveCall call(*stub_);
  call.Open(MakeBegin(1, 0, 2, *layout_), *layout_);
  rig_.table().Shutdown();
  EXPECT_EQ(call.End().error_code(), grpc::UNAVAILABLE);
}

TEST_F(SaveFaultTest, AClientThatGoesAwayInTheMiddleFreesItsThread) {
  // Small enough that twenty parts in their grace fit in the budget.
  auto tiny = PlainLayout(100);
  for (uint64_t step = 1; step <= 20; ++step) {
    SaveCall call(*stub_);
    call.Open(MakeBegin(step, 0, 1, *tiny), *tiny);
    call.Cancel();
  }
  while (rig_.table().open_saves() > 0) std::this_thread::yield();
}

class FullBudgetTest : public SaveServiceTest {
 protected:
  FullBudgetTest()
      : SaveServiceTest({.budget_bytes = 8 << 20, .persist_delay = absl::Seconds(60)}) {}
};

TEST_F(FullBudgetTest, RefusalSaysWhenToComeBack) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_), layout_, 1).ok());
  v1::Begin begin = MakeBegin(2, 0, 1, *layout_);
  begin.set_on_full(v1::ON_FULL_REFUSE);
  SaveCall call(*stub_);
  call.Begin(begin);
  EXPECT_EQ(call.End().error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(call.context().GetServerTrailingMetadata().count("retry-after-ms"), 1u);
}

TEST_F(FullBudgetTest, AClientThatGoesAwayWhileItWaitsIsNotWaitedFor) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_), layout_, 1).ok());
  {
    SaveCall call(*stub_);
    call.Begin(MakeBegin(2, 0, 1, *layout_));
    while (rig_.table().open_saves() == 0) std::this_thread::yield();
    call.Cancel();
  }
  while (rig_.table().open_saves() > 0) std::this_thread::yield();
}

TEST_F(FullBudgetTest, AWaitingClientHearsAtOnceThatAnotherHasDied) {
  ASSERT_TRUE(rig_.Save(rig_.Claim(1, 0, 1, *layout_), layout_, 1).ok());
  auto dying = std::make_unique<SessionClient>(rig_.socket_path());
  auto tiny = PlainLayout(100);
  SaveCall dead(*stub_);
  dead.Open(MakeBegin(2, 1, 2, *tiny, dying.get()), *tiny);
  SaveCall waiting(*stub_);
  waiting.Begin(MakeBegin(2, 0, 2, *layout_));
  while (rig_.table().open_saves() < 2) std::this_thread::yield();
  dying = nullptr;
  EXPECT_EQ(waiting.End().error_code(), grpc::ABORTED);
}

class OneStreamTest : public SaveServiceTest {
 protected:
  OneStreamTest() : SaveServiceTest({}, /*streams_max=*/1) {}
};

TEST_F(OneStreamTest, TheStreamBeyondTheLastIsRefusedAndMayComeAgain) {
  SaveCall first(*stub_);
  first.Open(MakeBegin(1, 0, 1, *layout_), *layout_);
  {
    SaveCall second(*stub_);
    second.Begin(MakeBegin(2, 0, 1, *layout_));
    EXPECT_EQ(second.End().error_code(), grpc::RESOURCE_EXHAUSTED);
    EXPECT_EQ(second.context().GetServerTrailingMetadata().count("retry-after-ms"), 1u);
  }
  first.Cancel();
  EXPECT_FALSE(first.End().ok());
  grpc::Status status(grpc::RESOURCE_EXHAUSTED, "not tried");
  for (int i = 0; i < 1000 && status.error_code() == grpc::RESOURCE_EXHAUSTED; ++i) {
    SaveCall third(*stub_);
    third.Begin(MakeBegin(3, 0, 1, *layout_));
    if (third.Read().kind_case() != v1::SaveResponse::KIND_NOT_SET) status = grpc::Status::OK;
    if (!status.ok()) status = third.End();
  }
  EXPECT_TRUE(status.ok()) << status.error_message();
}

}  // namespace
}  // namespace ckpt
