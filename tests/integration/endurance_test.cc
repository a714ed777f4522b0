// Nothing that clients come and go with stays behind: many rounds of saving, watching, restoring
// and deleting, of clients that vanish in the middle, and then the daemon has no more descriptors,
// threads, files and (but for what the allocator keeps) memory than before. CKPT_ENDURANCE_ROUNDS=N
// for more rounds: 360 are what a job that saves every ten seconds does in an hour.
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "ckpt/v1/restore.grpc.pb.h"
#include "ckpt/v1/save.grpc.pb.h"
#include "client/transport/session.h"
#include "grpcpp/client_context.h"
#include "tests/fixtures/setting.h"
#include "tests/integration/integration_test.h"
#include "tests/integration/rank_process.h"

namespace ckpt::testing {
namespace {

#ifdef CKPT_SANITIZED
constexpr bool kOwnAllocator = false;  // what is freed stays in quarantine or shadow
constexpr int kRounds = 12;
#else
constexpr bool kOwnAllocator = true;
constexpr int kRounds = 60;
#endif
constexpr int kWarmUp = 12;  // pools, arenas and caches have their size by then
constexpr uint64_t kGrowthMax = 24 << 20;
// Pools of threads and connections that are closing differ by a few; a leak by each round.
constexpr size_t kSome = 8;

// What the kernel says that a process holds.
struct Held {
  size_t descriptors = 0;
  size_t threads = 0;
  uint64_t bytes = 0;  // its own memory, without the memory tier
};

Held HeldBy(pid_t pid) {
  const std::filesystem::path folder = absl::StrCat("/proc/", pid);
  const auto count = [](const std::filesystem::path& path) {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path), {}));
  };
  Held held{count(folder / "fd"), count(folder / "task")};
  std::ifstream status(folder / "status");
  for (std::string word; status >> word;) {
    uint64_t kilobytes = 0;
    if (word == "RssAnon:" && status >> kilobytes) held.bytes = kilobytes << 10;
  }
  return held;
}

class Endurance : public IntegrationTest {
 protected:
  // A job of two ranks saves and resumes, another is watched and deleted.
  void HealthyRound(uint64_t step) {
    const CheckpointId id = NewId("endures/run", step);
    const TestState state = TestState::Mixed(step, 2 << 20);
    SaveOptions options;
    if (step % 2 == 0) options.transport = v1::TRANSPORT_STREAM;
    CKPT_ASSERT_OK(SaveCommitted(id, state, 2, options));
    CKPT_ASSERT_OK(Check(absl::StrCat("endures/run@", step), state, 2));
    {
      grpc::ClientContext context;
      v1::WatchCheckpointsRequest request;
      request.set_run("endures/run");
      const auto watch =
          v1::CatalogService::NewStub(channel())->WatchCheckpoints(&context, request);
      v1::WatchCheckpointsResponse response;
      ASSERT_TRUE(watch->Read(&response));
      context.TryCancel();  // and goes without a word
      (void)watch->Finish();
    }
    CKPT_ASSERT_OK(calls().Delete(id));
    DropClients();
  }

  // One rank never begins and the other dies while it copies; then calls and plans that nobody
  // ends.
  void BrokenRound(uint64_t step) {
    auto copies = RankProcess::Start(daemon().socket());
    CKPT_ASSERT_OK(copies.status());
    RankSave save{.id = NewId("endures/broken", step), .world_size = 2, .bytes = 1 << 20};
    save.hold_at = 1000;
    save.stream = step % 2 == 0;
    CKPT_ASSERT_OK((*copies)->Save(save));
    CKPT_ASSERT_OK((*copies)->AwaitHeld());
    (*copies)->Kill();
    // A call on which Begin never comes, and whose caller goes without a word.
    grpc::ClientContext context;
    const auto half_open = v1::SaveService::NewStub(channel())->Save(&context);
    half_open->Write(v1::SaveRequest());
    context.TryCancel();
    EXPECT_FALSE(half_open->Finish().ok());
    LeavePlanOpen();
  }
  // A session that ends while the daemon keeps files for its plan, which nobody releases.
  void LeavePlanOpen() {
    const CheckpointId id = NewId("endures/plan", 1);
    CKPT_ASSERT_OK(SaveCommitted(id, TestState::Plain(1, 1 << 20), 1));
    DropClients();
    const absl::StatusOr<Descriptor> session = ConnectUnixSocket(daemon().socket() + ".fd");
    CKPT_ASSERT_OK(session.status());
    v1::ClientFrame hello;
    hello.mutable_hello()->set_protocol_version(1);
    CKPT_ASSERT_OK(SendFrame(session->number(), hello));
    const absl::StatusOr<ReceivedFrame> welcome = ReceiveFrame(session->number());
    CKPT_ASSERT_OK(welcome.status());
    v1::PlanRestoreRequest request;
    *request.mutable_selector() = *ParseSelector("endures/plan@1");
    request.set_session_token(welcome->frame.welcome().session_token());
    grpc::ClientContext context;
    const auto plan = v1::RestoreService::NewStub(channel())->PlanRestore(&context, request);
    v1::PlanRestoreResponse response;
    while (plan->Read(&response)) {
    }
    ASSERT_TRUE(plan->Finish().ok());
    EXPECT_GT(Status()->open_plans(), 0u);
    CKPT_ASSERT_OK(calls().Delete(id));
  }

  // As soon as nothing is under way any more.
  Held AtRest() {
    CKPT_EXPECT_OK(Eventually("all saves, sessions and plans have ended", [&] {
      const auto status = Status();
      return status.ok() && status->open_saves() == 0 && status->sessions() == 0 &&
             status->open_plans() == 0 && status->persisting_parts() == 0;
    }));
    // gRPC's own threads end when they have had nothing to do for a while.
    Held held = HeldBy(daemon().pid());
    for (int steady = 0; steady < 20; ++steady) {
      absl::SleepFor(absl::Milliseconds(50));
      const Held now = HeldBy(daemon().pid());
      if (now.descriptors < held.descriptors || now.threads < held.threads) steady = 0;
      held = now;
    }
    return held;
  }
};

TEST_F(Endurance, WhatClientsComeAndGoWithDoesNotStay) {
  StartDaemon({.grace = "100ms", .log_level = "warning"});
  uint64_t step = 0;
  const auto rounds = [&](int count) {
    for (int i = 0; i < count && !HasFatalFailure(); ++i) {
      HealthyRound(++step);
      if (step % 3 == 0) BrokenRound(step);
    }
  };
  rounds(kWarmUp);
  ASSERT_FALSE(HasFatalFailure());
  const Held before = AtRest();
  const auto asked = static_cast<int>(TestSetting("CKPT_ENDURANCE_ROUNDS", kRounds));
  rounds(asked);
  ASSERT_FALSE(HasFatalFailure());
  const Held after = AtRest();
  std::cout << "endurance: " << asked << " rounds: descriptors " << before.descriptors << " -> "
            << after.descriptors << ", threads " << before.threads << " -> " << after.threads
            << ", memory " << (before.bytes >> 10) << " -> " << (after.bytes >> 10) << " KiB\n";
  EXPECT_LT(after.descriptors, before.descriptors + kSome);
  EXPECT_LT(after.threads, before.threads + kSome);
  if (kOwnAllocator) {
    EXPECT_LT(after.bytes, before.bytes + kGrowthMax);
  }
  EXPECT_TRUE(daemon().DataFiles().empty());
  EXPECT_TRUE(CommittedSteps("endures/run").empty());
}

}  // namespace
}  // namespace ckpt::testing
