// Server reflection is open to everybody and has one thread of the server's for each of its streams,
// whether somebody says something on it or not. So that idle ones do not hold all threads: at most a
// few at a time, further ones are cancelled at once, and each is cancelled after a while.
//
//   auto bounds = std::make_shared<ReflectionBounds>(options);   // outlives the server
//   interceptors.push_back(bounds->MakeInterceptors());          // for the server's builder
//
// Thread-safe.
#ifndef CKPT_SERVER_DAEMON_REFLECTION_BOUNDS_H_
#define CKPT_SERVER_DAEMON_REFLECTION_BOUNDS_H_

#include <memory>

#include "absl/time/time.h"
#include "grpcpp/support/server_interceptor.h"
#include "server/rpc/overdue_calls.h"

namespace ckpt {

struct ReflectionLimits {
  size_t streams_max = 16;
  absl::Duration lifetime = absl::Minutes(1);  // far more than a tool takes to ask its questions
};

class ReflectionBounds {
 public:
  explicit ReflectionBounds(ReflectionLimits limits = {})
      : streams_max_(limits.streams_max), streams_(limits.lifetime) {}

  // Of all calls; it looks at those of reflection alone.
  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeInterceptors();

 private:
  class Factory;
  class Stream;

  const size_t streams_max_;
  OverdueCalls streams_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_DAEMON_REFLECTION_BOUNDS_H_
