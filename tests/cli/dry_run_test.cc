// A dry run against a daemon that is only a service in this process.
#include "client/cli/dry_run.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "ckpt/v1/restore.grpc.pb.h"
#include "common/mutex.h"
#include "gmock/gmock.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"

namespace ckpt::cli {
namespace {

// Set and read by the test while gRPC's threads answer: under a lock, as gRPC's own are not seen by
// ThreadSanitizer.
class FakeRestore : public v1::RestoreService::Service {
 public:
  grpc::Status PlanRestore(grpc::ServerContext*, const v1::PlanRestoreRequest* request,
                           grpc::ServerWriter<v1::PlanRestoreResponse>* writer) override {
    MutexLock lock(mutex_);
    asked_ = *request;
    v1::PlanRestoreResponse header;
    v1::CheckpointId* id = header.mutable_header()->mutable_checkpoint()->mutable_id();
    id->set_run("team/run");
    id->set_step(40);
    writer->Write(header);
    if (!summary_) return grpc::Status::OK;
    v1::PlanRestoreResponse last;
    *last.mutable_summary() = *summary_;
    writer->Write(last);
    return grpc::Status::OK;
  }
  void Answer(const v1::PlanSummary& summary) {
    MutexLock lock(mutex_);
    summary_ = summary;
  }
  v1::PlanRestoreRequest asked() {
    MutexLock lock(mutex_);
    return asked_;
  }

 private:
  Mutex mutex_;
  v1::PlanRestoreRequest asked_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::PlanSummary> summary_ ABSL_GUARDED_BY(mutex_);
};

class DryRunTest : public ::testing::Test {
 protected:
  DryRunTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + socket_, grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  absl::Status Ask(OutputFormat format, const Arguments& arguments = {}) {
    const auto connection = Connection::Make(socket_, absl::Seconds(30));
    if (!connection.ok()) return connection.status();
    VerbContext context{arguments, format, **connection};
    v1::Selector selector;
    selector.set_run("team/run");
    selector.set_latest(true);
    v1::Selection selection;
    selection.add_include("model.**");
    ::testing::internal::CaptureStdout();
    const absl::Status status = DryRun(context, selector, selection);
    std::fflush(stdout);
    printed_ = ::testing::internal::GetCapturedStdout();
    return status;
  }

  FakeRestore service_;
  const std::string socket_ = "/tmp/ckptctl-dry-run-" + std::to_string(getpid());
  std::unique_ptr<grpc::Server> server_;
  std::string printed_;
};

TEST_F(DryRunTest, TellsHowMuchAndFromWhere) {
  v1::PlanSummary summary;
  summary.set_leaves(5);
  summary.set_tensors(3);
  summary.set_bytes(3 << 20);
  summary.set_bytes_from_memory(1 << 20);
  summary.set_bytes_from_disk(5 << 20);
  service_.Answer(summary);
  ASSERT_TRUE(Ask(OutputFormat::kTable).ok());
  EXPECT_EQ(printed_,
            "checkpoint:   team/run@40\n"
            "selected:     3 tensors and 2 values, 3.0 MiB\n"
            "from memory:  1.0 MiB\n"
            "from disk:    5.0 MiB\n"
            "note:         whole blocks of up to 1.0 MiB are read, as each has one hash\n");
  EXPECT_TRUE(service_.asked().summary_only());
  EXPECT_EQ(service_.asked().selection().include(0), "model.**");
  summary.set_bytes_from_disk(2 << 20);
  service_.Answer(summary);
  ASSERT_TRUE(Ask(OutputFormat::kTable).ok());
  EXPECT_THAT(printed_, ::testing::EndsWith("from disk:    2.0 MiB\n"));
  ASSERT_TRUE(Ask(OutputFormat::kJson).ok());
  const Json json = Json::parse(printed_, nullptr, false);
  EXPECT_EQ(json["step"], 40);
  EXPECT_EQ(json["tensor_count"], 3);
  EXPECT_EQ(json["bytes_from_disk"], 2 << 20);
}

TEST_F(DryRunTest, ADaemonThatKnowsNoDryRunIsNotTakenForAnEmptyOne) {
  const absl::Status status = Ask(OutputFormat::kTable);
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_EQ(printed_, "");
}

}  // namespace
}  // namespace ckpt::cli
