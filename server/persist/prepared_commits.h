// What a commit needs, made while parts are being persisted: the index's tables of their layouts,
// and the checkpoint manifest, written and synced as `.partial` just before the last part's own
// syncs. The commit then has one sync to wait for, not two, and the file system's journal is
// written once for the part's names and this one.
#ifndef CKPT_SERVER_PERSIST_PREPARED_COMMITS_H_
#define CKPT_SERVER_PERSIST_PREPARED_COMMITS_H_

#include <map>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "server/index/index.h"
#include "server/persist/persister.h"
#include "server/storage/data_folder.h"

namespace ckpt {

// Thread-safe. Each checkpoint that Written has named must come to its Take or its Forget.
class PreparedCommits {
 public:
  PreparedCommits(DataFolder* folder, Index* index) : folder_(folder), index_(index) {}

  // The part's files are complete and have their final names; its syncs come next. The index takes
  // its layout (an error shows again at the commit). Where it is the last of its share the manifest
  // is written and synced, by this thread. Where that fails the commit writes it itself; but a sync
  // that failed is final, and Take's error.
  void Written(const PartToPersist& part, const v1::PartReference& reference);

  // What lies there as `<uid>.checkpoint.partial`, synced: the caller's from now on, to publish or
  // to write over.
  absl::StatusOr<std::optional<v1::CheckpointManifest>> Take(CheckpointUid uid);

  // There will be no commit of what was written so far.
  void Forget(CheckpointUid uid);

 private:
  struct Preparation {
    std::map<uint32_t, v1::PartReference> parts;  // by rank
    std::optional<v1::CheckpointManifest> manifest;
    absl::Status sync_failed;
  };

  DataFolder* const folder_;
  Index* const index_;
  Mutex mutex_;
  absl::flat_hash_map<CheckpointUid, Preparation> preparations_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_PERSIST_PREPARED_COMMITS_H_
