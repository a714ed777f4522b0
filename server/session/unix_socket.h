// Unix sockets as both of the daemon's listeners need them: binding, and who is at the other end.
#ifndef CKPT_SERVER_SESSION_UNIX_SOCKET_H_
#define CKPT_SERVER_SESSION_UNIX_SOCKET_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ckpt {

// As the kernel knew the process when it connected.
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary
};

// A descriptor that listens, non-blocking. Its mode is right before the first client can connect. A
// stale socket is replaced: the caller holds the daemon's lock file. INVALID_ARGUMENT: the path is
// too long, or something lies there that is no socket.
absl::StatusOr<int> ListenOnUnixSocket(const std::string& path, uint32_t mode);

// PERMISSION_DENIED: the kernel does not say.
absl::StatusOr<PeerCredentials> PeerOf(int connection);

// What accept fails with when descriptors or memory are short: look again a little later.
bool AcceptMayWorkLater(int error);

}  // namespace ckpt

#endif  // CKPT_SERVER_SESSION_UNIX_SOCKET_H_
