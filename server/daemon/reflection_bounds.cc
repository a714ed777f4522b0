#include "server/daemon/reflection_bounds.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"

namespace ckpt {

// Of one stream, for as long as it lasts: made before its thread looks at it, destroyed behind it.
class ReflectionBounds::Stream : public grpc::experimental::Interceptor {
 public:
  Stream(ReflectionBounds* bounds, grpc::ServerContextBase* call) : bounds_(bounds), call_(call) {}
  ~Stream() override {
    if (open_.has_value()) bounds_->End(*open_);
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    // Not earlier: from here on the call can be cancelled.
    if (methods->QueryInterceptionHookPoint(
            grpc::experimental::InterceptionHookPoints::POST_RECV_INITIAL_METADATA) &&
        !open_.has_value()) {
      open_ = bounds_->Begin(call_);
    }
    methods->Proceed();
  }

 private:
  ReflectionBounds* const bounds_;
  grpc::ServerContextBase* const call_;
  std::optional<Streams::iterator> open_;
};

class ReflectionBounds::Factory : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(ReflectionBounds* bounds) : bounds_(bounds) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    if (!absl::StartsWith(info->method(), "/grpc.reflection.")) return nullptr;
    return new Stream(bounds_, info->server_context());
  }

 private:
  ReflectionBounds* const bounds_;
};

ReflectionBounds::ReflectionBounds(ReflectionLimits limits)
    : limits_(limits), thread_([this] { Run(); }) {}

ReflectionBounds::~ReflectionBounds() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    stop_.NotifyAll();
  }
  thread_.join();
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
ReflectionBounds::MakeInterceptors() {
  return std::make_unique<Factory>(this);
}

ReflectionBounds::Streams::iterator ReflectionBounds::Begin(grpc::ServerContextBase* call) {
  MutexLock lock(mutex_);
  const Streams::iterator stream = streams_.insert(streams_.end(), {call, absl::Now()});
  const auto open = std::count_if(streams_.begin(), streams_.end(),
                                  [](const Open& one) { return !one.cancelled; });
  if (static_cast<size_t>(open) > limits_.streams_max) {
    stream->cancelled = true;
    call->TryCancel();  // its first Read says that there is nothing more
  }
  return stream;
}

void ReflectionBounds::End(Streams::iterator stream) {
  MutexLock lock(mutex_);
  streams_.erase(stream);
}

void ReflectionBounds::Run() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    stop_.WaitUntil(mutex_, absl::Now() + limits_.lifetime / 4);
    const absl::Time too_long = absl::Now() - limits_.lifetime;
    for (Open& stream : streams_) {
      if (stream.since > too_long) break;
      // Its End has not been called, so the call is there.
      if (!std::exchange(stream.cancelled, true)) stream.call->TryCancel();
    }
  }
}

}  // namespace ckpt
