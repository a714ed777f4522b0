// Ends streams whose reader has stopped reading. A Write of gRPC waits for as long as the peer
// gives no room, and a peer may live, answer pings and give none for ever: the call would keep its
// thread, its plan and what that pins. Here a Write that has not returned within `patience` has its
// call cancelled: it returns false, as for a caller who has gone, and the call ends as CANCELLED.
//
// Thread-safe. One thread looks at all writes, every quarter of the patience: so much later a call
// may be cancelled, and a write that is quick wakes nobody.
#ifndef CKPT_SERVER_RPC_STALLED_READERS_H_
#define CKPT_SERVER_RPC_STALLED_READERS_H_

#include <list>
#include <thread>

#include "absl/time/time.h"
#include "common/mutex.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/sync_stream.h"

namespace ckpt {

// For one message, of 2 MiB or less: even a slow line takes it, if somebody reads at its other end.
inline constexpr absl::Duration kReaderPatience = absl::Minutes(1);

class StalledReaders {
 public:
  explicit StalledReaders(absl::Duration patience = kReaderPatience);
  ~StalledReaders();  // after the last write has returned

  // False: the caller has gone, or reads nothing any more.
  template <typename Message>
  bool Write(grpc::ServerContext& context, grpc::ServerWriter<Message>& writer,
             const Message& message) {
    const std::list<Waiting>::iterator waiting = Begin(context);
    const bool written = writer.Write(message);
    End(waiting);
    return written;
  }

 private:
  struct Waiting {
    grpc::ServerContext* call;
    absl::Time since;
    bool cancelled = false;
  };
  std::list<Waiting>::iterator Begin(grpc::ServerContext& context);
  void End(std::list<Waiting>::iterator waiting);
  void Run();

  const absl::Duration patience_;
  Mutex mutex_;
  CondVar stop_;
  std::list<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);  // the longest first
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_STALLED_READERS_H_
