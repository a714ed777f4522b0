#include "server/rpc/overdue_calls.h"

#include <utility>
#include <vector>

#include "absl/time/clock.h"

namespace ckpt {

OverdueCalls::OverdueCalls(absl::Duration limit, std::function<void(const std::string& peer)> told)
    : limit_(limit), told_(std::move(told)), thread_([this] { Run(); }) {}

OverdueCalls::~OverdueCalls() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    stop_.NotifyAll();
  }
  thread_.join();
}

OverdueCalls::Token OverdueCalls::Begin(grpc::ServerContextBase* call, size_t most) {
  std::list<Open> one{{call, absl::Now()}};  // allocated outside of the lock
  const Token token = one.begin();
  MutexLock lock(mutex_);
  token->cancelled = going_on_ >= most;
  open_.splice(open_.end(), one);
  if (token->cancelled) {
    call->TryCancel();
  } else {
    ++going_on_;
  }
  return token;
}

void OverdueCalls::End(Token token) {
  std::list<Open> one;
  MutexLock lock(mutex_);
  if (!token->cancelled) --going_on_;
  one.splice(one.end(), open_, token);
}

void OverdueCalls::Run() {
  while (true) {
    std::vector<std::string> peers;
    {
      MutexLock lock(mutex_);
      const absl::Time next = absl::Now() + limit_ / 4;
      while (!stopping_ && stop_.WaitUntil(mutex_, next)) {
      }
      if (stopping_) return;
      const absl::Time too_long = absl::Now() - limit_;
      for (Open& one : open_) {
        if (one.since > too_long) break;
        if (std::exchange(one.cancelled, true)) continue;
        --going_on_;
        if (told_) peers.push_back(one.call->peer());
        one.call->TryCancel();  // its End has not been called, so the call is there
      }
    }
    for (const std::string& peer : peers) told_(peer);
  }
}

}  // namespace ckpt
