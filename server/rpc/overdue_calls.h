// Cancels calls, or parts of them, that go on for longer than a limit.
//
// Thread-safe. One thread looks at all of them, every quarter of the limit: so much later a call may
// be cancelled, and what is quick wakes nobody.
#ifndef CKPT_SERVER_RPC_OVERDUE_CALLS_H_
#define CKPT_SERVER_RPC_OVERDUE_CALLS_H_

#include <cstddef>
#include <functional>
#include <limits>
#include <list>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "common/mutex.h"
#include "grpcpp/server_context.h"

namespace ckpt {

class OverdueCalls {
 public:
  // `told`, if any: of each peer whose call was cancelled for its age, on the thread that looks.
  explicit OverdueCalls(absl::Duration limit,
                        std::function<void(const std::string& peer)> told = nullptr);
  ~OverdueCalls();  // after the last End

  struct Open {
    grpc::ServerContextBase* call;
    absl::Time since;
    bool cancelled = false;
  };
  using Token = std::list<Open>::iterator;

  // `call` lives until End. It is cancelled at once where `most` others go on.
  Token Begin(grpc::ServerContextBase* call,
              size_t most = std::numeric_limits<size_t>::max());
  void End(Token token);

 private:
  void Run();

  const absl::Duration limit_;
  const std::function<void(const std::string& peer)> told_;
  Mutex mutex_;
  CondVar stop_;
  std::list<Open> open_ ABSL_GUARDED_BY(mutex_);  // the longest first
  size_t going_on_ ABSL_GUARDED_BY(mutex_) = 0;   // those that are not cancelled
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_OVERDUE_CALLS_H_
