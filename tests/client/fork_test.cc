// A trainer forks its data loaders, even in the middle of a save.
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "client/client.h"
#include "common/key.h"
#include "gtest/gtest.h"
#include "tests/client/fake_save.h"

namespace ckpt {
namespace {

using testing::FakeDaemon;
using testing::FakeSave;

constexpr auto kRefused = absl::StatusCode::kFailedPrecondition;

// A pipe on which one process waits for another.
class Signal {
 public:
  Signal() { EXPECT_EQ(pipe(ends_), 0); }
  ~Signal() {
    close(ends_[0]);
    close(ends_[1]);
  }
  void Set() { EXPECT_EQ(write(ends_[1], "x", 1), 1); }
  bool Await() {
    pollfd ready{ends_[0], POLLIN, 0};
    char byte;
    return poll(&ready, 1, 20000) == 1 && read(ends_[0], &byte, 1) == 1;
  }

 private:
  int ends_[2];
};

Part SomePart(const std::string& bytes) {
  Part part;
  part.leaves.push_back(TensorLeaf(MakeKey({"w"}), v1::DTYPE_U8, {bytes.size()}, bytes.data()));
  return part;
}

// Number of the first expectation that fails in the child; 0: none. No gtest there: it has locks
// too.
int UseEverythingInChild(std::unique_ptr<Client> client, SaveHandle handle, const CheckpointId& id,
                         const std::string& socket) {
  v1::Selector selector;
  selector.set_run("run");
  if (client->Save(id, SomePart("x"), {}).status().code() != kRefused) return 1;
  if (client->Prepare(1 << 20).code() != kRefused) return 2;
  if (client->PlanRestore(selector, {}).status().code() != kRefused) return 3;
  if (client->GetCheckpoint(selector).status().code() != kRefused) return 4;
  if (client->Wait(id, v1::CHECKPOINT_STATE_STAGED, absl::Seconds(1)).status().code() != kRefused) {
    return 5;
  }
  if (handle.AwaitStaged().code() != kRefused) return 6;
  if (handle.AwaitCommitted().code() != kRefused) return 7;
  if (handle.status().code() != kRefused) return 8;
  handle.Progress();
  handle.stall();
  const auto another = Client::Connect({.socket = socket});
  if (another.status().code() != kRefused) return 9;
  if (another.status().message().find("forked") == absl::string_view::npos) return 10;
  client.reset();  // must neither hang nor touch the parent's connection
  return 0;
}

TEST(Fork, TheChildRefusesAndTheParentsSaveGoesOn) {
  FakeDaemon daemon;
  FakeSave save(&daemon);
  Signal in_save, child_done;
  save.before_staged = [&](grpc::ServerContext*) {
    in_save.Set();
    EXPECT_TRUE(child_done.Await());
    return grpc::Status::OK;
  };
  auto client = Client::Connect({.socket = daemon.socket()});
  ASSERT_TRUE(client.ok()) << client.status();
  const CheckpointId id{"run", 1, Incarnation::TimeOrdered()};
  const std::string bytes(3 << 20, 'b');
  auto handle = (*client)->Save(id, SomePart(bytes), {});
  ASSERT_TRUE(handle.ok());
  ASSERT_TRUE(in_save.Await());

  Signal release_child;
  const pid_t child = fork();
  if (child == 0) {
    const int failed = UseEverythingInChild(*std::move(client), *handle, id, daemon.socket());
    if (failed != 0) _exit(failed);
    child_done.Set();
    _exit(release_child.Await() ? 0 : 99);
  }
  EXPECT_TRUE(handle->AwaitStaged(absl::Seconds(30)).ok()) << handle->status();
  ASSERT_EQ(save.received().size(), 1u);
  EXPECT_EQ(save.received()[0].bytes, bytes);

  // The parent still saves, and when it goes, the daemon sees it although the child lives.
  save.before_staged = nullptr;
  auto next = (*client)->Save({"run", 2, id.incarnation}, SomePart(bytes), {});
  ASSERT_TRUE(next.ok());
  EXPECT_TRUE(next->AwaitStaged(absl::Seconds(30)).ok()) << next->status();
  client->reset();
  EXPECT_TRUE(daemon.AwaitSessionEnd(1));

  release_child.Set();
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// A grandchild must not close what its parent opened under the numbers that became free.
TEST(Fork, TheGrandchildKeepsTheChildsFiles) {
  FakeDaemon daemon;
  auto client = Client::Connect({.socket = daemon.socket()});
  ASSERT_TRUE(client.ok()) << client.status();
  const pid_t child = fork();
  if (child == 0) {
    int own[64];
    for (int& descriptor : own) descriptor = dup(STDERR_FILENO);
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      for (const int descriptor : own) {
        if (fcntl(descriptor, F_GETFD) < 0) _exit(1);
      }
      _exit(0);
    }
    int status = 0;
    waitpid(grandchild, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace ckpt
