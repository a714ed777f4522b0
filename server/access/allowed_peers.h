// Which processes of this node may connect to the unix sockets, beyond what the sockets' mode says:
// --allow-uid and --allow-gid, checked against what the kernel says of the peer. Both lists empty:
// whoever the mode lets in. Root and the daemon's own user always may: nothing here keeps them out.
// Immutable; thread-safe.
#ifndef CKPT_SERVER_ACCESS_ALLOWED_PEERS_H_
#define CKPT_SERVER_ACCESS_ALLOWED_PEERS_H_

#include <sys/types.h>

#include <vector>

#include "absl/status/status.h"
#include "server/session/unix_socket.h"

namespace ckpt {

class AllowedPeers {
 public:
  AllowedPeers(std::vector<uid_t> uids, std::vector<gid_t> gids);

  // PERMISSION_DENIED, for the client to read; logged. A group counts whether it is the peer's own
  // or a supplementary one.
  absl::Status Admit(const PeerCredentials& peer) const;

 private:
  bool Allows(const PeerCredentials& peer) const;

  const std::vector<uid_t> uids_;
  const std::vector<gid_t> gids_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_ACCESS_ALLOWED_PEERS_H_
