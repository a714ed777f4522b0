// Quotas as two tenants of one daemon meet them.
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "tests/fixtures/process.h"
#include "tests/integration/integration_test.h"

namespace ckpt::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class QuotaOfTenants : public IntegrationTest {
 protected:
  void Serve(const std::string& quotas) {
    std::ofstream(folder_ / "quota.conf") << quotas;
    StartDaemon({.flags = {"--quota-file=" + folder_ / "quota.conf"}});
  }
  absl::Status Save(const std::string& run, uint64_t step) {
    return SaveCommitted({run, step, launch_}, TestState::Plain(step, 100'000), 1);
  }
  void Delete(const std::string& run, uint64_t step) {
    v1::DeleteCheckpointRequest request;
    request.mutable_selector()->set_run(run);
    request.mutable_selector()->set_step(step);
    v1::DeleteCheckpointResponse response;
    grpc::ClientContext context;
    const grpc::Status done =
        v1::CatalogService::NewStub(channel())->DeleteCheckpoint(&context, request, &response);
    EXPECT_TRUE(done.ok()) << done.error_message();
  }
  const Incarnation launch_ = Incarnation::TimeOrdered();
  ScratchFolder folder_;
};

TEST_F(QuotaOfTenants, OneThatHasUsedItUpIsRefusedAndTheOtherGoesOn) {
  Serve("[a/**]\ncheckpoints = 2\ndisk-bytes = 1GiB\n[b/**]\ncheckpoints = 10\n");
  CKPT_ASSERT_OK(Save("a/run", 1));
  CKPT_ASSERT_OK(Save("a/run", 2));
  const absl::Status refused = Save("a/run", 3);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("quota checkpoints of section [a/**]"), HasSubstr("limit is 2"),
                    HasSubstr("retry after")));
  CKPT_EXPECT_OK(Save("b/run", 1));
  CKPT_EXPECT_OK(Save("c/run", 1));
  Delete("a/run", 1);
  CKPT_EXPECT_OK(Save("a/run", 3));

  const auto status = Status();
  ASSERT_TRUE(status.ok()) << status.status();
  ASSERT_EQ(status->quotas_size(), 2);
  EXPECT_EQ(status->quotas(0).pattern(), "a/**");
  EXPECT_EQ(status->quotas(0).checkpoints(), 2u);
  EXPECT_EQ(status->quotas(0).checkpoints_max(), 2u);
  EXPECT_EQ(status->quotas(0).disk_bytes(), 200'000u);
  EXPECT_EQ(status->quotas(0).open_saves(), 0u);
  EXPECT_EQ(status->quotas(1).checkpoints(), 1u);
  EXPECT_EQ(status->quotas(1).disk_bytes_max(), 0u);
}

TEST_F(QuotaOfTenants, AFullDiskQuotaIsRefusedWithItsDelayAndOverARestart) {
  Serve("[a/**]\ndisk-bytes = 150000\n");
  CKPT_ASSERT_OK(Save("a/run", 1));
  DropClients();
  CKPT_ASSERT_OK(daemon().Restart());
  const absl::Status refused = Save("a/run", 2);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("quota disk-bytes"), HasSubstr("retry after")));
  DropClients();  // others are told of the quota, not of a process that went
  CKPT_EXPECT_OK(Eventually("the reason of the abort", [&] {
    const std::vector<v1::CheckpointInfo> all = List("a/run", /*include_aborted=*/true);
    return !all.empty() && absl::StrContains(all[0].abort_reason(), "quota disk-bytes");
  }));
}

TEST_F(QuotaOfTenants, AWrongFileIsRefusedAtStart) {
  std::ofstream(folder_ / "bad.conf") << "[a]\nopen-doors = 3\n";
  const auto result =
      RunCommand({BuiltBinary("ckptd"), "--socket=" + folder_ / "s", "--data-dir=" + folder_ / "d",
                  "--quota-file=" + folder_ / "bad.conf"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->exit_status, 2);
  EXPECT_THAT(result->errors, AllOf(HasSubstr("bad.conf:2"), HasSubstr("open-doors")));
}

}  // namespace
}  // namespace ckpt::testing
