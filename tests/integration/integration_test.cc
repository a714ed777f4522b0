#include "tests/integration/integration_test.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"

namespace ckpt::testing {
void IntegrationTest::StartDaemon(DaemonOptions options) {
  absl::StatusOr<std::unique_ptr<Daemon>> started = Daemon::Start(std::move(options));
  ASSERT_TRUE(started.ok()) << started.status();
  daemon_ = *std::move(started);
}

Daemon& IntegrationTest::daemon() {
  if (daemon_ == nullptr) StartDaemon();
  return *daemon_;
}

std::unique_ptr<Client> IntegrationTest::Connect() {
  absl::StatusOr<std::unique_ptr<Client>> client =
      Client::Connect({.socket = daemon().socket(), .name = "integration"});
  EXPECT_TRUE(client.ok()) << client.status();
  return client.ok() ? *std::move(client) : nullptr;
}

DaemonCalls& IntegrationTest::calls() {
  if (calls_ == nullptr) calls_ = std::make_unique<DaemonCalls>(daemon().socket());
  return *calls_;
}

std::shared_ptr<grpc::Channel> IntegrationTest::channel() { return calls().channel(); }

std::vector<SaveHandle> IntegrationTest::StartSaves(const CheckpointId& id, const TestState& state,
                                                    uint32_t world_size,
                                                    const SaveOptions& options) {
  while (clients_.size() < world_size) clients_.push_back(Connect());
  std::vector<SaveHandle> saves;
  for (uint32_t rank = 0; rank < world_size; ++rank) {
    absl::StatusOr<SaveHandle> save =
        clients_[rank]->Save(id, MakeTestPart(state, rank, world_size), options);
    EXPECT_TRUE(save.ok()) << save.status();
    if (save.ok()) saves.push_back(*std::move(save));
  }
  return saves;
}

absl::Status IntegrationTest::SaveCommitted(const CheckpointId& id, const TestState& state,
                                            uint32_t world_size, const SaveOptions& options) {
  for (SaveHandle& save : StartSaves(id, state, world_size, options)) {
    CKPT_RETURN_IF_ERROR(save.AwaitCommitted(absl::Seconds(60)));
  }
  return absl::OkStatus();
}

absl::Status IntegrationTest::Check(const std::string& selector, const TestState& state,
                                    uint32_t world_size, RestoreOptions options) {
  CKPT_ASSIGN_OR_RETURN(const v1::Selector parsed, ParseSelector(selector));
  const std::unique_ptr<Client> client = Connect();
  if (client == nullptr) return absl::UnavailableError("no client");
  options.settle_timeout = absl::Seconds(60);
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<RestorePlan> plan,
                        client->PlanRestore(parsed, options));
  for (uint32_t rank = 0; rank < world_size; ++rank) {
    CKPT_RETURN_IF_ERROR(CheckRestored(*plan, state, rank, world_size));
  }
  return CheckRestoredWhole(*plan, state);
}

absl::StatusOr<v1::GetStatusResponse> IntegrationTest::Status() { return calls().Status(); }

absl::StatusOr<v1::CheckpointInfo> IntegrationTest::Info(const std::string& selector) {
  CKPT_ASSIGN_OR_RETURN(const v1::Selector parsed, ParseSelector(selector));
  return calls().Get(parsed);
}

std::vector<v1::CheckpointInfo> IntegrationTest::List(const std::string& run,
                                                      bool include_aborted) {
  const auto listed = calls().List(run, include_aborted);
  EXPECT_TRUE(listed.ok()) << listed.status();
  return listed.value_or(std::vector<v1::CheckpointInfo>());
}

std::vector<uint64_t> IntegrationTest::CommittedSteps(const std::string& run) {
  std::vector<uint64_t> steps;
  for (const v1::CheckpointInfo& info : List(run)) {
    if (info.state() == v1::CHECKPOINT_STATE_COMMITTED) steps.push_back(info.id().step());
  }
  return steps;
}

absl::Status IntegrationTest::Verify(const std::string& selector) {
  CKPT_ASSIGN_OR_RETURN(const v1::Selector parsed, ParseSelector(selector));
  return calls().Verify(parsed);
}

absl::Status IntegrationTest::Eventually(absl::string_view what,
                                         absl::FunctionRef<bool()> condition,
                                         absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!condition()) {
    if (absl::Now() > deadline) return absl::DeadlineExceededError(absl::StrCat("never: ", what));
    absl::SleepFor(absl::Milliseconds(5));
  }
  return absl::OkStatus();
}

}  // namespace ckpt::testing
