#include "client/memory/worker_threads.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace ckpt {

std::thread StartThread(const std::string& name, absl::AnyInvocable<void()> body) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread([body = std::move(body)]() mutable { body(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread.native_handle(), name.substr(0, 15).c_str());
  return thread;
}

WorkerThreads::~WorkerThreads() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
  }
  changed_.NotifyAll();
  for (std::thread& thread : threads) thread.join();
}

void WorkerThreads::Start(absl::AnyInvocable<void()> task) {
  {
    MutexLock lock(mutex_);
    tasks_.push_back(std::move(task));
    if (tasks_.size() > idle_) {
      threads_.push_back(StartThread("ckpt-worker", [this] { Loop(); }));
    }
  }
  changed_.NotifyOne();
}

void WorkerThreads::Loop() {
  for (;;) {
    absl::AnyInvocable<void()> task;
    {
      MutexLock lock(mutex_);
      ++idle_;
      while (tasks_.empty() && !stopping_) changed_.Wait(mutex_);
      --idle_;
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

void WorkerThreads::RunTogether(int count, absl::FunctionRef<void(int)> work) {
  struct Gate {
    Mutex mutex;
    CondVar changed;
    int left ABSL_GUARDED_BY(mutex) = 0;
  } gate;
  {
    MutexLock lock(gate.mutex);
    gate.left = count - 1;
  }
  for (int i = 1; i < count; ++i) {
    Start([&gate, work, i] {
      work(i);
      MutexLock lock(gate.mutex);
      if (--gate.left == 0) gate.changed.NotifyAll();
    });
  }
  work(0);
  MutexLock lock(gate.mutex);
  while (gate.left > 0) gate.changed.Wait(gate.mutex);
}

}  // namespace ckpt
