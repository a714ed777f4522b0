#include "client/memory/worker_threads.h"

#include <signal.h>

#include <atomic>
#include <set>
#include <thread>

#include "gtest/gtest.h"

namespace ckpt {
namespace {

TEST(WorkerThreads, TasksThatWaitForEachOtherAllRun) {
  WorkerThreads workers;
  std::atomic<int> arrived{0};
  workers.RunTogether(8, [&](int) {
    arrived.fetch_add(1);
    while (arrived.load() < 8) std::this_thread::yield();  // hangs unless all eight run at once
  });
  EXPECT_EQ(arrived.load(), 8);
}

TEST(WorkerThreads, EachIndexIsCalledOnceAndThisThreadTakesTheFirst) {
  WorkerThreads workers;
  std::atomic<int> calls[4] = {};
  std::thread::id first;
  workers.RunTogether(4, [&](int i) {
    calls[i].fetch_add(1);
    if (i == 0) first = std::this_thread::get_id();
  });
  for (const std::atomic<int>& count : calls) EXPECT_EQ(count.load(), 1);
  EXPECT_EQ(first, std::this_thread::get_id());
}

TEST(WorkerThreads, ThreadsAreKeptForTheNextTime) {
  WorkerThreads workers;
  Mutex mutex;
  std::set<std::thread::id> seen;
  for (int round = 0; round < 20; ++round) {
    workers.RunTogether(2, [&](int) {
      MutexLock lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
  }
  // A helper may still be on its way to its queue when the next round starts another.
  EXPECT_LE(seen.size(), 4u);
}

TEST(WorkerThreads, TheDestructorWaitsForTasks) {
  std::atomic<bool> done{false};
  {
    WorkerThreads workers;
    workers.Start([&] {
      std::this_thread::yield();
      done.store(true);
    });
  }
  EXPECT_TRUE(done.load());
}

TEST(WorkerThreads, SignalsAreLeftToTheProcess) {
  WorkerThreads workers;
  sigset_t blocked;
  workers.RunTogether(2, [&](int i) {
    if (i == 1) pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  });
  EXPECT_TRUE(sigismember(&blocked, SIGINT));
  EXPECT_TRUE(sigismember(&blocked, SIGTERM));
}

}  // namespace
}  // namespace ckpt
