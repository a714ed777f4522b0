#include "client/transport/fork_guard.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <set>

#include "common/mutex.h"

namespace ckpt {
namespace {

std::atomic<uint64_t> generation{0};

// The descriptors to close in a child. Never destroyed: children outlive static destructors.
struct Registry {
  Mutex mutex;
  std::set<int> descriptors ABSL_GUARDED_BY(mutex);
};

Registry& TheRegistry() {
  static auto* registry = new Registry;
  return *registry;
}

// The lock is held across the fork, so that the child finds the set whole.
void BeforeFork() ABSL_NO_THREAD_SAFETY_ANALYSIS { TheRegistry().mutex.lock(); }
void InParent() ABSL_NO_THREAD_SAFETY_ANALYSIS { TheRegistry().mutex.unlock(); }
void InChild() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  for (const int descriptor : TheRegistry().descriptors) close(descriptor);
  TheRegistry().descriptors.clear();  // the child's own files get these numbers
  generation.fetch_add(1, std::memory_order_relaxed);
  TheRegistry().mutex.unlock();
}

void InstallOnce() {
  static const int installed = [] {
    TheRegistry();
    return pthread_atfork(BeforeFork, InParent, InChild);
  }();
  static_cast<void>(installed);
}

absl::Status ForkedError() {
  return absl::FailedPreconditionError(
      "this process was forked from one that uses ckptd's client; the client works only in the "
      "process that connected: save and restore there, or exec before connecting");
}

}  // namespace

ForkMark::ForkMark() : generation_(generation.load(std::memory_order_relaxed)) {}

bool ForkMark::forked() const { return generation_ != generation.load(std::memory_order_relaxed); }

absl::Status ForkMark::Check() const { return forked() ? ForkedError() : absl::OkStatus(); }

absl::Status ForkMark::CheckProcess() {
  InstallOnce();
  return generation.load(std::memory_order_relaxed) > 0 ? ForkedError() : absl::OkStatus();
}

Descriptor::Descriptor(int number) : number_(number) {
  InstallOnce();
  if (number_ < 0) return;
  MutexLock lock(TheRegistry().mutex);
  TheRegistry().descriptors.insert(number_);
}

void Descriptor::Reset() {
  if (number_ < 0 || mark_.forked()) return;
  {
    // Closed under the lock: a number that was reused in between must not be forgotten.
    MutexLock lock(TheRegistry().mutex);
    TheRegistry().descriptors.erase(number_);
    close(number_);
  }
  number_ = -1;
}

}  // namespace ckpt
