// Which processes of this node may connect to the unix sockets, beyond what the sockets' mode says:
// --allow-uid and --allow-gid, checked against what the kernel says of the peer. Both lists empty:
// whoever the mode lets in. Root and the daemon's own user always may: nothing here keeps them out.
// Thread-safe.
#ifndef CKPT_SERVER_ACCESS_ALLOWED_PEERS_H_
#define CKPT_SERVER_ACCESS_ALLOWED_PEERS_H_

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/mutex.h"
#include "server/session/unix_socket.h"

namespace ckpt {

class AllowedPeers {
 public:
  AllowedPeers(std::vector<uid_t> uids, std::vector<gid_t> gids);

  // PERMISSION_DENIED, for the client to read; logged, at most once a second. A group counts whether
  // it is the peer's own or a supplementary one.
  absl::Status Admit(const PeerCredentials& peer);

 private:
  bool Allows(const PeerCredentials& peer) const;

  const std::vector<uid_t> uids_;
  const std::vector<gid_t> gids_;
  Mutex mutex_;
  absl::Time logged_at_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  uint64_t not_logged_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_ACCESS_ALLOWED_PEERS_H_
