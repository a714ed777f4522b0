// Server reflection is open to everybody and has one thread of the server's for each of its streams,
// whether somebody says something on it or not. So that idle ones do not hold all threads: at most a
// few at a time, further ones are cancelled at once, and each is cancelled after a while.
//
//   auto bounds = std::make_shared<ReflectionBounds>(options);   // outlives the server
//   interceptors.push_back(bounds->MakeInterceptors());          // for the server's builder
//
// Thread-safe. One thread looks at what has been open for too long.
#ifndef CKPT_SERVER_DAEMON_REFLECTION_BOUNDS_H_
#define CKPT_SERVER_DAEMON_REFLECTION_BOUNDS_H_

#include <list>
#include <memory>
#include <thread>

#include "absl/time/time.h"
#include "common/mutex.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_interceptor.h"

namespace ckpt {

struct ReflectionLimits {
  size_t streams_max = 16;
  absl::Duration lifetime = absl::Minutes(1);  // far more than a tool takes to ask its questions
};

class ReflectionBounds {
 public:
  explicit ReflectionBounds(ReflectionLimits limits = {});
  ~ReflectionBounds();

  // Of all calls; it looks at those of reflection alone.
  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeInterceptors();

 private:
  class Factory;
  class Stream;
  struct Open {
    grpc::ServerContextBase* call;
    absl::Time since;
    bool cancelled = false;
  };
  using Streams = std::list<Open>;

  Streams::iterator Begin(grpc::ServerContextBase* call);
  void End(Streams::iterator stream);
  void Run();

  const ReflectionLimits limits_;
  Mutex mutex_;
  CondVar stop_;
  Streams streams_ ABSL_GUARDED_BY(mutex_);  // the longest first
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_DAEMON_REFLECTION_BOUNDS_H_
