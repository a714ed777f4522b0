#include "server/persist/prepared_commits.h"

#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "server/persist/commit.h"

namespace ckpt {

void PreparedCommits::Written(const PartToPersist& part, const v1::PartReference& reference) {
  index_->PrepareLayout(*part.layout).IgnoreError();
  std::vector<v1::PartReference> parts;
  {
    MutexLock lock(mutex_);
    Preparation& preparation = preparations_[part.uid];
    preparation.parts[part.rank] = reference;
    if (preparation.parts.size() != part.share.size() || preparation.manifest.has_value()) return;
    for (const auto& [rank, written] : preparation.parts) parts.push_back(written);
  }
  v1::CheckpointManifest manifest =
      MakeCheckpointManifest(*index_, part.id, part.uid, part.world_size, part.share, parts);
  const absl::Status prepared = folder_->PrepareCheckpointManifest(manifest);
  MutexLock lock(mutex_);
  const auto found = preparations_.find(part.uid);
  if (found == preparations_.end()) {  // forgotten meanwhile
    folder_->DropPreparedManifest(part.uid);
  } else if (prepared.ok()) {
    found->second.manifest = std::move(manifest);
  } else if (IsSyncFailed(prepared)) {
    found->second.sync_failed = prepared;
  }
}

absl::StatusOr<std::optional<v1::CheckpointManifest>> PreparedCommits::Take(CheckpointUid uid) {
  MutexLock lock(mutex_);
  auto node = preparations_.extract(uid);
  if (node.empty()) return std::nullopt;
  CKPT_RETURN_IF_ERROR(node.mapped().sync_failed);
  return std::move(node.mapped().manifest);
}

void PreparedCommits::Forget(CheckpointUid uid) {
  MutexLock lock(mutex_);
  const auto found = preparations_.find(uid);
  if (found == preparations_.end()) return;
  if (found->second.manifest.has_value()) folder_->DropPreparedManifest(uid);
  preparations_.erase(found);
}

}  // namespace ckpt
