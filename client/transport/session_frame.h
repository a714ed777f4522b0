// Frames of the session socket (proto/ckpt/v1/session.proto): a 4-byte little-endian length, then
// one message; a descriptor travels with a grant's first byte. Blocking; used by one reader and,
// under a lock, one writer.
#ifndef CKPT_CLIENT_TRANSPORT_SESSION_FRAME_H_
#define CKPT_CLIENT_TRANSPORT_SESSION_FRAME_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/session.pb.h"
#include "client/transport/fork_guard.h"

namespace ckpt {

struct ReceivedFrame {
  v1::DaemonFrame frame;
  Descriptor descriptor;  // of a grant
};

// UNAVAILABLE: the socket was closed; INTERNAL: the daemon broke the protocol; RESOURCE_EXHAUSTED:
// this process can have no more open files.
absl::StatusOr<ReceivedFrame> ReceiveFrame(int socket);
absl::Status SendFrame(int socket, const v1::ClientFrame& frame);

// NOT_FOUND (no such socket), UNAVAILABLE (nobody listens), PERMISSION_DENIED, INVALID_ARGUMENT
// (path too long).
absl::StatusOr<Descriptor> ConnectUnixSocket(const std::string& path);

}  // namespace ckpt

#endif  // CKPT_CLIENT_TRANSPORT_SESSION_FRAME_H_
