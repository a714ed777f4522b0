// The gRPC unix socket's own accept loop: gRPC would let in whoever can connect, this looks first
// at who it is. What is admitted is handed on as a connection that nothing has been read from; the
// rest is closed.
#ifndef CKPT_SERVER_DAEMON_UNIX_LISTENER_H_
#define CKPT_SERVER_DAEMON_UNIX_LISTENER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/session/unix_socket.h"

namespace ckpt {

struct UnixListenerOptions {
  std::string path;  // the caller holds the daemon's lock file
  uint32_t mode = 0660;
  std::function<absl::Status(const PeerCredentials&)> authorize;  // null: whoever can connect
  // Takes the descriptor, which is non-blocking and close-on-exec. From the listener's thread.
  std::function<void(int connection)> connected;
};

// One thread. Goes on when the process is out of descriptors: those who wait are served later.
class UnixListener {
 public:
  static absl::StatusOr<std::unique_ptr<UnixListener>> Start(UnixListenerOptions options);
  ~UnixListener();  // the socket is gone, and `connected` is not called any more
  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;

 private:
  UnixListener(UnixListenerOptions options, int listener, int wake);
  void Run();
  // False: out of descriptors.
  bool AcceptAll();

  const UnixListenerOptions options_;
  const int listener_;
  const int wake_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_DAEMON_UNIX_LISTENER_H_
