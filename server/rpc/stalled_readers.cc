#include "server/rpc/stalled_readers.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "server/observe/log.h"

namespace ckpt {

StalledReaders::StalledReaders(absl::Duration patience)
    : patience_(patience), thread_([this] { Run(); }) {}

StalledReaders::~StalledReaders() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    stop_.NotifyAll();
  }
  thread_.join();
}

std::list<StalledReaders::Waiting>::iterator StalledReaders::Begin(grpc::ServerContext& context) {
  std::list<Waiting> one{{&context, absl::Now()}};  // allocated outside of the lock
  const auto waiting = one.begin();
  MutexLock lock(mutex_);
  waiting_.splice(waiting_.end(), one);
  return waiting;
}

void StalledReaders::End(std::list<Waiting>::iterator waiting) {
  std::list<Waiting> one;
  MutexLock lock(mutex_);
  one.splice(one.end(), waiting_, waiting);
}

void StalledReaders::Run() {
  while (true) {
    std::vector<std::string> peers;
    {
      MutexLock lock(mutex_);
      const absl::Time next = absl::Now() + patience_ / 4;
      while (!stopping_ && stop_.WaitUntil(mutex_, next)) {
      }
      if (stopping_) return;
      const absl::Time too_long = absl::Now() - patience_;
      for (Waiting& waiting : waiting_) {
        if (waiting.since > too_long) break;
        if (std::exchange(waiting.cancelled, true)) continue;
        peers.push_back(waiting.call->peer());
        waiting.call->TryCancel();  // its Write has not returned, so the call is there
      }
    }
    for (const std::string& peer : peers) {
      observe::Warning("a reader takes nothing: its call was ended",
                       {{"peer", peer}, {"patience", patience_}});
    }
  }
}

}  // namespace ckpt
