#include "server/rpc/restore_groups.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/ids.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace ckpt {

bool RestoreGroups::AsksAgain(const Round& round, const std::string& asker,
                              uint32_t world_size) const {
  return asker.empty() ? round.answered >= world_size : round.askers.contains(asker);
}

void RestoreGroups::MakeRoom() {
  if (rounds_.size() < groups_max_) return;
  absl::flat_hash_map<absl::string_view, size_t> counts;
  size_t most = 0;
  for (const auto& [key, round] : rounds_) most = std::max(most, ++counts[round.owner]);
  auto oldest = rounds_.end();
  for (auto it = rounds_.begin(); it != rounds_.end(); ++it) {
    if (counts[it->second.owner] < most) continue;
    if (oldest == rounds_.end() || it->second.last_used < oldest->second.last_used) oldest = it;
  }
  rounds_.erase(oldest);
}

absl::StatusOr<CheckpointRecord> RestoreGroups::Answer(
    const v1::RestoreGroup& group, const v1::Selector& selector, const std::string& owner,
    const std::string& asker, absl::FunctionRef<absl::StatusOr<CheckpointRecord>()> resolve,
    absl::FunctionRef<absl::StatusOr<CheckpointRecord>(CheckpointUid)> read) {
  CKPT_RETURN_IF_ERROR(Incarnation::FromBytes(group.incarnation(), "group.incarnation").status());
  if (group.world_size() == 0 || group.world_size() > kWorldSizeMax) {
    return absl::InvalidArgumentError(absl::StrCat("group.world_size must be from 1 to ",
                                                   kWorldSizeMax, ", got ", group.world_size()));
  }
  v1::Selector known = selector;
  known.DiscardUnknownFields();
  const std::string key =
      absl::StrCat(group.incarnation(), group.world_size(), " ", known.SerializeAsString());

  std::string kept;  // the round's answer, where this asker may have it
  {
    MutexLock lock(mutex_);
    const auto it = rounds_.find(key);
    if (it != rounds_.end() && !AsksAgain(it->second, asker, group.world_size())) {
      kept = it->second.uid;
    }
  }
  absl::StatusOr<CheckpointRecord> fresh;
  if (kept.empty()) {
    fresh = resolve();
    CKPT_RETURN_IF_ERROR(fresh.status());
  }

  {
    MutexLock lock(mutex_);
    auto it = rounds_.find(key);
    const bool own = fresh.ok() && fresh->manifest.id().incarnation() == group.incarnation();
    if (it == rounds_.end() && fresh.ok()) {
      MakeRoom();
      it = rounds_.try_emplace(key).first;
      it->second.owner = owner;
      it->second.uid = fresh->manifest.checkpoint_uid();
    } else if (it != rounds_.end() && own && it->second.uid != fresh->manifest.checkpoint_uid() &&
               AsksAgain(it->second, asker, group.world_size())) {
      it->second = Round();
      it->second.owner = owner;
      it->second.uid = fresh->manifest.checkpoint_uid();
    }
    if (it != rounds_.end()) {
      Round& round = it->second;
      round.last_used = absl::Now();
      ++round.answered;
      if (!asker.empty()) round.askers.insert(asker);
      kept = round.uid;
    }
  }
  if (fresh.ok() && fresh->manifest.checkpoint_uid() == kept) return fresh;
  CKPT_ASSIGN_OR_RETURN(const CheckpointUid uid, CheckpointUid::FromBytes(kept, "checkpoint_uid"));
  absl::StatusOr<CheckpointRecord> answer = read(uid);
  if (absl::IsNotFound(answer.status())) {
    return absl::NotFoundError(
        absl::StrCat("the checkpoint that this launch's other ranks restore (", selector.run(),
                     ") was deleted meanwhile; start the launch again"));
  }
  return answer;
}

}  // namespace ckpt
