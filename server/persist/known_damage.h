// Which committed checkpoints were found damaged, by whoever read them last: the scrubber,
// `checkpoint verify`, `latest-valid`. Kept in the index, over restarts; here for those who ask of
// each checkpoint they meet. Thread-safe.
#ifndef CKPT_SERVER_PERSIST_KNOWN_DAMAGE_H_
#define CKPT_SERVER_PERSIST_KNOWN_DAMAGE_H_

#include <optional>

#include "absl/container/flat_hash_map.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "server/index/index.h"
#include "server/persist/verify_on_disk.h"

namespace ckpt {

class KnownDamage {
 public:
  // `index` must outlive it.
  explicit KnownDamage(Index* index) : index_(index) {}
  // Takes in what the index knows; before anything is decided by it. DATA_LOSS with the way out.
  absl::Status Load();

  // What a whole read of it has found: damage, or none, which forgets earlier damage. Nothing is
  // remembered of a checkpoint that is gone by now, nor, once 4096 are damaged, of further ones.
  // Where the index cannot take it, that is logged: damage is known until a restart, and what is
  // whole again stays marked until it is read again.
  void Found(CheckpointUid uid, const VerificationProgress& read);
  void Forget(CheckpointUid uid);  // it was deleted, and with it what the index knew
  void ForgetGone();               // those that the index has no longer

  std::optional<DamageRecord> Find(CheckpointUid uid) const;
  // Not where its labels alone are.
  bool IsDamaged(CheckpointUid uid) const;
  size_t count() const;

 private:
  Index* const index_;
  Mutex writing_;  // taken before mutex_, held over a write of the index: the last one counts
  mutable Mutex mutex_;
  absl::flat_hash_map<CheckpointUid, DamageRecord> damage_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_KNOWN_DAMAGE_H_
