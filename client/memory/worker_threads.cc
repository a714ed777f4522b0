#include "client/memory/worker_threads.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace ckpt {

absl::StatusOr<std::thread> StartThread(const std::string& name, absl::AnyInvocable<void()> body) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  std::error_code error;
  try {
    thread = std::thread([body = std::move(body)]() mutable { body(); });
  } catch (const std::system_error& thrown) {
    error = thrown.code();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no thread could be started (ulimit -u, the cgroup's pids.max, memory): ",
                     error.message()));
  }
  pthread_setname_np(thread.native_handle(), name.substr(0, 15).c_str());
  return thread;
}

WorkerThreads::~WorkerThreads() {
  for (;;) {  // a task that still runs may start others, on threads of their own
    std::vector<std::thread> threads;
    {
      MutexLock lock(mutex_);
      stopping_ = true;
      threads.swap(threads_);
    }
    if (threads.empty()) return;
    changed_.NotifyAll();
    for (std::thread& thread : threads) thread.join();
  }
}

absl::Status WorkerThreads::Start(absl::AnyInvocable<void()> task) {
  {
    MutexLock lock(mutex_);
    if (tasks_.size() >= idle_) {
      CKPT_ASSIGN_OR_RETURN(std::thread thread, StartThread("ckpt-worker", [this] { Loop(); }));
      threads_.push_back(std::move(thread));
    }
    tasks_.push_back(std::move(task));
  }
  changed_.NotifyOne();
  return absl::OkStatus();
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
  const auto finish = [&gate](int calls) {
    MutexLock lock(gate.mutex);
    gate.left -= calls;
    if (gate.left == 0) gate.changed.NotifyAll();
  };
  int started = 1;
  while (started < count) {
    const absl::Status status = Start([&finish, work, i = started] {
      work(i);
      finish(1);
    });
    if (!status.ok()) break;
    ++started;
  }
  work(0);
  for (int i = started; i < count; ++i) work(i);
  finish(count - started);
  MutexLock lock(gate.mutex);
  while (gate.left > 0) gate.changed.Wait(gate.mutex);
}

}  // namespace ckpt
