// What whole reads of committed checkpoints have found damaged.
#include "common/status_macros.h"
#include "server/index/rocks_index.h"

namespace ckpt {

absl::Status RocksIndex::PutDamage(CheckpointUid uid, const std::optional<DamageRecord>& damage) {
  MutexLock lock(write_mutex_);  // so that it is not deleted in between
  CKPT_RETURN_IF_ERROR(Get(kAttempts, uid.bytes()).status());
  rocksdb::WriteBatch batch;
  const std::string key = index_keys::Damage(uid);
  if (damage.has_value()) {
    batch.Put(families_[kDefault], key, index_records::Encode(*damage));
  } else {
    batch.Delete(families_[kDefault], key);
  }
  return Write(batch);
}

absl::Status RocksIndex::ForEachDamage(
    absl::FunctionRef<void(CheckpointUid, const DamageRecord&)> visit) {
  return ForEachRow(
      kDefault, index_keys::kDamagePrefix, false,
      [&](absl::string_view key, absl::string_view row) -> absl::StatusOr<bool> {
        key.remove_prefix(index_keys::kDamagePrefix.size());
        CKPT_ASSIGN_OR_RETURN(const DamageRecord damage, index_records::DecodeDamage(row));
        visit(index_keys::IdOf<CheckpointUid>(key), damage);
        return true;
      });
}

}  // namespace ckpt
