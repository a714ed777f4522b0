// The messages of one Save call, as the code that serves it sees them. SaveChannel has them from
// gRPC; whoever tests the order of messages makes them up.
#ifndef CKPT_SERVER_RPC_SAVE_CONVERSATION_H_
#define CKPT_SERVER_RPC_SAVE_CONVERSATION_H_

#include "absl/time/time.h"
#include "ckpt/v1/save.pb.h"
#include "grpcpp/support/byte_buffer.h"

namespace ckpt {

class SaveConversation {
 public:
  enum class Event {
    kMessage,
    kBell,        // Ring was called since the last Next
    kHalfClosed,  // the client will send nothing more
    kBroken,      // the client is gone
    kTimeout,
  };
  virtual ~SaveConversation() = default;
  // --- the serving thread
  virtual Event Next(grpc::ByteBuffer* message, absl::Time deadline) = 0;
  virtual void Send(v1::SaveResponse message) = 0;
  // --- any thread
  virtual void Ring() = 0;
  virtual bool broken() const = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_SAVE_CONVERSATION_H_
