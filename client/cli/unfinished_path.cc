#include "client/cli/unfinished_path.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace ckpt::cli {

// Never freed: the handler may be looking at it.
struct UnfinishedPath::Entry {
  std::string path;
  Entry* next = nullptr;
  std::atomic<bool> unfinished{true};
};

struct UnfinishedPath::Registry {
  static inline std::atomic<Entry*> newest{nullptr};

  // Async-signal-safe calls only.
  static void RemoveAllAndDie(int signal) {
    static_assert(std::atomic<Entry*>::is_always_lock_free &&
                  std::atomic<bool>::is_always_lock_free);
    for (const Entry* entry = newest.load(); entry != nullptr; entry = entry->next) {
      if (!entry->unfinished.load()) continue;
      if (unlink(entry->path.c_str()) != 0) rmdir(entry->path.c_str());
    }
    raise(signal);  // its default is back, and acts when this returns
  }

  static bool Install() {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
      struct sigaction action {};
      if (sigaction(signal, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) continue;
      action = {};
      action.sa_handler = RemoveAllAndDie;
      action.sa_flags = SA_RESETHAND;
      sigaction(signal, &action, nullptr);
    }
    return true;
  }

  static Entry* Add(const std::string& path) {
    [[maybe_unused]] static const bool installed = Install();
    auto* entry = new Entry{path};
    entry->next = newest.load();
    while (!newest.compare_exchange_weak(entry->next, entry)) {
    }
    return entry;
  }
};

UnfinishedPath::UnfinishedPath(const std::string& path) : entry_(Registry::Add(path)) {}

void UnfinishedPath::Forget() {
  if (entry_ != nullptr) entry_->unfinished.store(false);
}

}  // namespace ckpt::cli
