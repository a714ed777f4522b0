// The descriptor socket's server side: who is connected, what was granted to them, and when they
// are gone. The protocol stands in proto/ckpt/v1/session.proto. Thread-safe.
#ifndef CKPT_SERVER_SESSION_SESSION_H_
#define CKPT_SERVER_SESSION_SESSION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ckpt/v1/session.pb.h"
#include "common/ids.h"
#include "server/session/unix_socket.h"

namespace ckpt {

class Session {
 public:
  virtual ~Session() = default;
  virtual SessionToken token() const = 0;
  virtual PeerCredentials peer() const = 0;
  virtual bool closed() const = 0;
  // Sends a descriptor (duplicated by the kernel; the caller keeps its own). Bounded wait: a client
  // that does not read its socket for 5 s is cut off. UNAVAILABLE once the session is closed.
  virtual absl::Status Grant(FileId id, v1::FileAccess access, uint64_t length, int descriptor) = 0;
  // Asks for the file back; `unmapped` is called once, when the client has answered or the session
  // has ended.
  virtual void Revoke(FileId id, absl::AnyInvocable<void()> unmapped) = 0;
  // Called once, when the session ends (at once if it has). From the session's thread: must not
  // block for long. Returns a number for Forget.
  virtual uint64_t OnClose(absl::AnyInvocable<void()> closed) = 0;
  // Waits for a callback that is running, of whatever number: hold nothing that one might want.
  virtual void ForgetOnClose(uint64_t number) = 0;
  // Does not wait: for callbacks that may come when whom they call has gone.
  virtual void DropOnClose(uint64_t number) = 0;
};

struct SessionServerOptions {
  std::string socket_path;  // <socket>.fd
  uint32_t socket_mode = 0660;
  std::string daemon_version;
  size_t sessions_max = 4096;
  absl::Duration send_patience = absl::Seconds(5);  // with a client that does not read
  // Who may have a session, beyond what the socket's mode says; null: whoever can connect. The
  // text of an error is told to the client.
  std::function<absl::Status(const PeerCredentials&)> authorize;
};

class SessionServer {
 public:
  // Binds (a stale socket is replaced: the caller holds the daemon's lock file) and starts its
  // thread. One thread for all sessions, epoll.
  static absl::StatusOr<std::unique_ptr<SessionServer>> Start(SessionServerOptions options);
  virtual ~SessionServer() = default;  // ends all sessions
  virtual std::shared_ptr<Session> Find(
      absl::string_view token) = 0;  // raw bytes; null: unknown or ended
  virtual size_t count() const = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_SESSION_SESSION_H_
