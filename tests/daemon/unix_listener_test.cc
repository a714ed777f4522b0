#include "server/daemon/unix_listener.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

class UnixListenerTest : public ::testing::Test {
 protected:
  ~UnixListenerTest() override {
    listener_.reset();
    for (const int descriptor : descriptors_) close(descriptor);
    for (const int descriptor : accepted_) close(descriptor);
  }
  absl::Status Start(uint32_t mode = 0660) {
    auto listener = UnixListener::Start({.path = path_,
                                         .mode = mode,
                                         .authorize =
                                             [this](const PeerCredentials& peer) {
                                               MutexLock lock(mutex_);
                                               peer_ = peer;
                                               return answer_;
                                             },
                                         .connected =
                                             [this](int connection) {
                                               MutexLock lock(mutex_);
                                               accepted_.push_back(connection);
                                               changed_.NotifyAll();
                                             }});
    if (!listener.ok()) return listener.status();
    listener_ = *std::move(listener);
    return absl::OkStatus();
  }
  int MakeSocket() {
    descriptors_.push_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return descriptors_.back();
  }
  int Connect(int descriptor) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    return connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address));
  }
  std::vector<int> AwaitAccepted(size_t count) {
    MutexLock lock(mutex_);
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (accepted_.size() < count && absl::Now() < deadline) {
      changed_.WaitUntil(mutex_, deadline);
    }
    EXPECT_EQ(accepted_.size(), count);
    return accepted_;
  }

  const std::string path_ = absl::StrCat("/tmp/ckptd-listener-", getpid());
  Mutex mutex_;
  CondVar changed_;
  absl::Status answer_ ABSL_GUARDED_BY(mutex_);
  PeerCredentials peer_ ABSL_GUARDED_BY(mutex_);
  std::vector<int> accepted_;
  std::vector<int> descriptors_;
  std::unique_ptr<UnixListener> listener_;
};

TEST_F(UnixListenerTest, HandsOnWhoIsAdmitted) {
  ASSERT_TRUE(Start().ok());
  ASSERT_EQ(Connect(MakeSocket()), 0);
  const int accepted = AwaitAccepted(1).at(0);
  EXPECT_NE(fcntl(accepted, F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(fcntl(accepted, F_GETFL) & O_NONBLOCK, 0);
  MutexLock lock(mutex_);
  EXPECT_EQ(peer_.pid, getpid());
  EXPECT_EQ(peer_.uid, geteuid());
  EXPECT_EQ(peer_.gid, getegid());
  std::vector<gid_t> groups(static_cast<size_t>(getgroups(0, nullptr)));
  getgroups(static_cast<int>(groups.size()), groups.data());
  EXPECT_THAT(peer_.groups, ::testing::UnorderedElementsAreArray(groups));
}

TEST_F(UnixListenerTest, ClosesWhoIsNot) {
  {
    MutexLock lock(mutex_);
    answer_ = absl::PermissionDeniedError("no");
  }
  ASSERT_TRUE(Start().ok());
  const int client = MakeSocket();
  ASSERT_EQ(Connect(client), 0);
  char byte;
  EXPECT_LE(read(client, &byte, 1), 0) << "the end, or a reset";
  MutexLock lock(mutex_);
  EXPECT_TRUE(accepted_.empty());
}

TEST_F(UnixListenerTest, GoesOnWhenDescriptorsWereShort) {
  ASSERT_TRUE(Start().ok());
  std::vector<int> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(MakeSocket());
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  for (const int client : clients) EXPECT_EQ(Connect(client), 0);
  absl::SleepFor(absl::Milliseconds(200));  // time for it to meet the limit; nothing waits for this
  {
    MutexLock lock(mutex_);
    EXPECT_TRUE(accepted_.empty());
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  AwaitAccepted(3);
}

TEST_F(UnixListenerTest, HasItsModeReplacesAStaleSocketAndCleansUp) {
  for (const uint32_t mode : {0600u, 0666u}) {
    ASSERT_TRUE(Start(mode).ok());
    struct stat there {};
    ASSERT_EQ(stat(path_.c_str(), &there), 0);
    EXPECT_EQ(there.st_mode & 0777, mode);
    listener_.reset();
    EXPECT_NE(stat(path_.c_str(), &there), 0);
    // As a daemon leaves it that was killed.
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    ASSERT_EQ(bind(MakeSocket(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  unlink(path_.c_str());
  std::ofstream(path_) << "precious";
  const absl::Status refused = Start();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("not a socket"));
  unlink(path_.c_str());
}

}  // namespace
}  // namespace ckpt
