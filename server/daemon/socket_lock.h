// <socket>.lock: held by the daemon that serves the socket. gRPC would let a second daemon steal a
// live socket's path without a word.
#ifndef CKPT_SERVER_DAEMON_SOCKET_LOCK_H_
#define CKPT_SERVER_DAEMON_SOCKET_LOCK_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace ckpt {

// Held until destroyed, or until the process ends. The file stays: removing it would let two
// daemons hold two locks of one name.
class SocketLock {
 public:
  // FAILED_PRECONDITION: another daemon has it; the text names its pid. INVALID_ARGUMENT: something
  // that is no socket lies at `socket`. On success a stale socket has been removed.
  static absl::StatusOr<std::unique_ptr<SocketLock>> Take(const std::string& socket);
  ~SocketLock();
  SocketLock(const SocketLock&) = delete;
  SocketLock& operator=(const SocketLock&) = delete;

 private:
  explicit SocketLock(int descriptor) : descriptor_(descriptor) {}
  const int descriptor_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_DAEMON_SOCKET_LOCK_H_
