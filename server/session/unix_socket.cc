#include "server/session/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace ckpt {
namespace {

absl::Status Errno(absl::string_view what, absl::string_view path) {
  return absl::InternalError(absl::StrCat(what, " ", path, ": ", std::strerror(errno)));
}

absl::Status BindAndListen(int listener, const std::string& path, const sockaddr_un& address,
                           uint32_t mode) {
  struct stat there {};
  if (lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat(path, " exists and is not a socket"));
    }
    unlink(path.c_str());
  }
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return Errno("cannot bind", path);
  }
  // Nobody can connect before listen.
  absl::Status status;
  if (chmod(path.c_str(), mode) != 0) status = Errno("cannot set the mode of", path);
  if (status.ok() && listen(listener, SOMAXCONN) != 0) status = Errno("cannot listen on", path);
  if (!status.ok()) unlink(path.c_str());
  return status;
}

}  // namespace

absl::StatusOr<int> ListenOnUnixSocket(const std::string& path, uint32_t mode) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a socket path must have 1 to ", sizeof(address.sun_path) - 1,
                     " bytes; this one has ", path.size(), ": ", path));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener < 0) return Errno("cannot make a socket for", path);
  if (absl::Status status = BindAndListen(listener, path, address, mode); !status.ok()) {
    close(listener);
    return status;
  }
  return listener;
}

absl::StatusOr<PeerCredentials> PeerOf(int connection) {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return absl::PermissionDeniedError("the peer's credentials cannot be read");
  }
  PeerCredentials peer{credentials.pid, credentials.uid, credentials.gid, {}};
#ifdef SO_PEERGROUPS
  length = 0;
  // Asked without room for them it says how much they need. None, or a kernel before 4.13: no
  // groups.
  getsockopt(connection, SOL_SOCKET, SO_PEERGROUPS, nullptr, &length);
  peer.groups.resize(length / sizeof(gid_t));
  if (length > 0 && getsockopt(connection, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(),
                               &length) != 0) {
    peer.groups.clear();
  }
#endif
  return peer;
}

bool AcceptMayWorkLater(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace ckpt
