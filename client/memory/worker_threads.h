// Threads that are kept from one save or restore to the next, so that the steady state starts none.
// They block all signals: the process around us keeps its own signal handling.
#ifndef CKPT_CLIENT_MEMORY_WORKER_THREADS_H_
#define CKPT_CLIENT_MEMORY_WORKER_THREADS_H_

#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"

namespace ckpt {

// A thread with all signals blocked and a name of at most 15 bytes. RESOURCE_EXHAUSTED: the system
// gives this process no more threads.
absl::StatusOr<std::thread> StartThread(const std::string& name, absl::AnyInvocable<void()> body);

// Thread-safe. Every task gets a thread at once: tasks may wait for each other. So the number of
// threads is the greatest number of tasks that ever ran together.
class WorkerThreads {
 public:
  WorkerThreads() = default;
  ~WorkerThreads();  // waits for all tasks

  // RESOURCE_EXHAUSTED as StartThread: the task will not run.
  [[nodiscard]] absl::Status Start(absl::AnyInvocable<void()> task);
  // Calls work(i) for i in [0, count), each on its own thread (this one takes 0); returns when all
  // have returned. What gets no thread runs on this one after work(0): calls that wait for each
  // other would hang there.
  void RunTogether(int count, absl::FunctionRef<void(int)> work);

 private:
  void Loop();

  Mutex mutex_;
  CondVar changed_;
  std::deque<absl::AnyInvocable<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
  size_t idle_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_MEMORY_WORKER_THREADS_H_
