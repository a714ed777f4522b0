// What the integration tests share: a daemon, clients in this process (each is a rank with a
// session of its own), and short ways to save, look and compare.
#ifndef CKPT_TESTS_INTEGRATION_INTEGRATION_TEST_H_
#define CKPT_TESTS_INTEGRATION_INTEGRATION_TEST_H_

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/admin.grpc.pb.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "grpcpp/channel.h"
#include "gtest/gtest.h"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/daemon_calls.h"
#include "tests/fixtures/test_state.h"

#define CKPT_ASSERT_OK(expression)                                \
  do {                                                            \
    const absl::Status ckpt_assert_status_ = (expression);        \
    ASSERT_TRUE(ckpt_assert_status_.ok()) << ckpt_assert_status_; \
  } while (false)
#define CKPT_EXPECT_OK(expression)                                \
  do {                                                            \
    const absl::Status ckpt_expect_status_ = (expression);        \
    EXPECT_TRUE(ckpt_expect_status_.ok()) << ckpt_expect_status_; \
  } while (false)
// The status has this code, and its text contains this.
#define CKPT_EXPECT_ERROR(expression, error_code, text)                                 \
  do {                                                                                  \
    const absl::Status ckpt_error_status_ = (expression);                               \
    EXPECT_EQ(ckpt_error_status_.code(), error_code) << ckpt_error_status_;             \
    EXPECT_THAT(std::string(ckpt_error_status_.message()), ::testing::HasSubstr(text)); \
  } while (false)

namespace ckpt::testing {

inline constexpr uint64_t kMiB = 1 << 20;

class IntegrationTest : public ::testing::Test {
 protected:
  // With these options instead of the default ones; call it first.
  void StartDaemon(DaemonOptions options = {});
  Daemon& daemon();  // started with default options where StartDaemon was not called

  std::unique_ptr<Client> Connect();
  DaemonCalls& calls();
  std::shared_ptr<grpc::Channel> channel();  // of these calls

  // One save of every rank, each by a client of its own; the clients stay until the test ends or
  // DropClients.
  std::vector<SaveHandle> StartSaves(const CheckpointId& id, const TestState& state,
                                     uint32_t world_size, const SaveOptions& options = {});
  absl::Status SaveCommitted(const CheckpointId& id, const TestState& state, uint32_t world_size,
                             const SaveOptions& options = {});
  void DropClients() { clients_.clear(); }

  // Restores with a fresh client on `world_size` ranks (each reads its own boxes) and compares.
  absl::Status Check(const std::string& selector, const TestState& state, uint32_t world_size = 1,
                     RestoreOptions options = {});

  absl::StatusOr<v1::GetStatusResponse> Status();
  absl::StatusOr<v1::CheckpointInfo> Info(const std::string& selector);
  // Checkpoints of a run, newest first; empty where the run is unknown.
  std::vector<v1::CheckpointInfo> List(const std::string& run, bool include_aborted = false);
  // COMMITTED ones only.
  std::vector<uint64_t> CommittedSteps(const std::string& run);
  absl::Status Verify(const std::string& selector);

  // Polls until `condition` holds; DEADLINE_EXCEEDED says `what`.
  absl::Status Eventually(absl::string_view what, absl::FunctionRef<bool()> condition,
                          absl::Duration timeout = absl::Seconds(60));

 private:
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<DaemonCalls> calls_;
  std::vector<std::unique_ptr<Client>> clients_;
};

// A new launch.
inline CheckpointId NewId(std::string run, uint64_t step) {
  return {std::move(run), step, Incarnation::TimeOrdered()};
}

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_INTEGRATION_INTEGRATION_TEST_H_
