#include "server/access/allowed_peers.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/observe/log.h"

namespace ckpt {
namespace {

template <typename Id>
bool Contains(const std::vector<Id>& ids, Id id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

AllowedPeers::AllowedPeers(std::vector<uid_t> uids, std::vector<gid_t> gids)
    : uids_(std::move(uids)), gids_(std::move(gids)) {}

bool AllowedPeers::Allows(const PeerCredentials& peer) const {
  if (uids_.empty() && gids_.empty()) return true;
  if (peer.uid == 0 || peer.uid == ::geteuid()) return true;
  if (Contains(uids_, peer.uid) || Contains(gids_, peer.gid)) return true;
  return std::any_of(peer.groups.begin(), peer.groups.end(),
                     [this](gid_t group) { return Contains(gids_, group); });
}

absl::Status AllowedPeers::Admit(const PeerCredentials& peer) const {
  if (Allows(peer)) return absl::OkStatus();
  observe::Warning("a process was refused",
                   {{"pid", peer.pid}, {"uid", peer.uid}, {"gid", peer.gid}});
  return absl::PermissionDeniedError(
      absl::StrCat("this daemon does not serve uid ", peer.uid, " with gid ", peer.gid,
                   ": its --allow-uid and --allow-gid say whom it serves"));
}

}  // namespace ckpt
