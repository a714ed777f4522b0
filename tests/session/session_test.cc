// The descriptor socket, from the client's end.
#include "server/session/session.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/staging/session_client.h"
#include "tests/staging/staging_rig.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() { options_.socket_path = folder_.path() + "/ckptd.sock.fd"; }
  ~SessionTest() override {
    for (int descriptor : open_) close(descriptor);
  }
  void Start() {
    options_.daemon_version = "1.2.3";
    server_ = SessionServer::Start(options_).value();
  }
  int Connect() {
    open_.push_back(ConnectSocket(options_.socket_path));
    return open_.back();
  }
  static std::string Hello(uint32_t version = 1) {
    v1::ClientFrame frame;
    frame.mutable_hello()->set_protocol_version(version);
    return frame.SerializeAsString();
  }
  // What the daemon says last before it closes; "" where it just closes.
  static std::string Refusal(int descriptor) {
    v1::DaemonFrame frame;
    int attached = -1;
    std::string reason;
    while (ReceiveFrame(descriptor, &frame, &attached)) reason = frame.refused().reason();
    return reason;
  }

  TestFolder folder_{"/tmp"};
  SessionServerOptions options_;
  std::unique_ptr<SessionServer> server_;
  std::vector<int> open_;
};

TEST_F(SessionTest, HelloIsAnsweredWithATokenThatIsKnownAtOnce) {
  Start();
  SessionClient client(options_.socket_path);
  EXPECT_EQ(client.welcome().daemon_version(), "1.2.3");
  EXPECT_EQ(client.token().size(), 16u);
  auto session = server_->Find(client.token());
  ASSERT_NE(session, nullptr);
  EXPECT_EQ(session->peer().pid, getpid());
  EXPECT_EQ(session->peer().uid, getuid());
  EXPECT_EQ(server_->count(), 1u);
}

TEST_F(SessionTest, GuessedTokensAreUnknown) {
  Start();
  SessionClient client(options_.socket_path);
  EXPECT_EQ(server_->Find(""), nullptr);
  EXPECT_EQ(server_->Find(std::string(16, '\0')), nullptr);
  EXPECT_EQ(server_->Find(std::string(16, 'x')), nullptr);
  EXPECT_EQ(server_->Find(client.token().substr(0, 15)), nullptr);
  EXPECT_EQ(server_->Find(client.token() + "x"), nullptr);
}

TEST_F(SessionTest, ATokenEndsWithItsSession) {
  Start();
  auto client = std::make_unique<SessionClient>(options_.socket_path);
  const std::string token = client->token();
  auto session = server_->Find(token);
  std::atomic<bool> told{false};
  session->OnClose([&] { told = true; });
  client = nullptr;
  while (!told) std::this_thread::yield();
  EXPECT_TRUE(session->closed());
  while (server_->Find(token) != nullptr) std::this_thread::yield();
  EXPECT_TRUE(
      absl::IsUnavailable(session->Grant(FileId::Random(), v1::FILE_ACCESS_READ, 1, STDIN_FILENO)));
  bool at_once = false;
  session->OnClose([&] { at_once = true; });
  EXPECT_TRUE(at_once);
}

TEST_F(SessionTest, AForgottenCallbackIsNotCalled) {
  Start();
  auto client = std::make_unique<SessionClient>(options_.socket_path);
  auto session = server_->Find(client->token());
  std::atomic<int> calls{0};
  std::atomic<bool> told{false};
  session->ForgetOnClose(session->OnClose([&] { ++calls; }));
  session->OnClose([&] { told = true; });
  client = nullptr;
  while (!told) std::this_thread::yield();
  EXPECT_EQ(calls, 0);
}

TEST_F(SessionTest, AGrantCarriesItsDescriptor) {
  Start();
  SessionClient client(options_.socket_path);
  auto file = StagingFile::Create("/dev/shm" + folder_.path().substr(4), 4096, HugePages::kNone);
  ASSERT_TRUE(file.ok()) << file.status();
  unlink(("/dev/shm" + folder_.path().substr(4)).c_str());
  ASSERT_TRUE((*file)->Write(0, "through the socket").ok());
  Descriptor descriptor = (*file)->Reopen(false).value();
  ASSERT_TRUE(server_->Find(client.token())
                  ->Grant((*file)->id(), v1::FILE_ACCESS_STAGING, 4096, descriptor.get())
                  .ok());
  const SessionClient::File granted = client.Granted((*file)->id().bytes());
  EXPECT_EQ(std::string(granted.mapping), "through the socket");
  EXPECT_EQ(granted.length, 4096u);
}

TEST_F(SessionTest, RevocationIsAnsweredOnce) {
  Start();
  SessionClient client(options_.socket_path);
  auto session = server_->Find(client.token());
  const FileId id = FileId::Random();
  std::atomic<int> answers{0};
  client.AnswerRevocations(false);
  session->Revoke(id, [&] { ++answers; });
  session->Revoke(id, [&] { ++answers; });
  client.AwaitRevoked(1);
  client.AnswerNow();
  while (answers < 2) std::this_thread::yield();
  EXPECT_EQ(client.revoked().size(), 1u) << "asked once";
}

TEST_F(SessionTest, TheEndOfTheSessionAnswersRevocations) {
  Start();
  auto client = std::make_unique<SessionClient>(options_.socket_path);
  auto session = server_->Find(client->token());
  client->AnswerRevocations(false);
  std::atomic<int> answers{0};
  session->Revoke(FileId::Random(), [&] { ++answers; });
  client = nullptr;
  while (answers < 1) std::this_thread::yield();
  session->Revoke(FileId::Random(), [&] { ++answers; });
  EXPECT_EQ(answers, 2);
}

TEST_F(SessionTest, AnUnmappedThatNobodyAskedForDoesNoHarm) {
  Start();
  const int client = Connect();
  SendFrame(client, Hello());
  v1::ClientFrame frame;
  frame.mutable_unmapped()->set_file_id(FileId::Random().bytes());
  SendFrame(client, frame.SerializeAsString());
  SessionClient other(options_.socket_path);
  EXPECT_NE(server_->Find(other.token()), nullptr);
  EXPECT_EQ(server_->count(), 2u);
}

TEST_F(SessionTest, OtherVersionsAreToldWhatIsSpokenHere) {
  Start();
  const int client = Connect();
  SendFrame(client, Hello(7));
  EXPECT_THAT(Refusal(client), HasSubstr("session protocol 1"));
}

TEST_F(SessionTest, WhatIsNoHelloIsRefused) {
  Start();
  const int first = Connect();
  v1::ClientFrame unmapped;
  unmapped.mutable_unmapped()->set_file_id(std::string(16, 'x'));
  SendFrame(first, unmapped.SerializeAsString());
  EXPECT_THAT(Refusal(first), HasSubstr("hello"));
  const int twice = Connect();
  SendFrame(twice, Hello());
  SendFrame(twice, Hello());
  EXPECT_THAT(Refusal(twice), HasSubstr("hello was sent already"));
}

TEST_F(SessionTest, GarbageAndOversizedFramesEndTheConnectionOnly) {
  Start();
  SessionClient good(options_.socket_path);
  const int garbage = Connect();
  SendFrame(garbage, std::string(100, '\xff'));
  EXPECT_THAT(Refusal(garbage), HasSubstr("no ClientFrame"));
  const int oversized = Connect();
  const unsigned char length[4] = {0xff, 0xff, 0xff, 0xff};
  ASSERT_EQ(send(oversized, length, 4, MSG_NOSIGNAL), 4);
  EXPECT_THAT(Refusal(oversized), HasSubstr("4294967295 bytes"));
  const int long_name = Connect();
  v1::ClientFrame hello;
  hello.mutable_hello()->set_protocol_version(1);
  hello.mutable_hello()->set_client_name(std::string(10000, 'n'));
  SendFrame(long_name, hello.SerializeAsString());
  EXPECT_THAT(Refusal(long_name), HasSubstr("client_name"));
  EXPECT_NE(server_->Find(good.token()), nullptr);
}

TEST_F(SessionTest, FramesMayComeInPieces) {
  Start();
  const int client = Connect();
  std::string bytes = Hello();
  bytes = std::string(1, static_cast<char>(bytes.size())) + std::string(3, '\0') + bytes;
  for (char byte : bytes) ASSERT_EQ(send(client, &byte, 1, MSG_NOSIGNAL), 1);
  v1::DaemonFrame frame;
  int attached = -1;
  ASSERT_TRUE(ReceiveFrame(client, &frame, &attached));
  EXPECT_TRUE(frame.has_welcome());
}

TEST_F(SessionTest, AClientThatDoesNotReadIsCutOff) {
  options_.send_patience = absl::Milliseconds(50);
  Start();
  const int client = Connect();
  SendFrame(client, Hello());
  v1::DaemonFrame frame;
  int attached = -1;
  ASSERT_TRUE(ReceiveFrame(client, &frame, &attached));
  auto session = server_->Find(frame.welcome().session_token());
  ASSERT_NE(session, nullptr);
  absl::Status status;
  for (int i = 0; i < 100000 && status.ok(); ++i) {
    status = session->Grant(FileId::Random(), v1::FILE_ACCESS_READ, 1, STDIN_FILENO);
  }
  EXPECT_TRUE(absl::IsUnavailable(status));
  while (!session->closed()) std::this_thread::yield();
}

// The kernel lets an unprivileged thread's user have only so many descriptors on their way:
// RLIMIT_NOFILE, then ETOOMANYREFS. Of the calling thread only.
void GiveUpPrivileges() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  ASSERT_EQ(syscall(SYS_capset, &header, none), 0);
}

class DescriptorsOnTheirWay : public SessionTest {
 protected:
  static constexpr int kGrants = 150;  // few enough for the socket's buffer
  static constexpr rlim_t kAtOnce = 64;

  void SetUp() override { ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0); }
  void TearDown() override { EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before_), 0); }
  // A session whose client has been greeted and has not read since.
  void StartSession(absl::Duration send_patience) {
    options_.send_patience = send_patience;
    Start();
    client_ = Connect();
    SendFrame(client_, Hello());
    v1::DaemonFrame frame;
    int attached = -1;
    ASSERT_TRUE(ReceiveFrame(client_, &frame, &attached));
    session_ = server_->Find(frame.welcome().session_token());
    ASSERT_NE(session_, nullptr);
    rlimit few = before_;
    few.rlim_cur = kAtOnce;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  }
  std::thread Grant() {
    return std::thread([this] {
      GiveUpPrivileges();
      while (granted_ < kGrants && status_.ok()) {
        status_ = session_->Grant(FileId::Random(), v1::FILE_ACCESS_READ, 1, STDIN_FILENO);
        if (status_.ok()) ++granted_;
      }
    });
  }

  rlimit before_{};
  int client_ = -1;
  std::shared_ptr<Session> session_;
  absl::Status status_;  // of the thread, read once it has been joined
  std::atomic<int> granted_{0};
};

TEST_F(DescriptorsOnTheirWay, TooManyAreWaitedFor) {
  StartSession(absl::Minutes(1));
  std::thread sender = Grant();
  int last = -1;
  while (granted_ != last || last == 0) {  // until it waits
    last = granted_;
    absl::SleepFor(absl::Milliseconds(200));
  }
  EXPECT_LE(last, static_cast<int>(kAtOnce) + 1) << "nothing held it";
  v1::DaemonFrame frame;
  int attached = -1;
  int received = 0;
  while (received < kGrants && ReceiveFrame(client_, &frame, &attached)) {
    EXPECT_GE(attached, 0);
    close(attached);
    ++received;
  }
  sender.join();
  EXPECT_TRUE(status_.ok()) << status_;
  EXPECT_EQ(received, kGrants);
}

TEST_F(DescriptorsOnTheirWay, TooManyForTooLongCutTheClientOff) {
  StartSession(absl::Milliseconds(50));
  Grant().join();
  EXPECT_LE(granted_, static_cast<int>(kAtOnce) + 1);
  EXPECT_TRUE(absl::IsUnavailable(status_)) << status_;
  EXPECT_THAT(std::string(status_.message()), HasSubstr("descriptors are on their way"));
  while (!session_->closed()) std::this_thread::yield();
}

TEST_F(SessionTest, TheGreatestNumberOfSessionsIsKept) {
  options_.sessions_max = 2;
  Start();
  SessionClient one(options_.socket_path);
  auto two = std::make_unique<SessionClient>(options_.socket_path);
  EXPECT_THAT(Refusal(Connect()), HasSubstr("greatest number of sessions (2)"));
  two = nullptr;
  while (server_->count() > 1) std::this_thread::yield();
  SessionClient three(options_.socket_path);
}

TEST_F(SessionTest, PeersThatAreNotAuthorizedAreTold) {
  options_.authorize = [](const PeerCredentials& peer) {
    return absl::PermissionDeniedError("not pid " + std::to_string(peer.pid));
  };
  Start();
  EXPECT_THAT(Refusal(Connect()), HasSubstr("not pid"));
}

TEST_F(SessionTest, TheSocketHasItsModeAndAStaleOneIsReplaced) {
  options_.socket_mode = 0600;
  Start();
  struct stat there {};
  ASSERT_EQ(stat(options_.socket_path.c_str(), &there), 0);
  EXPECT_EQ(there.st_mode & 0777, 0600u);
  // As a killed daemon leaves it: bound, nobody behind it.
  server_ = nullptr;
  EXPECT_NE(stat(options_.socket_path.c_str(), &there), 0);
  const int stale = ConnectSocket(options_.socket_path);
  EXPECT_EQ(stale, -1);
  Start();
  SessionClient client(options_.socket_path);
}

TEST_F(SessionTest, AFileThatIsNoSocketIsLeftAlone) {
  close(open(options_.socket_path.c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_TRUE(absl::IsInvalidArgument(SessionServer::Start(options_).status()));
  EXPECT_EQ(access(options_.socket_path.c_str(), F_OK), 0);
  options_.socket_path = std::string(500, 'x');
  EXPECT_TRUE(absl::IsInvalidArgument(SessionServer::Start(options_).status()));
}

TEST_F(SessionTest, StoppingEndsAllSessions) {
  Start();
  SessionClient client(options_.socket_path);
  auto session = server_->Find(client.token());
  bool told = false;
  session->OnClose([&] { told = true; });
  server_ = nullptr;
  EXPECT_TRUE(told);
  EXPECT_TRUE(session->closed());
}

}  // namespace
}  // namespace ckpt
