// Which committed checkpoints were found damaged, by whoever read them last: the scrubber,
// `checkpoint verify`, `latest-valid`. In memory only: a restarted daemon finds it again by
// reading. Thread-safe.
#ifndef CKPT_SERVER_PERSIST_KNOWN_DAMAGE_H_
#define CKPT_SERVER_PERSIST_KNOWN_DAMAGE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "server/persist/verify_on_disk.h"

namespace ckpt {

class KnownDamage {
 public:
  struct Damage {
    uint32_t places = 0;
    std::string first;         // file, key and offset
    bool labels_only = false;  // restores as it was saved
  };

  // What a whole read of it has found: damage, or none, which forgets earlier damage. Of more than
  // 4096 damaged ones the rest is not remembered.
  void Found(CheckpointUid uid, const VerificationProgress& read) {
    MutexLock lock(mutex_);
    if (read.damage.empty()) {
      damage_.erase(uid);
    } else if (damage_.size() < kCheckpointsMax || damage_.contains(uid)) {
      damage_[uid] = {static_cast<uint32_t>(read.damage.size()), read.damage.front(),
                      read.labels_only};
    }
  }
  void Forget(CheckpointUid uid) {  // it was deleted
    MutexLock lock(mutex_);
    damage_.erase(uid);
  }
  // All but these are gone.
  void KeepOnly(const absl::flat_hash_set<CheckpointUid>& there) {
    MutexLock lock(mutex_);
    absl::erase_if(damage_, [&](const auto& entry) { return !there.contains(entry.first); });
  }
  std::optional<Damage> Find(CheckpointUid uid) const {
    MutexLock lock(mutex_);
    const auto it = damage_.find(uid);
    return it == damage_.end() ? std::nullopt : std::make_optional(it->second);
  }
  // Not where its labels alone are.
  bool IsDamaged(CheckpointUid uid) const {
    const std::optional<Damage> damage = Find(uid);
    return damage.has_value() && !damage->labels_only;
  }
  size_t count() const {
    MutexLock lock(mutex_);
    return damage_.size();
  }

 private:
  static constexpr size_t kCheckpointsMax = 4096;
  mutable Mutex mutex_;
  absl::flat_hash_map<CheckpointUid, Damage> damage_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_KNOWN_DAMAGE_H_
