// One session with the daemon of this node over its descriptor socket
// (proto/ckpt/v1/session.proto): opened by Hello and Welcome; its thread takes in grants and
// revocations; its end tells the daemon that this client is gone, and this client that the daemon
// is. A broken session stays broken: make a new one.
#ifndef CKPT_CLIENT_TRANSPORT_SESSION_H_
#define CKPT_CLIENT_TRANSPORT_SESSION_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/fork_guard.h"
#include "client/transport/granted_files.h"

namespace ckpt {

// Thread-safe.
class Session {
 public:
  // `socket_path` is the daemon's main socket; the descriptor socket lies beside it. Errors as
  // ConnectUnixSocket; PERMISSION_DENIED with the daemon's reason when it refuses.
  static absl::StatusOr<std::shared_ptr<Session>> Connect(const std::string& socket_path,
                                                          const std::string& client_name);
  ~Session();  // closes the socket
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const std::string& token() const { return token_; }  // raw bytes, for RPCs
  const std::string& daemon_version() const { return daemon_version_; }
  const std::string& daemon_instance() const { return daemon_instance_; }
  // Asks the kernel: true as soon as the daemon has closed its end, or died. Cost: a system call.
  bool broken() const;
  GrantedFiles& files() { return *files_; }

 private:
  Session() = default;
  absl::Status Greet(const std::string& client_name);
  void Receive();
  absl::Status ReceiveOne();

  Descriptor socket_;
  std::string token_;
  std::string daemon_version_;
  std::string daemon_instance_;
  std::shared_ptr<GrantedFiles> files_;
  std::atomic<bool> broken_{false};
  std::thread thread_;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_TRANSPORT_SESSION_H_
