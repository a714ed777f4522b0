#include "server/daemon/reflection_bounds.h"

#include <optional>

#include "absl/strings/match.h"

namespace ckpt {

// Of one stream, for as long as it lasts: made before its thread looks at it, destroyed behind it.
class ReflectionBounds::Stream : public grpc::experimental::Interceptor {
 public:
  Stream(ReflectionBounds* bounds, grpc::ServerContextBase* call) : bounds_(bounds), call_(call) {}
  ~Stream() override {
    if (open_.has_value()) bounds_->streams_.End(*open_);
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    // Not earlier: from here on the call can be cancelled. Its first Read says then that there is
    // nothing more.
    if (methods->QueryInterceptionHookPoint(
            grpc::experimental::InterceptionHookPoints::POST_RECV_INITIAL_METADATA) &&
        !open_.has_value()) {
      open_ = bounds_->streams_.Begin(call_, bounds_->streams_max_);
    }
    methods->Proceed();
  }

 private:
  ReflectionBounds* const bounds_;
  grpc::ServerContextBase* const call_;
  std::optional<OverdueCalls::Token> open_;
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

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
ReflectionBounds::MakeInterceptors() {
  return std::make_unique<Factory>(this);
}

}  // namespace ckpt
