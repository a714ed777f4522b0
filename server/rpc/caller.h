// The other end of a call, apart from gRPC.
#ifndef CKPT_SERVER_RPC_CALLER_H_
#define CKPT_SERVER_RPC_CALLER_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace ckpt {

// Polled; true once the caller has gone or the daemon stops.
using Cancelled = absl::FunctionRef<bool()>;

// Sends one message of a stream; false when the caller has gone.
template <typename Message>
using SendTo = absl::FunctionRef<bool(const Message&)>;

// What a call answers that nobody listens to any more.
inline absl::Status CallerHasGone() { return absl::CancelledError("the caller has gone"); }

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_CALLER_H_
