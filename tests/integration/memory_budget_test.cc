// The memory tier's bound: parts that fit recycle their pages, parts that don't go through a ring,
// and a budget that is held makes a save wait or be refused, as it asked.
#include "absl/strings/str_cat.h"
#include "ckpt/v1/save.grpc.pb.h"
#include "common/status_macros.h"
#include "tests/integration/integration_test.h"

namespace ckpt::testing {
namespace {

// Plans and layouts beside the files of parts: small, and not part of the budget.
constexpr uint64_t kRecordBytes = 128 << 10;

class MemoryBudget : public IntegrationTest {
 protected:
  uint64_t Used() {
    const absl::StatusOr<v1::GetStatusResponse> status = Status();
    EXPECT_TRUE(status.ok()) << status.status();
    return status->memory_used_bytes();
  }
  // A save of 12 MiB, held@1, by a client that stays.
  absl::StatusOr<SaveHandle> StageHeld() {
    holder_ = Connect();
    CKPT_ASSIGN_OR_RETURN(SaveHandle held,
                          holder_->Save(NewId("held", 1), MakeTestPart(held_state_, 0, 1), {}));
    CKPT_RETURN_IF_ERROR(held.AwaitStaged(absl::Seconds(60)));
    return held;
  }

  const TestState held_state_ = TestState::Plain(1, 12 * kMiB);

 private:
  std::unique_ptr<Client> holder_;
};

TEST_F(MemoryBudget, PagesAreRecycledFromSaveToSave) {
  StartDaemon({.memory_budget = "64MiB"});
  const Incarnation launch = Incarnation::TimeOrdered();
  const auto client = Connect();
  std::vector<std::string> after_two;
  for (uint64_t step = 1; step <= 8; ++step) {
    const TestState state = TestState::Plain(step, 8 * kMiB);
    absl::StatusOr<SaveHandle> save =
        client->Save({"run", step, launch}, MakeTestPart(state, 0, 1), {});
    ASSERT_TRUE(save.ok()) << save.status();
    CKPT_ASSERT_OK(save->AwaitCommitted(absl::Seconds(60)));
    EXPECT_LE(Used(), 64 * kMiB + kRecordBytes);
    EXPECT_LE(daemon().MemoryFolderBytes(), 64 * kMiB);
  }
  // The steady state holds the file being written and the last copy, not eight of them.
  EXPECT_LE(daemon().MemoryFolderBytes(), 3 * 8 * kMiB + kMiB);
  for (uint64_t step = 1; step <= 8; ++step) {
    CKPT_EXPECT_OK(Check(absl::StrCat("run@", step), TestState::Plain(step, 8 * kMiB)));
  }
}

TEST_F(MemoryBudget, APartLargerThanTheBudgetGoesThroughARing) {
  StartDaemon({.memory_budget = "16MiB"});
  const TestState state = TestState::Mixed(7, 50 * kMiB);
  for (const v1::OnFull on_full : {v1::ON_FULL_WAIT, v1::ON_FULL_RING}) {
    const std::string run = absl::StrCat("ring", on_full);
    CKPT_ASSERT_OK(SaveCommitted(NewId(run, 1), state, 1, {.on_full = on_full}));
    EXPECT_LE(Used(), 16 * kMiB + kRecordBytes);
    CKPT_EXPECT_OK(Check(run + "@1", state));
    CKPT_EXPECT_OK(Verify(run + "@1"));
  }
}

TEST_F(MemoryBudget, RingsOfSeveralRanksAndOverTheStream) {
  StartDaemon({.memory_budget = "24MiB"});
  const TestState state = TestState::Mixed(8, 80 * kMiB);
  CKPT_ASSERT_OK(SaveCommitted(NewId("shared", 1), state, 2, {.on_full = v1::ON_FULL_RING}));
  CKPT_EXPECT_OK(Check("shared@1", state, 2));
  CKPT_ASSERT_OK(SaveCommitted(NewId("stream", 1), state, 2,
                               {.on_full = v1::ON_FULL_RING, .transport = v1::TRANSPORT_STREAM}));
  CKPT_EXPECT_OK(Check("stream@1", state, 2));
  EXPECT_LE(Used(), 24 * kMiB + kRecordBytes);
}

TEST_F(MemoryBudget, AFullBudgetRefuses) {
  // Nothing becomes durable: what is staged holds the budget.
  StartDaemon({.memory_budget = "16MiB", .flags = {"--persist-delay=10m"}});
  const auto held = StageHeld();
  ASSERT_TRUE(held.ok()) << held.status();
  const TestState second = TestState::Plain(2, 8 * kMiB);
  const auto client = Connect();
  absl::StatusOr<SaveHandle> refused = client->Save(NewId("refused", 1), MakeTestPart(second, 0, 1),
                                                    {.on_full = v1::ON_FULL_REFUSE});
  ASSERT_TRUE(refused.ok()) << refused.status();
  EXPECT_EQ(refused->AwaitStaged(absl::Seconds(60)).code(), absl::StatusCode::kResourceExhausted)
      << refused->status();
  absl::StatusOr<SaveHandle> impatient =
      client->Save(NewId("impatient", 1), MakeTestPart(second, 0, 1),
                   {.on_full = v1::ON_FULL_WAIT, .memory_wait = absl::Milliseconds(100)});
  ASSERT_TRUE(impatient.ok()) << impatient.status();
  EXPECT_EQ(impatient->AwaitStaged(absl::Seconds(60)).code(), absl::StatusCode::kResourceExhausted)
      << impatient->status();
}

TEST_F(MemoryBudget, AFullBudgetIsWaitedForOrRung) {
  StartDaemon({.memory_budget = "16MiB", .flags = {"--persist-delay=3s"}});
  auto held = StageHeld();
  ASSERT_TRUE(held.ok()) << held.status();
  const TestState second = TestState::Plain(2, 8 * kMiB);
  const auto patient_client = Connect();
  absl::StatusOr<SaveHandle> patient = patient_client->Save(
      NewId("patient", 1), MakeTestPart(second, 0, 1), {.on_full = v1::ON_FULL_WAIT});
  ASSERT_TRUE(patient.ok()) << patient.status();
  const auto ring_client = Connect();
  absl::StatusOr<SaveHandle> through = ring_client->Save(
      NewId("through", 1), MakeTestPart(second, 0, 1), {.on_full = v1::ON_FULL_RING});
  ASSERT_TRUE(through.ok()) << through.status();
  CKPT_EXPECT_OK(patient->AwaitCommitted(absl::Seconds(60)));
  CKPT_EXPECT_OK(through->AwaitCommitted(absl::Seconds(60)));
  CKPT_EXPECT_OK(held->AwaitCommitted(absl::Seconds(60)));
  CKPT_EXPECT_OK(Check("held@1", held_state_));
  CKPT_EXPECT_OK(Check("patient@1", second));
  CKPT_EXPECT_OK(Check("through@1", second));
  EXPECT_LE(Used(), 16 * kMiB + kRecordBytes);
}

TEST_F(MemoryBudget, PreparedFilesAreUsedByTheFirstSave) {
  StartDaemon({.memory_budget = "64MiB"});
  const auto client = Connect();
  CKPT_ASSERT_OK(client->Prepare(8 * kMiB));
  const uint64_t prepared = daemon().MemoryFolderBytes();
  EXPECT_GE(prepared, 16 * kMiB);
  const TestState state = TestState::Plain(1, 8 * kMiB);
  absl::StatusOr<SaveHandle> save = client->Save(NewId("run", 1), MakeTestPart(state, 0, 1), {});
  ASSERT_TRUE(save.ok()) << save.status();
  CKPT_ASSERT_OK(save->AwaitCommitted(absl::Seconds(60)));
  EXPECT_LE(daemon().MemoryFolderBytes(), prepared + kMiB);
  CKPT_EXPECT_OK(Check("run@1", state));
}

TEST_F(MemoryBudget, IdleFilesOfOneSessionAreRevokedForAnother) {
  StartDaemon({.memory_budget = "16MiB"});
  const auto first = Connect();
  CKPT_ASSERT_OK(first->Prepare(7 * kMiB));
  const auto second = Connect();
  const TestState state = TestState::Plain(1, 12 * kMiB);
  absl::StatusOr<SaveHandle> save = second->Save(NewId("run", 1), MakeTestPart(state, 0, 1), {});
  ASSERT_TRUE(save.ok()) << save.status();
  CKPT_ASSERT_OK(save->AwaitCommitted(absl::Seconds(60)));
  CKPT_EXPECT_OK(Check("run@1", state));
  // And back: the first one's next save is none the worse.
  absl::StatusOr<SaveHandle> back = first->Save(NewId("run2", 1), MakeTestPart(state, 0, 1), {});
  ASSERT_TRUE(back.ok()) << back.status();
  CKPT_EXPECT_OK(back->AwaitCommitted(absl::Seconds(60)));
  EXPECT_LE(Used(), 16 * kMiB + kRecordBytes);
}

TEST_F(MemoryBudget, AnEndedSessionGivesItsPagesBack) {
  StartDaemon({.memory_budget = "32MiB"});
  {
    const auto client = Connect();
    CKPT_ASSERT_OK(client->Prepare(8 * kMiB));
    EXPECT_GE(Used(), 16 * kMiB);
  }
  CKPT_EXPECT_OK(Eventually("the pages are given back", [this] { return Used() < kMiB; }));
}

TEST_F(MemoryBudget, ARestoreThatIsUnderWayKeepsItsPagesAndSeesItsOwnBytes) {
  StartDaemon({.memory_budget = "32MiB"});
  const Incarnation launch = Incarnation::TimeOrdered();
  const auto client = Connect();
  const auto save_step = [&](uint64_t step) {
    absl::StatusOr<SaveHandle> save = client->Save(
        {"run", step, launch}, MakeTestPart(TestState::Plain(step, 8 * kMiB), 0, 1), {});
    ASSERT_TRUE(save.ok()) << save.status();
    CKPT_ASSERT_OK(save->AwaitCommitted(absl::Seconds(60)));
  };
  save_step(1);
  const auto reader = Connect();
  const auto plan = reader->PlanRestore(*ParseSelector("run@1"), {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (uint64_t step = 2; step <= 6; ++step) save_step(step);
  CKPT_EXPECT_OK(CheckRestoredWhole(**plan, TestState::Plain(1, 8 * kMiB)));
}

}  // namespace
}  // namespace ckpt::testing
