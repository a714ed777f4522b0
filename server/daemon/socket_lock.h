// <socket>.lock: held by the daemon that serves the socket. gRPC would let a second daemon steal a
// live socket's path without a word.
#ifndef CKPT_SERVER_DAEMON_SOCKET_LOCK_H_
#define CKPT_SERVER_DAEMON_SOCKET_LOCK_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace ckpt {

// Held until destroyed, or until the process ends. The file stays then: a daemon that is killed
// could not remove it either.
class SocketLock {
 public:
  // FAILED_PRECONDITION: another daemon has it; the text names its pid. INVALID_ARGUMENT: something
  // that is no socket lies at `socket`. On success a stale socket has been removed.
  static absl::StatusOr<std::unique_ptr<SocketLock>> Take(const std::string& socket);
  ~SocketLock();
  // For a start that is refused: the file goes if no daemon had it before.
  void Discard();
  SocketLock(const SocketLock&) = delete;
  SocketLock& operator=(const SocketLock&) = delete;

 private:
  SocketLock(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  const std::string path_;
  const int descriptor_;
  bool had_holder_ = true;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_DAEMON_SOCKET_LOCK_H_
