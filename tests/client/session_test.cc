// Connecting, the session socket, and what a daemon gets wrong on it.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <thread>

#include "client/client.h"
#include "client/transport/connection.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_daemon.h"

namespace ckpt {
namespace {

using testing::FakeDaemon;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(10);

class SessionTest : public ::testing::Test {
 protected:
  std::shared_ptr<Connection> Connect() {
    auto connection = Connection::Open({.socket = daemon_.socket(), .name = "session_test"});
    EXPECT_TRUE(connection.ok()) << connection.status();
    return connection.ok() ? *connection : nullptr;
  }
  static absl::Time Soon() { return absl::Now() + kPatience; }
  // A descriptor of a fresh file of so many bytes.
  static int File(off_t bytes) {
    const int file = memfd_create("granted", MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(file, bytes), 0);
    return file;
  }

  FakeDaemon daemon_;
};

TEST(Connect, NobodyListensIsSaidWithThePath) {
  const auto client = Client::Connect(
      {.socket = "/tmp/no/such/ckptd.sock", .connect_timeout = absl::Milliseconds(120)});
  EXPECT_EQ(client.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(client.status().message()), HasSubstr("/tmp/no/such/ckptd.sock"));
  EXPECT_THAT(std::string(client.status().message()), HasSubstr("CKPTD_SOCKET"));
}

TEST(Connect, TheEnvironmentNamesTheSocket) {
  setenv("CKPTD_SOCKET", "/tmp/from/environment.sock", 1);
  const auto client = Client::Connect({.connect_timeout = absl::ZeroDuration()});
  unsetenv("CKPTD_SOCKET");
  EXPECT_THAT(std::string(client.status().message()), HasSubstr("/tmp/from/environment.sock"));
}

TEST(Connect, APathTooLongForASocketIsInvalid) {
  const auto client = Client::Connect({.socket = "/tmp/" + std::string(200, 'x')});
  EXPECT_EQ(client.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Connect, ATcpAddressWhereNobodyAnswersIsUnavailable) {
  const auto client =
      Client::Connect({.address = "127.0.0.1:1", .connect_timeout = absl::Milliseconds(200)});
  EXPECT_EQ(client.status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(SessionTest, ADaemonThatStartsLaterIsWaitedFor) {
  daemon_.Stop();
  std::thread later([&] { daemon_.Start(); });
  const auto client = Client::Connect({.socket = daemon_.socket(), .connect_timeout = kPatience});
  later.join();
  EXPECT_TRUE(client.ok()) << client.status();
}

// Listens at a session socket, greets whoever comes first, and dies; then calls `afterwards`.
std::thread GreetOnceAndDie(const std::string& path, std::function<void()> afterwards) {
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(listen(listener, 1), 0);
  return std::thread([=] {
    const int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    char hello[512];
    EXPECT_GT(recv(socket, hello, sizeof(hello), 0), 0);
    v1::DaemonFrame welcome;
    welcome.mutable_welcome()->set_protocol_version(1);
    welcome.mutable_welcome()->set_session_token(SessionToken::Random().bytes());
    const std::string body = welcome.SerializeAsString();
    const auto length = static_cast<uint32_t>(body.size());
    std::string frame(reinterpret_cast<const char*>(&length), 4);
    frame += body;
    EXPECT_EQ(send(socket, frame.data(), frame.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(frame.size()));
    close(listener);
    unlink(path.c_str());
    close(socket);
    afterwards();
  });
}

// It greets, dies, and another one is there before the channel has connected.
TEST_F(SessionTest, ADaemonThatDiesWhileOneConnectsLeavesNoSessionToTheNextOne) {
  const auto connection = Connect();
  ASSERT_NE(connection, nullptr);
  daemon_.Stop();
  std::thread first = GreetOnceAndDie(daemon_.socket() + ".fd", [&] { daemon_.Start(); });
  const auto session = connection->GetSession();
  first.join();
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_TRUE((*session)->token() == daemon_.token());
  EXPECT_EQ(daemon_.sessions_opened(), 2);
}

// Not that it has a session socket only, which would be something to look for in its configuration.
TEST_F(SessionTest, ADaemonThatDiesWhileOneConnectsIsSaidNotToBeThere) {
  daemon_.Stop();
  std::thread only = GreetOnceAndDie(daemon_.socket() + ".fd", [] {});
  const auto client =
      Client::Connect({.socket = daemon_.socket(), .connect_timeout = absl::Milliseconds(200)});
  only.join();
  EXPECT_EQ(client.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(client.status().message()), HasSubstr("no ckptd listens at"));
}

// Whoever asks next gets a new session, though nobody has told the old one's thread.
TEST_F(SessionTest, ASessionIsBrokenAsSoonAsItsDaemonHasGone) {
  const auto connection = Connect();
  ASSERT_NE(connection, nullptr);
  for (int i = 0; i < 200; ++i) {
    const auto session = connection->GetSession();
    ASSERT_TRUE(session.ok()) << session.status();
    EXPECT_TRUE((*session)->token() == daemon_.token()) << i;
    daemon_.CloseSessions();
    EXPECT_TRUE((*session)->broken()) << i;
  }
}

TEST_F(SessionTest, ARefusalIsPassedOn) {
  daemon_.refuse = "uid 1000 may not";
  const auto client = Client::Connect({.socket = daemon_.socket()});
  EXPECT_EQ(client.status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(client.status().message()), HasSubstr("uid 1000 may not"));
}

TEST_F(SessionTest, AGrantedFileIsMappedOnceAndSharesItsBytes) {
  const auto connection = Connect();
  const auto session = *connection->GetSession();
  const int file = File(10000);
  const FileId id = FileId::Random();
  ASSERT_TRUE(daemon_.Grant(id, v1::FILE_ACCESS_STAGING, 10000, file));
  const auto use = session->files().UseStaging(id, 10000, Soon());
  ASSERT_TRUE(use.ok()) << use.status();
  const auto again = session->files().UseStaging(id, 1, Soon());
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(&(*use)->mapping(), &(*again)->mapping());
  (*use)->mapping().data()[9999] = std::byte{'z'};
  char byte = 0;
  ASSERT_EQ(pread(file, &byte, 1, 9999), 1);
  EXPECT_EQ(byte, 'z');
  close(file);
}

TEST_F(SessionTest, AGrantShorterThanPromisedIsAnError) {
  const auto connection = Connect();
  const auto session = *connection->GetSession();
  const int file = File(100);
  const FileId id = FileId::Random();
  ASSERT_TRUE(daemon_.Grant(id, v1::FILE_ACCESS_STAGING, 100, file));
  EXPECT_EQ(session->files().UseStaging(id, 101, Soon()).status().code(),
            absl::StatusCode::kInternal);
  // And one whose file is shorter than it says must not become a SIGBUS.
  const FileId lying = FileId::Random();
  ASSERT_TRUE(daemon_.Grant(lying, v1::FILE_ACCESS_STAGING, 5000, file));
  EXPECT_EQ(session->files().UseStaging(lying, 5000, Soon()).status().code(),
            absl::StatusCode::kFailedPrecondition);
  close(file);
}

TEST_F(SessionTest, AGrantThatNeverComesTimesOut) {
  const auto connection = Connect();
  const auto session = *connection->GetSession();
  EXPECT_EQ(session->files()
                .UseStaging(FileId::Random(), 1, absl::Now() + absl::Milliseconds(20))
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(SessionTest, RevokedFilesAreUnmappedWhenTheirLastUseEnds) {
  const auto connection = Connect();
  const auto session = *connection->GetSession();
  const int file = File(4096);
  const FileId id = FileId::Random();
  ASSERT_TRUE(daemon_.Grant(id, v1::FILE_ACCESS_STAGING, 4096, file));
  auto use = session->files().UseStaging(id, 4096, Soon());
  ASSERT_TRUE(use.ok());
  ASSERT_TRUE(daemon_.Revoke(id));
  const FileId unknown = FileId::Random();
  ASSERT_TRUE(daemon_.Revoke(unknown));
  EXPECT_TRUE(daemon_.AwaitUnmapped(unknown));
  EXPECT_FALSE(daemon_.HasUnmapped(id));
  use->reset();
  EXPECT_TRUE(daemon_.AwaitUnmapped(id));
  EXPECT_EQ(session->files().staging_count(), 0u);
  close(file);
}

TEST_F(SessionTest, ReceivedDescriptorsAreCloseOnExec) {
  const auto connection = Connect();
  const auto session = *connection->GetSession();
  const int file = File(100);
  const FileId id = FileId::Random();
  ASSERT_TRUE(daemon_.Grant(id, v1::FILE_ACCESS_READ, 100, file));
  const auto granted = session->files().UseRead(id, Soon());
  ASSERT_TRUE(granted.ok());
  EXPECT_NE(fcntl((*granted)->descriptor(), F_GETFD) & FD_CLOEXEC, 0);
  close(file);
}

TEST_F(SessionTest, FilesOfAPlanAreClosedWithIt) {
  const auto connection = Connect();
  const auto session = *connection->GetSession();
  session->files().BeginPlanning();
  const int file = File(100);
  const FileId id = FileId::Random();
  ASSERT_TRUE(daemon_.Grant(id, v1::FILE_ACCESS_READ, 100, file));
  auto granted = session->files().UseRead(id, Soon());
  ASSERT_TRUE(granted.ok());
  session->files().EndPlanning();
  EXPECT_EQ(session->files().read_count(), 1u);
  std::vector<std::shared_ptr<ReadFile>> files;
  files.push_back(*std::move(granted));
  session->files().Release(std::move(files));
  EXPECT_EQ(session->files().read_count(), 0u);
  close(file);
}

TEST_F(SessionTest, AMappedFileStaysForTheNextPlanUntilItIsUnlinked) {
  const auto connection = Connect();
  const auto session = *connection->GetSession();
  char path[] = "/dev/shm/ckpt_session_test_XXXXXX";
  const int file = mkstemp(path);
  ASSERT_EQ(ftruncate(file, 100), 0);
  const FileId id = FileId::Random();
  ASSERT_TRUE(daemon_.Grant(id, v1::FILE_ACCESS_READ, 100, file));
  auto granted = session->files().UseRead(id, Soon());
  ASSERT_TRUE(granted.ok() && (*granted)->Map().ok());
  std::vector<std::shared_ptr<ReadFile>> files;
  files.push_back(*std::move(granted));
  session->files().Release(std::move(files));
  EXPECT_EQ(session->files().read_count(), 1u);
  unlink(path);
  session->files().DropIdle(absl::Now());
  EXPECT_EQ(session->files().read_count(), 0u);
  close(file);
}

TEST_F(SessionTest, AStagingMappingServesForReadingAndIsGivenBackWhenRevoked) {
  const auto connection = Connect();
  const auto session = *connection->GetSession();
  const int file = File(4096);
  const FileId id = FileId::Random();
  ASSERT_TRUE(daemon_.Grant(id, v1::FILE_ACCESS_STAGING, 4096, file));
  std::byte* staged = nullptr;
  {
    const auto use = session->files().UseStaging(id, 4096, Soon());
    ASSERT_TRUE(use.ok());
    staged = (*use)->mapping().data();
  }
  ASSERT_TRUE(daemon_.Grant(id, v1::FILE_ACCESS_READ, 4096, file));
  auto granted = session->files().UseRead(id, Soon());
  ASSERT_TRUE(granted.ok());
  EXPECT_EQ((*(*granted)->Map())->data(), staged);
  std::vector<std::shared_ptr<ReadFile>> files;
  files.push_back(*std::move(granted));
  session->files().Release(std::move(files));
  ASSERT_TRUE(daemon_.Revoke(id));
  EXPECT_TRUE(daemon_.AwaitUnmapped(id));
  EXPECT_EQ(session->files().read_count(), 0u);
  close(file);
}

// Nonsense on the socket ends the session with an error, and the next call makes a new one.
TEST_F(SessionTest, ADaemonThatBreaksTheProtocolLosesTheSession) {
  const auto frame = [](const std::string& body) {
    const auto length = static_cast<uint32_t>(body.size());
    return std::string(reinterpret_cast<const char*>(&length), 4) + body;
  };
  v1::DaemonFrame bare_grant;
  bare_grant.mutable_grant()->set_file_id(FileId::Random().bytes());
  const std::vector<std::string> broken = {
      std::string("\xff\xff\xff\x7f", 4),    // a frame of 2 GiB
      frame("\x08\x08\x08garbage"),          // not a message
      frame(bare_grant.SerializeAsString())  // a grant without a descriptor
  };
  const auto connection = Connect();
  int sessions = 1;
  for (const std::string& bytes : broken) {
    const auto session = *connection->GetSession();
    ASSERT_TRUE(daemon_.SendBytes(bytes));
    EXPECT_EQ(session->files().UseRead(FileId::Random(), Soon()).status().code(),
              absl::StatusCode::kInternal);
    EXPECT_TRUE(session->broken());
    const auto next = connection->GetSession();
    ASSERT_TRUE(next.ok());
    EXPECT_NE(*next, session);
    EXPECT_EQ(daemon_.sessions_opened(), ++sessions);
  }
}

TEST_F(SessionTest, AProcessWithoutRoomForAnotherFileIsTold) {
  const auto connection = Connect();
  const auto session = *connection->GetSession();
  const int file = File(100);
  const FileId id = FileId::Random();
  const int next = dup(file);
  close(next);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit full = before;
  full.rlim_cur = static_cast<rlim_t>(next);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &full), 0);
  daemon_.Grant(id, v1::FILE_ACCESS_READ, 100, file);
  const absl::Status status = session->files().UseRead(id, Soon()).status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("ulimit -n"));
  close(file);
}

TEST_F(SessionTest, PrepareMapsAndPopulatesTheFiles) {
  auto client = Client::Connect({.socket = daemon_.socket()});
  ASSERT_TRUE(client.ok());
  const int file = File(5 << 20);
  const FileId id = FileId::Random();
  daemon_.on_prepare = [&](const v1::PrepareRequest& request, v1::PrepareResponse* response) {
    EXPECT_EQ(request.part_bytes(), 5u << 20);
    EXPECT_EQ(request.session_token(), daemon_.token());
    response->add_file_ids(id.bytes());
    response->set_file_bytes(5 << 20);
    daemon_.Grant(id, v1::FILE_ACCESS_STAGING, 5 << 20, file);
    return grpc::Status::OK;
  };
  ASSERT_TRUE((*client)->Prepare(5 << 20, 1).ok());
  struct stat info;
  ASSERT_EQ(fstat(file, &info), 0);
  EXPECT_GE(info.st_blocks * 512, 5 << 20) << "every page was touched";
  EXPECT_EQ((*client)->Prepare(0, 1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*client)->Prepare(1, 0).code(), absl::StatusCode::kInvalidArgument);
  close(file);
}

}  // namespace
}  // namespace ckpt
