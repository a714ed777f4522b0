#include "client/memory/worker_threads.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <functional>
#include <memory>
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

// A client that is destroyed while a save begins: its task starts another, which reads the answers.
TEST(WorkerThreads, ATaskThatRunsWhileTheyAreDestroyedStartsOthers) {
  constexpr int kTasks = 200;
  std::atomic<int> ran{0};
  std::atomic<bool> destroying{false};
  auto workers = std::make_unique<WorkerThreads>();
  WorkerThreads& pool = *workers;
  std::function<void()> next = [&] {
    while (!destroying) std::this_thread::yield();
    if (ran.fetch_add(1) + 1 == kTasks) return;
    EXPECT_TRUE(pool.Start([&] { next(); }).ok());
  };
  EXPECT_TRUE(pool.Start([&] { next(); }).ok());
  destroying = true;
  workers.reset();
  EXPECT_EQ(ran, kTasks);
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
  for (int round = 0; round < 60; ++round) {
    workers.RunTogether(2, [&](int) {
      MutexLock lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
  }
  // A helper may still be on its way to its queue when the next round starts another: on a busy
  // machine again and again, but not each time.
  EXPECT_LE(seen.size(), 30u);
}

TEST(WorkerThreads, TheDestructorWaitsForTasks) {
  std::atomic<bool> done{false};
  {
    WorkerThreads workers;
    const absl::Status started = workers.Start([&] {
      std::this_thread::yield();
      done.store(true);
    });
    ASSERT_TRUE(started.ok()) << started;
  }
  EXPECT_TRUE(done.load());
}

TEST(WorkerThreads, WhatGetsNoThreadRunsOnTheCaller) {
  WorkerThreads workers;
  pthread_attr_t before;
  ASSERT_EQ(pthread_getattr_default_np(&before), 0);
  pthread_attr_t huge = before;
  ASSERT_EQ(pthread_attr_setstacksize(&huge, size_t{1} << 60), 0);
  ASSERT_EQ(pthread_setattr_default_np(&huge), 0);
  EXPECT_EQ(workers.Start([] { FAIL(); }).code(), absl::StatusCode::kResourceExhausted);
  std::atomic<int> calls[4] = {};
  workers.RunTogether(4, [&](int i) { calls[i].fetch_add(1); });
  for (const std::atomic<int>& count : calls) EXPECT_EQ(count.load(), 1);
  ASSERT_EQ(pthread_setattr_default_np(&before), 0);
  std::atomic<bool> done{false};
  EXPECT_TRUE(workers.Start([&] { done.store(true); }).ok());
  while (!done.load()) std::this_thread::yield();
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
