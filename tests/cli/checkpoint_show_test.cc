// `checkpoint show` of a checkpoint of more ranks than one answer holds, by a daemon that is only a
// service in this process.
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "client/cli/output.h"
#include "client/cli/verb.h"
#include "gmock/gmock.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"

namespace ckpt::cli {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint32_t kRanks = 5;

// Two parts in an answer, whatever is asked for: as one that has no room for more.
class FakeCatalog : public v1::CatalogService::Service {
 public:
  grpc::Status GetCheckpoint(grpc::ServerContext*, const v1::GetCheckpointRequest* request,
                             v1::GetCheckpointResponse* response) override {
    v1::CheckpointInfo* info = response->mutable_checkpoint();
    info->mutable_id()->set_run("team/run");
    info->mutable_id()->set_step(40);
    info->set_state(v1::CHECKPOINT_STATE_COMMITTED);
    info->set_world_size(kRanks);
    info->set_parts_durable(kRanks);
    uint32_t rank = static_cast<uint32_t>(request->page_token().size());
    for (int i = 0; i < 2 && rank < kRanks; ++i) response->add_parts()->set_rank(rank++);
    if (rank < kRanks) response->set_next_page_token(std::string(rank, 'x'));
    return grpc::Status::OK;
  }
};

class CheckpointShowTest : public ::testing::Test {
 protected:
  CheckpointShowTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + socket_, grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  std::string Show(OutputFormat format) {
    const Verb verb = CheckpointShow();
    const auto arguments = ParseArguments(verb.command, {}, {"team/run@40"});
    EXPECT_TRUE(arguments.ok()) << arguments.status();
    const auto connection = Connection::Make(socket_, absl::Seconds(30));
    EXPECT_TRUE(connection.ok()) << connection.status();
    VerbContext context{*arguments, format, **connection};
    ::testing::internal::CaptureStdout();
    const absl::StatusOr<ExitCode> code = verb.run(context);
    std::fflush(stdout);
    EXPECT_TRUE(code.ok()) << code.status();
    return ::testing::internal::GetCapturedStdout();
  }

  FakeCatalog service_;
  const std::string socket_ = absl::StrCat("/tmp/ckptctl-show-", getpid());
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(CheckpointShowTest, PeopleSeeTheFirstRanksAndHowManyMoreThereAre) {
  const std::string shown = Show(OutputFormat::kTable);
  EXPECT_THAT(shown, HasSubstr("\n   1   "));
  EXPECT_THAT(shown, Not(HasSubstr("\n   2   ")));
  EXPECT_THAT(shown, EndsWith("... and 3 more ranks: -o json tells of all\n"));
}

TEST_F(CheckpointShowTest, ProgramsGetTheRanksOfAllPages) {
  const Json json = Json::parse(Show(OutputFormat::kJson), nullptr, false);
  ASSERT_FALSE(json.is_discarded());
  ASSERT_EQ(json["parts"].size(), kRanks);
  for (uint32_t rank = 0; rank < kRanks; ++rank) EXPECT_EQ(json["parts"][rank]["rank"], rank);
}

}  // namespace
}  // namespace ckpt::cli
