// Who may do what with a daemon that several teams share: tokens, users of the node, descriptors.
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <grpcpp/create_channel_posix.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "ckpt/v1/admin.grpc.pb.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "ckpt/v1/restore.grpc.pb.h"
#include "client/transport/session_frame.h"
#include "common/digest.h"
#include "tests/fixtures/process.h"
#include "tests/integration/integration_test.h"

namespace ckpt::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr uid_t kNobody = 65534;
constexpr gid_t kGroup = 54321;

std::string Rule(const std::string& token, const std::string& rest) {
  return absl::StrCat(absl::BytesToHexString(Sha256(token)), " ", rest, "\n");
}

// --- two teams, one socket

class TwoTeams : public IntegrationTest {
 protected:
  void SetUp() override {
    Write(absl::StrCat(Rule("a", "team-a team-a/** read,write"),
                       Rule("b", "team-b team-b/** read,write"), Rule("ops", "ops ** admin")));
    StartDaemon({.flags = {"--socket-rights=none", "--token-file=" + tokens_}});
    for (const char* team : {"a", "b"}) {
      CKPT_ASSERT_OK(Save(team, absl::StrCat("team-", team, "/llama"), 1));
    }
  }
  // As a configuration tool does it.
  void Write(const std::string& text) {
    std::ofstream(tokens_ + ".new") << text;
    ASSERT_EQ(std::rename((tokens_ + ".new").c_str(), tokens_.c_str()), 0);
  }
  std::unique_ptr<Client> ConnectAs(const std::string& token) {
    auto client = Client::Connect({.socket = daemon().socket(), .token = token});
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }
  absl::Status Save(const std::string& token, const std::string& run, uint64_t step,
                    v1::Transport transport = v1::TRANSPORT_SHARED_MEMORY) {
    const std::unique_ptr<Client> client = ConnectAs(token);
    auto save = client->Save({run, step, launch_}, MakeTestPart(TestState::Mixed(step), 0, 1),
                             {.transport = transport});
    if (!save.ok()) return save.status();
    return save->AwaitCommitted(absl::Seconds(60));
  }
  absl::Status Restore(const std::string& token, const std::string& run, bool stream = false) {
    const std::unique_ptr<Client> client = ConnectAs(token);
    RestoreOptions options;
    options.stream = stream;
    const auto plan = client->PlanRestore(*ParseSelector(run + "@1"), options);
    if (!plan.ok()) return plan.status();
    return CheckRestoredWhole(**plan, TestState::Mixed(1));
  }
  absl::Status Get(const std::string& token, const std::string& run) {
    return ConnectAs(token)->GetCheckpoint(*ParseSelector(run + "@1")).status();
  }
  CommandResult Ckptctl(const std::string& token, std::vector<std::string> words) {
    words.insert(words.begin(), BuiltBinary("ckptctl"));
    absl::StatusOr<CommandResult> result =
        RunCommand(words, {{"CKPTD_SOCKET", daemon().socket()}, {"CKPTD_TOKEN", token}});
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : CommandResult();
  }

  ScratchFolder scratch_;
  const std::string tokens_ = scratch_ / "tokens";
  const Incarnation launch_ = Incarnation::TimeOrdered();  // its beginning stands in errors
};

constexpr int kExitNotFound = 3;
constexpr int kExitDenied = 10;

TEST_F(TwoTeams, EachWorksOnItsOwnRuns) {
  for (const bool stream : {false, true}) {
    CKPT_EXPECT_OK(Restore("a", "team-a/llama", stream));
    CKPT_EXPECT_OK(Restore("b", "team-b/llama", stream));
  }
  CKPT_EXPECT_OK(Save("a", "team-a/llama", 2, v1::TRANSPORT_STREAM));
  CKPT_EXPECT_OK(ConnectAs("a")->Prepare(1 << 20, 1));
  EXPECT_EQ(Ckptctl("a", {"checkpoint", "tag", "team-a/llama@1", "best"}).exit_status, 0);
  EXPECT_EQ(Ckptctl("a", {"checkpoint", "verify", "team-a/llama@1"}).exit_status, 0);
  EXPECT_EQ(Ckptctl("a", {"checkpoint", "rm", "team-a/llama@2", "--yes"}).exit_status, 0);
}

TEST_F(TwoTeams, NeitherLearnsThatTheOthersRunsExist) {
  const auto hidden = Get("a", "team-b/llama");
  EXPECT_TRUE(absl::IsNotFound(hidden)) << hidden;
  EXPECT_EQ(absl::StrReplaceAll(std::string(hidden.message()), {{"team-b/llama", "RUN"}}),
            absl::StrReplaceAll(std::string(Get("a", "team-b/lloma").message()),
                                {{"team-b/lloma", "RUN"}}));
  CKPT_EXPECT_ERROR(Restore("a", "team-b/llama"), absl::StatusCode::kNotFound, "there is no run");
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"checkpoint", "ls", "team-b/llama"},
           {"checkpoint", "show", "team-b/llama@1"},
           {"checkpoint", "verify", "team-b/llama@1"},
           {"checkpoint", "diff", "team-a/llama@1", "team-b/llama@1"},
           {"checkpoint", "wait", "team-b/llama@1"},
           {"checkpoint", "rm", "team-b/llama@1", "--yes"},
           {"checkpoint", "tag", "team-b/llama@1", "mine"},
           {"checkpoint", "pin", "team-b/llama@1"},
           {"checkpoint", "export", "team-b/llama@1", scratch_ / "out.safetensors"},
           {"tensor", "ls", "team-b/llama@1"},
           {"retention", "plan", "team-b/llama"},
           {"retention", "set", "team-b/llama", "--keep-last=1"}}) {
    const CommandResult result = Ckptctl("a", words);
    EXPECT_EQ(result.exit_status, kExitNotFound) << words[0] << " " << words[1] << result.errors;
  }
  EXPECT_THAT(Ckptctl("a", {"run", "ls"}).output, Not(HasSubstr("team-b")));
  EXPECT_THAT(Ckptctl("a", {"checkpoint", "watch", "--once"}).output, Not(HasSubstr("team-b")));
  EXPECT_THAT(Ckptctl("a", {"checkpoint", "watch", "team-b/llama", "--once"}).output,
              Not(HasSubstr("COMMITTED")));
  // Nothing was changed by any of it.
  CKPT_EXPECT_OK(Restore("b", "team-b/llama"));
  EXPECT_THAT(Ckptctl("b", {"checkpoint", "ls", "team-b/llama"}).output, Not(HasSubstr("mine")));
}

TEST_F(TwoTeams, ASaveIsDeniedWhetherTheRunIsThereOrNot) {
  for (const v1::Transport transport : {v1::TRANSPORT_SHARED_MEMORY, v1::TRANSPORT_STREAM}) {
    const absl::Status there = Save("a", "team-b/llama", 1, transport);
    const absl::Status nowhere = Save("a", "team-b/other", 1, transport);
    CKPT_EXPECT_ERROR(there, absl::StatusCode::kPermissionDenied, "write rights");
    EXPECT_EQ(absl::StrReplaceAll(std::string(there.message()), {{"team-b/llama", "RUN"}}),
              absl::StrReplaceAll(std::string(nowhere.message()), {{"team-b/other", "RUN"}}));
  }
}

TEST_F(TwoTeams, WithoutAKnownTokenNothingButHealthAnswers) {
  for (const char* token : {"", "wrong"}) {
    const CommandResult refused = Ckptctl(token, {"run", "ls"});
    EXPECT_EQ(refused.exit_status, kExitDenied);
    EXPECT_THAT(refused.errors, HasSubstr("CKPTD_TOKEN"));
    EXPECT_EQ(Ckptctl(token, {"health"}).exit_status, 0);
    CKPT_EXPECT_ERROR(Get(token, "team-a/llama"), absl::StatusCode::kUnauthenticated,
                      "ClientOptions::token");
    CKPT_EXPECT_ERROR(Save(token, "team-a/llama", 3), absl::StatusCode::kUnauthenticated, "token");
    CKPT_EXPECT_ERROR(ConnectAs(token)->Prepare(1 << 20, 1), absl::StatusCode::kUnauthenticated,
                      "token");
  }
}

TEST_F(TwoTeams, TheDaemonItselfIsTheOperators) {
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"status"}, {"drain", "--resume"}, {"retention", "confirm"}}) {
    const CommandResult denied = Ckptctl("a", words);
    EXPECT_EQ(denied.exit_status, kExitDenied) << words[0] << denied.errors;
    EXPECT_THAT(denied.errors, HasSubstr("admin rights over all runs")) << words[0];
    const CommandResult allowed = Ckptctl("ops", words);
    EXPECT_EQ(allowed.exit_status, 0) << words[0] << allowed.errors;
  }
  const CommandResult denied = Ckptctl("a", {"retention", "set", "team-a/llama", "--keep-last=9"});
  EXPECT_EQ(denied.exit_status, kExitDenied);
  EXPECT_THAT(denied.errors, HasSubstr("admin rights over run 'team-a/llama'"));
}

TEST_F(TwoTeams, RightsComeAndGoWithoutARestart) {
  EXPECT_TRUE(absl::IsNotFound(Get("a", "team-b/llama")));
  Write(absl::StrCat(Rule("a", "team-a team-b/** read"), Rule("new", "late ** read")));
  CKPT_ASSERT_OK(Eventually("the new rights hold", [&] {
    return Get("a", "team-b/llama").ok() && Get("new", "team-a/llama").ok();
  }));
  EXPECT_TRUE(absl::IsNotFound(Get("a", "team-a/llama")));
  CKPT_EXPECT_ERROR(Get("b", "team-b/llama"), absl::StatusCode::kUnauthenticated, "taken out");
  Write("nonsense\n");
  CKPT_ASSERT_OK(Eventually("the log says what is wrong", [&] {
    Get("a", "team-b/llama").IgnoreError();  // it is looked at while it is used
    return daemon().AwaitLog("token file is wrong", absl::ZeroDuration()).ok();
  }));
  EXPECT_THAT(daemon().Log(), HasSubstr(tokens_ + ":1"));
  CKPT_EXPECT_OK(Get("a", "team-b/llama"));
}

TEST_F(TwoTeams, TheTokenMayLieInAFileThatNobodyElseReads) {
  const std::string path = scratch_ / "token";
  std::ofstream(path) << "a\n";
  ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  EXPECT_EQ(Ckptctl("", {"run", "ls", "--token-file", path}).exit_status, 0);
  EXPECT_EQ(Ckptctl("wrong", {"--token-file", path, "run", "ls"}).exit_status, 0);
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  const CommandResult open = Ckptctl("", {"run", "ls", "--token-file", path});
  EXPECT_EQ(open.exit_status, kExitDenied);
  EXPECT_THAT(open.errors, HasSubstr("chmod"));
  EXPECT_EQ(Ckptctl("", {"run", "ls", "--token-file", scratch_ / "none"}).exit_status,
            kExitNotFound);
}

class Access : public IntegrationTest {
 protected:
  ScratchFolder scratch_;
};

TEST_F(Access, ASocketMayGiveReadingAlone) {
  StartDaemon();
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Mixed(1), 1));
  DropClients();
  CKPT_ASSERT_OK(daemon().Restart({"--socket-rights=read"}));
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(1)));
  CKPT_EXPECT_ERROR(SaveCommitted(NewId("run", 2), TestState::Mixed(2), 1),
                    absl::StatusCode::kPermissionDenied, "write rights over run 'run'");
  CKPT_EXPECT_ERROR(Connect()->Prepare(1 << 20, 1), absl::StatusCode::kPermissionDenied,
                    "write rights over any run");
  CKPT_EXPECT_ERROR(Status().status(), absl::StatusCode::kPermissionDenied, "admin rights");
}

// gRPC tells a connection by the name of the caller's end, which he may choose.
TEST_F(Access, ACallerWhoNamesHisEndOfTheSocketGetsNoMoreForIt) {
  StartDaemon({.flags = {"--socket-rights=read"}});
  const std::string path = daemon().socket();
  for (const std::string& name : {std::string(), std::string(1, '\0') + absl::StrCat("ipv4:1.2.3.4:", getpid()),
                                  scratch_ / "ipv4:1.2.3.4:5"}) {
    const int end = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::memcpy(address.sun_path, name.data(), name.size());
    const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    if (!name.empty()) {
      ASSERT_EQ(bind(end, reinterpret_cast<const sockaddr*>(&address), bytes), 0)
          << std::strerror(errno);
    }
    sockaddr_un served{.sun_family = AF_UNIX, .sun_path = {}};
    std::memcpy(served.sun_path, path.data(), path.size());
    ASSERT_EQ(connect(end, reinterpret_cast<const sockaddr*>(&served), sizeof(served)), 0);
    ASSERT_EQ(fcntl(end, F_SETFL, O_NONBLOCK), 0);
    const auto channel = grpc::CreateInsecureChannelFromFd("ckptd", end);  // closes it
    grpc::ClientContext reads, asks;
    v1::ListRunsResponse runs;
    const grpc::Status listed = v1::CatalogService::NewStub(channel)->ListRuns(&reads, {}, &runs);
    EXPECT_TRUE(listed.ok()) << listed.error_message();
    v1::GetStatusResponse status;
    const grpc::Status told = v1::AdminService::NewStub(channel)->GetStatus(&asks, {}, &status);
    EXPECT_EQ(told.error_code(), grpc::StatusCode::PERMISSION_DENIED) << told.error_message();
  }
}

TEST_F(Access, AWrongTokenFileRefusesTheStart) {
  ScratchFolder scratch;
  std::ofstream(scratch / "tokens") << "nonsense\n";
  const auto started = Daemon::Start({.flags = {"--token-file=" + scratch / "tokens"}});
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(std::string(started.status().message()), HasSubstr("tokens:1"));
}

TEST_F(Access, OverTcpATokenIsNeededWhereThereAreTokens) {
  ScratchFolder scratch;
  std::ofstream(scratch / "tokens") << Rule("a", "team-a ** read");
  StartDaemon({.flags = {"--listen=127.0.0.1:0", "--insecure-tcp",
                         "--token-file=" + scratch / "tokens"}});
  CKPT_ASSERT_OK(daemon().AwaitLog("tcp_port="));
  const std::string log = daemon().Log();
  const size_t at = log.rfind("tcp_port=") + 9;
  const std::string address =
      "127.0.0.1:" + log.substr(at, log.find_first_not_of("0123456789", at) - at);
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Mixed(1), 1));  // the socket needs none
  for (const char* token : {"", "a"}) {
    auto client = Client::Connect({.address = address, .token = token});
    ASSERT_TRUE(client.ok()) << client.status();
    const absl::Status got = (*client)->GetCheckpoint(*ParseSelector("run@1")).status();
    EXPECT_EQ(got.code(), *token != '\0' ? absl::StatusCode::kOk
                                         : absl::StatusCode::kUnauthenticated)
        << got;
  }
}

TEST_F(Access, ATokenThatMetadataCannotCarryIsRefusedAtOnce) {
  const auto client = Client::Connect({.socket = daemon().socket(), .token = "a\nb"});
  EXPECT_EQ(client.status().code(), absl::StatusCode::kInvalidArgument);
}

// --- users of the node

// What `body` returns, run by a child that is that user. Only system calls there: the child has one
// thread of this process's, and whatever locks the others held.
template <typename Body>
int AsUser(uid_t uid, gid_t gid, std::vector<gid_t> groups, Body body) {
  const pid_t child = fork();
  if (child == 0) {
    const bool other = syscall(SYS_setgroups, groups.size(), groups.data()) == 0 &&
                       syscall(SYS_setresgid, gid, gid, gid) == 0 &&
                       syscall(SYS_setresuid, uid, uid, uid) == 0 &&
                       prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;  // its own /proc/self stays its own
    _exit(other ? body() : 101);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 102;
}

enum Served { kServed = 1, kRefused = 2, kNoConnection = 3 };

// Connects, says `hello` and reads until the daemon has said something that matters.
int AskAt(const sockaddr_un& address, const std::string& hello, const char* refusal) {
  const int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return kNoConnection;
  }
  if (!hello.empty()) send(descriptor, hello.data(), hello.size(), MSG_NOSIGNAL);
  char text[4096];
  pollfd answer{descriptor, POLLIN, 0};
  if (poll(&answer, 1, 60'000) != 1) return 103;
  const ssize_t got = recv(descriptor, text, sizeof(text), 0);
  if (got <= 0) return kRefused;
  return memmem(text, static_cast<size_t>(got), refusal, std::strlen(refusal)) != nullptr
             ? kRefused
             : kServed;
}

class Users : public IntegrationTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  }
  // At both sockets, for a process of kNobody's in these groups.
  std::vector<int> Ask(std::vector<gid_t> groups) {
    v1::ClientFrame frame;
    frame.mutable_hello()->set_protocol_version(1);
    const std::string payload = frame.SerializeAsString();
    const std::string hello = std::string(1, static_cast<char>(payload.size())) +
                              std::string(3, '\0') + payload;
    std::vector<int> served;
    for (const bool session : {false, true}) {
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      const std::string path = daemon().socket() + (session ? ".fd" : "");
      std::memcpy(address.sun_path, path.data(), path.size());
      served.push_back(AsUser(kNobody, kNobody, groups, [&] {
        return AskAt(address, session ? hello : std::string(), "--allow-uid");
      }));
    }
    return served;
  }
};

TEST_F(Users, WhoIsNotAllowedIsTurnedAwayAtBothSockets) {
  StartDaemon({.flags = {"--socket-mode=0666", "--allow-uid=12345"}});
  EXPECT_THAT(Ask({}), ::testing::ElementsAre(kRefused, kRefused));
  CKPT_EXPECT_OK(daemon().AwaitLog("a process was refused"));
  EXPECT_THAT(daemon().Log(), HasSubstr("uid=65534"));
  // Root may, and is served as ever.
  CKPT_EXPECT_OK(SaveCommitted(NewId("run", 1), TestState::Mixed(1), 1));
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(1)));
}

TEST_F(Users, AUserOrAGroupIsEnough) {
  StartDaemon({.flags = {"--socket-mode=0666", "--allow-uid=12345,65534"}});
  EXPECT_THAT(Ask({}), ::testing::ElementsAre(kServed, kServed));
  CKPT_ASSERT_OK(daemon().Restart({"--allow-uid=12345", absl::StrCat("--allow-gid=", kGroup)}));
  EXPECT_THAT(Ask({}), ::testing::ElementsAre(kRefused, kRefused));
  EXPECT_THAT(Ask({7, kGroup}), ::testing::ElementsAre(kServed, kServed));
}

TEST_F(Users, TheSocketsModeStillCounts) {
  StartDaemon({.flags = {"--socket-mode=0600", "--allow-uid=65534"}});
  EXPECT_THAT(Ask({}), ::testing::ElementsAre(kNoConnection, kNoConnection));
}

// --- descriptors

// What a restore is lent, by hand: a plan over a session, and the descriptors that came with it.
class Lent : public IntegrationTest {
 protected:
  void SetUp() override {
    CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Plain(1, 100'000), 1));
  }
  ~Lent() override {
    for (const int descriptor : files_) close(descriptor);
  }
  // `files`: of the memory tier and of the disk; of the disk alone after the daemon was restarted
  // without its memory.
  void Plan(size_t files) {
    absl::StatusOr<Descriptor> session = ConnectUnixSocket(daemon().socket() + ".fd");
    ASSERT_TRUE(session.ok()) << session.status();
    session_ = *std::move(session);
    v1::ClientFrame hello;
    hello.mutable_hello()->set_protocol_version(1);
    CKPT_ASSERT_OK(SendFrame(session_.number(), hello));
    const absl::StatusOr<ReceivedFrame> welcome = ReceiveFrame(session_.number());
    ASSERT_TRUE(welcome.ok()) << welcome.status();
    v1::PlanRestoreRequest request;
    *request.mutable_selector() = *ParseSelector("run@1");
    request.set_session_token(welcome->frame.welcome().session_token());
    grpc::ClientContext context;
    const auto stub = v1::RestoreService::NewStub(channel());
    const auto reader = stub->PlanRestore(&context, request);
    v1::PlanRestoreResponse response;
    while (reader->Read(&response)) {
    }
    ASSERT_TRUE(reader->Finish().ok());
    for (size_t i = 0; i < files; ++i) {
      absl::StatusOr<ReceivedFrame> grant = ReceiveFrame(session_.number());
      ASSERT_TRUE(grant.ok()) << grant.status();
      ASSERT_EQ(grant->frame.grant().access(), v1::FILE_ACCESS_READ);
      // A copy that the client library does not close in a child.
      files_.push_back(fcntl(grant->descriptor.number(), F_DUPFD_CLOEXEC, 0));
    }
  }
  void ExpectNoneCanBeChanged() {
    ASSERT_THAT(files_, Not(IsEmpty()));
    for (const int file : files_) {
      char byte = 'x';
      ASSERT_EQ(pread(file, &byte, 1, 0), 1);
      EXPECT_EQ(fcntl(file, F_GETFL) & O_ACCMODE, O_RDONLY);
      EXPECT_EQ(pwrite(file, &byte, 1, 0), -1);
      EXPECT_EQ(ftruncate(file, 0), -1);
      EXPECT_EQ(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
      EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), MAP_FAILED);
      void* mapping = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file, 0);
      ASSERT_NE(mapping, MAP_FAILED);
      EXPECT_EQ(mprotect(mapping, 4096, PROT_READ | PROT_WRITE), -1);
      munmap(mapping, 4096);
    }
  }
  // Through the name that /proc gives every open file: the file's own mode decides there.
  void ExpectNoneCanBeReopenedByAnotherUser() {
    if (geteuid() != 0) return;
    // So that the reason is the file's mode: what is his he can reopen.
    const int own = memfd_create("own", 0);
    ASSERT_EQ(fchown(own, kNobody, kNobody), 0);
    const auto reopened = [](int file, int flags) {
      return AsUser(kNobody, kNobody, {}, [file, flags] {
        char path[32];
        std::snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
        return open(path, flags) >= 0 ? 1 : errno == EACCES ? 2 : 3;
      });
    };
    EXPECT_EQ(reopened(own, O_RDWR), 1);
    for (const int file : files_) {
      EXPECT_EQ(reopened(file, O_RDWR), 2);
      EXPECT_EQ(reopened(file, O_WRONLY | O_TRUNC), 2);
      EXPECT_EQ(AsUser(kNobody, kNobody, {}, [file] { return fchmod(file, 0777) == 0 ? 1 : 2; }),
                2);
    }
    close(own);
  }

  Descriptor session_;
  std::vector<int> files_;
};

TEST_F(Lent, DescriptorsOfBothTiersAreForReadingAlone) {
  CKPT_ASSERT_OK(Eventually("the part lies in memory as well", [this] {
    const absl::StatusOr<v1::CheckpointInfo> info = Info("run@1");
    return info.ok() && info->in_memory();
  }));
  Plan(2);
  ExpectNoneCanBeChanged();
  ExpectNoneCanBeReopenedByAnotherUser();
  CKPT_EXPECT_OK(Verify("run@1"));
}

TEST_F(Lent, DescriptorsOfTheDiskTierAreForReadingAlone) {
  DropClients();
  ASSERT_TRUE(daemon().Terminate().ok());
  std::filesystem::remove_all(daemon().memory_folder());
  CKPT_ASSERT_OK(daemon().Restart());
  Plan(1);
  ExpectNoneCanBeChanged();
  ExpectNoneCanBeReopenedByAnotherUser();
  CKPT_EXPECT_OK(Verify("run@1"));
}

}  // namespace
}  // namespace ckpt::testing
