// Ends streams whose reader has stopped reading. A Write of gRPC waits for as long as the peer
// gives no room, and a peer may live, answer pings and give none for ever: the call would keep its
// thread, its plan and what that pins. Here a Write that has not returned within `patience` has its
// call cancelled: it returns false, as for a caller who has gone, and the call ends as CANCELLED.
//
// Thread-safe.
#ifndef CKPT_SERVER_RPC_STALLED_READERS_H_
#define CKPT_SERVER_RPC_STALLED_READERS_H_

#include "absl/time/time.h"
#include "grpcpp/support/sync_stream.h"
#include "server/rpc/overdue_calls.h"

namespace ckpt {

// For one message, of 2 MiB or less: even a slow line takes it, if somebody reads at its other end.
inline constexpr absl::Duration kReaderPatience = absl::Minutes(1);

class StalledReaders {
 public:
  // To be destroyed after the last write has returned.
  explicit StalledReaders(absl::Duration patience = kReaderPatience);

  // False: the caller has gone, or reads nothing any more.
  template <typename Message>
  bool Write(grpc::ServerContext& context, grpc::ServerWriter<Message>& writer,
             const Message& message) {
    const OverdueCalls::Token write = writes_.Begin(&context);
    const bool written = writer.Write(message);
    writes_.End(write);
    return written;
  }

 private:
  OverdueCalls writes_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_STALLED_READERS_H_
