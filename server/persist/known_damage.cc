#include "server/persist/known_damage.h"

#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "server/observe/log.h"

namespace ckpt {
namespace {

constexpr size_t kCheckpointsMax = 4096;

}  // namespace

absl::Status KnownDamage::Load() {
  absl::flat_hash_map<CheckpointUid, DamageRecord> known;
  CKPT_RETURN_IF_ERROR(index_->ForEachDamage(
      [&](CheckpointUid uid, const DamageRecord& damage) { known.emplace(uid, damage); }));
  MutexLock lock(mutex_);
  damage_ = std::move(known);
  return absl::OkStatus();
}

void KnownDamage::Found(CheckpointUid uid, const VerificationProgress& read) {
  MutexLock writing(writing_);
  std::optional<DamageRecord> damage;
  if (!read.damage.empty()) {
    damage = {static_cast<uint32_t>(read.damage.size()), read.damage.front(), read.labels_only};
  }
  {
    MutexLock lock(mutex_);
    const bool known = damage_.contains(uid);
    if (!known && (!damage.has_value() || damage_.size() >= kCheckpointsMax)) return;
  }
  const absl::Status kept = index_->PutDamage(uid, damage);
  if (!kept.ok() && !absl::IsNotFound(kept)) {
    observe::Error("what a read found of a checkpoint cannot be kept",
                   {{"uid", uid.hex()}, {"damaged", damage.has_value()}, {"error", kept}});
    if (!damage.has_value()) return;  // the index still says so: the next read tries again
  }
  MutexLock lock(mutex_);
  if (!damage.has_value() || absl::IsNotFound(kept)) {
    damage_.erase(uid);
  } else {
    damage_[uid] = *std::move(damage);
  }
}

void KnownDamage::Forget(CheckpointUid uid) {
  MutexLock writing(writing_);  // after whoever has just found something
  MutexLock lock(mutex_);
  damage_.erase(uid);
}

void KnownDamage::ForgetGone() {
  MutexLock writing(writing_);  // so that nothing is found between the question and the answer
  std::vector<CheckpointUid> known;
  {
    MutexLock lock(mutex_);
    for (const auto& [uid, damage] : damage_) known.push_back(uid);
  }
  for (const CheckpointUid uid : known) {
    if (!absl::IsNotFound(index_->GetCheckpoint(uid).status())) continue;
    MutexLock lock(mutex_);
    damage_.erase(uid);
  }
}

std::optional<DamageRecord> KnownDamage::Find(CheckpointUid uid) const {
  MutexLock lock(mutex_);
  const auto it = damage_.find(uid);
  return it == damage_.end() ? std::nullopt : std::make_optional(it->second);
}

bool KnownDamage::IsDamaged(CheckpointUid uid) const {
  const std::optional<DamageRecord> damage = Find(uid);
  return damage.has_value() && !damage->labels_only;
}

size_t KnownDamage::count() const {
  MutexLock lock(mutex_);
  return damage_.size();
}

}  // namespace ckpt
