// The program itself, as an operator meets it: started twice, with stale sockets, with nonsense,
// stopped by signals; and its gRPC face.
#include "tests/fixtures/daemon.h"

#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ckpt/v1/admin.grpc.pb.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "ckpt/v1/restore.grpc.pb.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/fixtures/process.h"
#include "tests/fixtures/test_state.h"

namespace ckpt::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class DaemonTest : public ::testing::Test {
 protected:
  void Start(DaemonOptions options = {}) {
    absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::Start(std::move(options));
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
  }

  // Another daemon by hand, on folders of its own but for the flags given; runs to its end.
  CommandResult Run(std::vector<std::string> flags) {
    std::vector<std::string> arguments = {
        BuiltBinary("ckptd"), absl::StrCat("--memory-dir=/dev/shm/ckptd-other-", getpid()),
        "--memory-budget=16MiB"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    absl::StatusOr<CommandResult> result = RunCommand(arguments);
    std::filesystem::remove_all(absl::StrCat("/dev/shm/ckptd-other-", getpid()));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : CommandResult();
  }

  std::shared_ptr<grpc::Channel> Channel() {
    return grpc::CreateChannel(absl::StrCat("unix:", daemon_->socket()),
                               grpc::InsecureChannelCredentials());
  }

  static CheckpointId NewId(const std::string& run, uint64_t step) {
    return {run, step, Incarnation::TimeOrdered()};
  }

  // A checkpoint of one rank, staged: the daemon owns it.
  void SaveStaged(const CheckpointId& id) {
    auto client = Client::Connect({.socket = daemon_->socket()});
    ASSERT_TRUE(client.ok()) << client.status();
    auto save = (*client)->Save(id, MakeTestPart(TestState::Plain(1, 100'000), 0, 1), {});
    ASSERT_TRUE(save.ok()) << save.status();
    const absl::Status staged = save->AwaitStaged(absl::Seconds(30));
    ASSERT_TRUE(staged.ok()) << staged;
  }

  absl::StatusOr<v1::CheckpointInfo> AwaitCommitted(const CheckpointId& id) {
    auto client = Client::Connect({.socket = daemon_->socket()});
    if (!client.ok()) return client.status();
    return (*client)->Wait(id, v1::CHECKPOINT_STATE_COMMITTED, absl::Seconds(30));
  }

  std::unique_ptr<Daemon> daemon_;
  ScratchFolder scratch_;
};

TEST_F(DaemonTest, SecondDaemonOnTheSameSocketIsRefused) {
  Start();
  const CommandResult second =
      Run({"--socket=" + daemon_->socket(), "--data-dir=" + scratch_ / "data"});
  EXPECT_EQ(second.exit_status, 1);
  EXPECT_THAT(second.errors,
              AllOf(HasSubstr(absl::StrCat("pid ", daemon_->pid())), HasSubstr(daemon_->socket())));
  EXPECT_TRUE(daemon_->AwaitServing().ok());
}

TEST_F(DaemonTest, SecondDaemonOnTheSameDataFolderIsRefused) {
  Start();
  const CommandResult second =
      Run({"--socket=" + scratch_ / "s.sock", "--data-dir=" + daemon_->data_folder()});
  EXPECT_EQ(second.exit_status, 1);
  EXPECT_THAT(second.errors,
              AllOf(HasSubstr(absl::StrCat(daemon_->pid())), HasSubstr(daemon_->data_folder())));
  EXPECT_TRUE(daemon_->AwaitServing().ok());
}

TEST_F(DaemonTest, SecondDaemonOnTheSameMemoryFolderIsRefused) {
  Start();
  const auto second = RunCommand({BuiltBinary("ckptd"), "--socket=" + scratch_ / "s.sock",
                                  "--data-dir=" + scratch_ / "data", "--memory-budget=16MiB",
                                  "--memory-dir=" + daemon_->memory_folder()});
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->exit_status, 1);
  EXPECT_THAT(second->errors, HasSubstr(daemon_->memory_folder()));
  EXPECT_TRUE(std::filesystem::is_empty(scratch_.path()));
}

TEST_F(DaemonTest, ARefusedStartLeavesNothingThatItMade) {
  std::filesystem::create_directory(scratch_ / "data");
  std::ofstream(scratch_ / "data/FORMAT") << "ckptd data folder, format 99\n";
  const std::string memory = absl::StrCat("/dev/shm/ckptd-refused-", getpid());
  for (const char* socket : {"s.sock", "sockets/s.sock"}) {
    const auto refused = RunCommand({BuiltBinary("ckptd"), "--socket=" + scratch_ / socket,
                                     "--data-dir=" + scratch_ / "data", "--memory-budget=16MiB",
                                     "--memory-dir=" + memory});
    ASSERT_TRUE(refused.ok()) << refused.status();
    EXPECT_EQ(refused->exit_status, 1);
    EXPECT_THAT(refused->errors, HasSubstr("newer ckptd"));
    EXPECT_FALSE(std::filesystem::exists(memory));
  }
  std::filesystem::remove_all(memory);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch_.path()), {}), 1);
  EXPECT_EQ(ReadWholeFile(scratch_ / "data/FORMAT"), "ckptd data folder, format 99\n");
}

TEST_F(DaemonTest, StaleSocketsAreReplaced) {
  Start();
  daemon_->Kill();
  ASSERT_TRUE(std::filesystem::exists(daemon_->socket()));
  ASSERT_TRUE(std::filesystem::exists(daemon_->socket() + ".fd"));
  const absl::Status status = daemon_->Restart();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_TRUE(Client::Connect({.socket = daemon_->socket()}).ok());
}

TEST_F(DaemonTest, AFileInTheSocketsPlaceIsLeftAlone) {
  std::ofstream(scratch_ / "s.sock") << "precious";
  const CommandResult result =
      Run({"--socket=" + scratch_ / "s.sock", "--data-dir=" + scratch_ / "data"});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.errors, HasSubstr("is no socket"));
  EXPECT_EQ(ReadWholeFile(scratch_ / "s.sock"), "precious");
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "s.sock.lock"));
}

TEST_F(DaemonTest, SocketsHaveTheModeThatWasAskedFor) {
  const auto mode = [](const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 0777 : 0;
  };
  Start();
  EXPECT_EQ(mode(daemon_->socket()), 0660u);
  EXPECT_EQ(mode(daemon_->socket() + ".fd"), 0660u);
  ASSERT_TRUE(daemon_->Restart({"--socket-mode=0600"}).ok());
  EXPECT_EQ(mode(daemon_->socket()), 0600u);
  EXPECT_EQ(mode(daemon_->socket() + ".fd"), 0600u);
}

TEST_F(DaemonTest, WrongSettingsEndWithCodeTwoAndTheReason) {
  for (const auto& [flags, reason] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--no-such-flag"}, "unknown flag --no-such-flag"},
           {{"--memory-budget=much"}, "--memory-budget"},
           {{"--listen=127.0.0.1:1234"}, "--insecure-tcp"},
           {{"--config=/nowhere/ckptd.conf"}, "/nowhere/ckptd.conf"},
           {{"--config=" + scratch_.path()}, "is a folder, not a file"},
           {{"--data-dir=/dev/null", "--socket=" + scratch_ / "s.sock"},
            "/dev/null is not a folder"},
           {{"--data-dir=/proc/data", "--socket=" + scratch_ / "s.sock"}, "/proc/data"},
           {{"--socket=/proc/x/s.sock", "--data-dir=" + scratch_ / "data"}, "/proc/x"},
           {{"--log-level=loud"}, "loud"}}) {
    const CommandResult result = Run(flags);
    EXPECT_EQ(result.exit_status, 2) << flags[0] << ": " << result.errors;
    EXPECT_THAT(result.errors, HasSubstr(reason));
  }
}

TEST_F(DaemonTest, SomebodyElsesFolderIsNotTakenOver) {
  std::filesystem::create_directories(scratch_ / "home");
  std::ofstream(scratch_ / "home/thesis.tex") << "\\documentclass";
  const CommandResult result =
      Run({"--socket=" + scratch_ / "s.sock", "--data-dir=" + scratch_ / "home"});
  EXPECT_EQ(result.exit_status, 2) << result.errors;
  EXPECT_TRUE(std::filesystem::exists(scratch_ / "home/thesis.tex"));
}

TEST_F(DaemonTest, HelpAndVersion) {
  const CommandResult help = Run({"--help"});
  EXPECT_EQ(help.exit_status, 0);
  EXPECT_THAT(help.output, AllOf(HasSubstr("--memory-budget SIZE"), HasSubstr("CKPTD_SOCKET")));
  const CommandResult version = Run({"--version"});
  EXPECT_EQ(version.exit_status, 0);
  EXPECT_THAT(version.output, ::testing::MatchesRegex("ckptd [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST_F(DaemonTest, TermFinishesWhatIsStaged) {
  Start({.drain_deadline = "60s", .flags = {"--persist-delay=300ms"}});
  const CheckpointId id = NewId("run", 1);
  SaveStaged(id);
  const absl::StatusOr<int> exit = daemon_->Terminate();
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(*exit, 0);
  EXPECT_FALSE(std::filesystem::exists(daemon_->socket()));
  std::filesystem::remove_all(daemon_->memory_folder());  // so it must have come to the disk
  ASSERT_TRUE(daemon_->Restart().ok());
  EXPECT_TRUE(AwaitCommitted(id).ok());
}

TEST_F(DaemonTest, DrainDeadlineBoundsTermAndTheNextDaemonGoesOn) {
  Start({.drain_deadline = "100ms"});
  daemon_->Kill();
  ASSERT_TRUE(daemon_->Restart({"--persist-delay=1h"}).ok());
  const CheckpointId id = NewId("run", 1);
  SaveStaged(id);
  const absl::StatusOr<int> exit = daemon_->Terminate(absl::Seconds(30));
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(*exit, 0);
  ASSERT_TRUE(daemon_->Restart().ok());
  const auto info = AwaitCommitted(id);
  EXPECT_TRUE(info.ok()) << info.status();
}

TEST_F(DaemonTest, SecondTermExitsAtOnceAndLosesNothing) {
  Start({.drain_deadline = "1h"});
  daemon_->Kill();
  ASSERT_TRUE(daemon_->Restart({"--persist-delay=1h"}).ok());
  const CheckpointId id = NewId("run", 1);
  SaveStaged(id);
  daemon_->Signal(SIGTERM);
  ASSERT_TRUE(daemon_->AwaitLog("stopping").ok());
  daemon_->Signal(SIGTERM);
  const absl::StatusOr<int> exit = daemon_->AwaitExit(absl::Seconds(30));
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(*exit, 128 + SIGTERM);
  ASSERT_TRUE(daemon_->Restart().ok());
  const auto info = AwaitCommitted(id);
  EXPECT_TRUE(info.ok()) << info.status();
}

TEST_F(DaemonTest, InterruptStopsAsTermDoes) {
  Start();
  daemon_->Signal(SIGINT);
  const absl::StatusOr<int> exit = daemon_->AwaitExit();
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(*exit, 0);
}

TEST_F(DaemonTest, WatchersAreToldThatTheDaemonStops) {
  Start();
  auto stub = v1::CatalogService::NewStub(Channel());
  grpc::ClientContext context;
  auto reader = stub->WatchCheckpoints(&context, v1::WatchCheckpointsRequest());
  v1::WatchCheckpointsResponse change;
  ASSERT_TRUE(reader->Read(&change));
  EXPECT_TRUE(change.snapshot_end());
  daemon_->Signal(SIGTERM);
  while (reader->Read(&change)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  const absl::StatusOr<int> exit = daemon_->AwaitExit();
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(*exit, 0);
}

TEST_F(DaemonTest, StatusAndDrain) {
  Start();
  auto stub = v1::AdminService::NewStub(Channel());
  const auto status = [&] {
    grpc::ClientContext context;
    v1::GetStatusResponse response;
    const grpc::Status got = stub->GetStatus(&context, v1::GetStatusRequest(), &response);
    EXPECT_TRUE(got.ok()) << got.error_message();
    return response;
  };
  const v1::GetStatusResponse before = status();
  EXPECT_EQ(before.process_id(), static_cast<uint64_t>(daemon_->pid()));
  EXPECT_EQ(before.data_folder(), daemon_->data_folder());
  EXPECT_EQ(before.memory_budget_bytes(), 256u << 20);
  EXPECT_GT(before.disk_total_bytes(), 0u);
  EXPECT_FALSE(before.draining());

  const auto drain = [&](int64_t seconds, bool resume) {
    grpc::ClientContext context;
    v1::DrainRequest request;
    request.mutable_deadline()->set_seconds(seconds);
    request.set_resume(resume);
    v1::DrainResponse response;
    return stub->Drain(&context, request, &response).error_code();
  };
  EXPECT_EQ(drain(5, false), grpc::StatusCode::OK);
  EXPECT_TRUE(status().draining());
  auto client = Client::Connect({.socket = daemon_->socket()});
  ASSERT_TRUE(client.ok()) << client.status();
  auto save = (*client)->Save(NewId("run", 1), MakeTestPart(TestState::Plain(1, 1000), 0, 1), {});
  ASSERT_TRUE(save.ok()) << save.status();
  EXPECT_TRUE(absl::IsUnavailable(save->AwaitStaged(absl::Seconds(30))));
  EXPECT_EQ(drain(5, true), grpc::StatusCode::OK);
  EXPECT_FALSE(status().draining());
  EXPECT_EQ(drain(-1, false), grpc::StatusCode::INVALID_ARGUMENT);
  SaveStaged(NewId("run", 2));
}

// One request and the first answer of any method, as bytes: for services whose stubs are not here.
std::string CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                    const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool good = false;
  auto call = stub.PrepareCall(&context, method, &queue);
  call->StartCall(nullptr);
  queue.Next(&tag, &good);
  grpc::Slice slice(request);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  queue.Next(&tag, &good);
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  queue.Next(&tag, &good);
  std::string text;
  std::vector<grpc::Slice> slices;
  if (good && answer.Dump(&slices).ok()) {
    for (const grpc::Slice& part : slices) {
      text.append(reinterpret_cast<const char*>(part.begin()), part.size());
    }
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &good);
  queue.Shutdown();
  while (queue.Next(&tag, &good)) {
  }
  return text;
}

TEST_F(DaemonTest, HealthAndReflectionAnswer) {
  Start();
  // HealthCheckResponse{status: SERVING}
  EXPECT_EQ(CallRaw(Channel(), "/grpc.health.v1.Health/Check", ""), "\x08\x01");
  // ServerReflectionRequest{list_services: "*"}
  const std::string services =
      CallRaw(Channel(), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
              std::string("\x3a\x01*"));
  for (const char* name :
       {"ckpt.v1.SaveService", "ckpt.v1.RestoreService", "ckpt.v1.CatalogService",
        "ckpt.v1.RetentionService", "ckpt.v1.AdminService", "grpc.health.v1.Health"}) {
    EXPECT_THAT(services, HasSubstr(name));
  }
}

TEST_F(DaemonTest, HostileNamesAreRefusedAndTheDaemonLives) {
  Start();
  auto catalog = v1::CatalogService::NewStub(Channel());
  auto restore = v1::RestoreService::NewStub(Channel());
  for (const std::string& run :
       {std::string(""), std::string("."), std::string(".."), std::string("../../etc/passwd"),
        std::string("a/../../b"), std::string("/absolute"), std::string("a//b"),
        std::string("nul\0byte", 8), std::string(10 * 1024, 'x'), std::string("new\nline"),
        std::string("\xC3\xA9t\xC3\xA9"), std::string("a/"), std::string("%2e%2e")}) {
    v1::Selector selector;
    selector.set_run(run);
    selector.set_latest(true);
    {
      grpc::ClientContext context;
      v1::GetCheckpointRequest request;
      *request.mutable_selector() = selector;
      v1::GetCheckpointResponse response;
      const grpc::Status status = catalog->GetCheckpoint(&context, request, &response);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << run;
      EXPECT_LE(status.error_message().size(), 4096u);
      EXPECT_FALSE(status.error_message().empty());
    }
    {
      grpc::ClientContext context;
      v1::PlanRestoreRequest request;
      *request.mutable_selector() = selector;
      auto reader = restore->PlanRestore(&context, request);
      v1::PlanRestoreResponse response;
      EXPECT_FALSE(reader->Read(&response));
      EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT) << run;
    }
  }
  EXPECT_TRUE(daemon_->AwaitServing().ok());
}

TEST_F(DaemonTest, MessagesAboveTheLimitAreRefusedAndTheDaemonLives) {
  Start();
  auto stub = v1::RestoreService::NewStub(Channel());
  grpc::ClientContext context;
  v1::PlanRestoreRequest request;
  request.mutable_selector()->set_run("run");
  request.mutable_selection()->add_include(std::string(5 << 20, 'x'));
  auto reader = stub->PlanRestore(&context, request);
  v1::PlanRestoreResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(daemon_->AwaitServing().ok());
}

TEST_F(DaemonTest, TcpServesWhenAskedForAndOnePortOnce) {
  Start({.flags = {"--listen=127.0.0.1:0", "--insecure-tcp"}});
  ASSERT_TRUE(daemon_->AwaitLog("tcp_port=").ok());
  const std::string log = daemon_->Log();
  int port = 0;
  const size_t at = log.rfind("tcp_port=") + 9;
  ASSERT_TRUE(
      absl::SimpleAtoi(log.substr(at, log.find_first_not_of("0123456789", at) - at), &port));
  auto stub = v1::AdminService::NewStub(
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  v1::GetStatusResponse response;
  EXPECT_TRUE(stub->GetStatus(&context, v1::GetStatusRequest(), &response).ok());

  const CommandResult second =
      Run({"--socket=" + scratch_ / "s.sock", "--data-dir=" + scratch_ / "data",
           absl::StrCat("--listen=127.0.0.1:", port), "--insecure-tcp"});
  EXPECT_EQ(second.exit_status, 1);
  EXPECT_THAT(second.errors, HasSubstr(absl::StrCat(port)));
}

TEST_F(DaemonTest, JsonLogsAreOneObjectALine) {
  Start({.flags = {"--log-format=json"}});
  ASSERT_TRUE(daemon_->Terminate().ok());
  std::istringstream lines(daemon_->Log());
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    EXPECT_THAT(line, AllOf(::testing::StartsWith("{\"time\":"), ::testing::EndsWith("}")));
  }
  EXPECT_GT(count, 3);
}

}  // namespace
}  // namespace ckpt::testing
