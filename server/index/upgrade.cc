// From format 1, where a part was one row with all of its hashes and values, and a leaf was a row.
//
//   1. The leaves of each layout are packed again, from the layout's own row.
//   2. Each part's row is split, in a batch that replaces it.
//   3. The caller writes the new format's number, synced: all before it lies in the log before it.
// Cut off by a crash it is done again: a part that was split has nothing left to split. A layout that
// cannot be read is forgotten, and its parts are served from their manifests' files.
#include <memory>
#include <utility>

#include "common/status_macros.h"
#include "server/index/rocks_index.h"

namespace ckpt {

absl::Status RocksIndex::UpgradeFromFormat1() {
  MutexLock lock(write_mutex_);
  std::vector<std::string> digests;
  CKPT_RETURN_IF_ERROR(
      ForEachRow(kLayouts, "", false, [&](absl::string_view key, absl::string_view) {
        if (key.back() == 'b') digests.emplace_back(key.substr(0, key.size() - 1));
        return absl::StatusOr<bool>(true);
      }));
  for (const std::string& digest : digests) {  // 1
    CKPT_ASSIGN_OR_RETURN(std::string bytes, Get(kLayouts, index_keys::LayoutBytes(digest)));
    const auto layout = PartLayout::FromBytes(std::move(bytes));
    const bool readable = layout.ok() && (*layout)->digest() == digest;
    rocksdb::WriteBatch batch;
    CKPT_RETURN_IF_ERROR(readable ? DeleteLeaves(batch, digest) : RemoveLayout(batch, digest));
    CKPT_RETURN_IF_ERROR(FromRocks(db_->Write({}, &batch)));
    if (readable) CKPT_RETURN_IF_ERROR(WriteLeaves(**layout));
  }
  return ForEachRow(  // 2
      kParts, "", false,
      [&](absl::string_view key, absl::string_view row) -> absl::StatusOr<bool> {
        v1::PartManifest part;
        if (!index_keys::IsPart(key) ||
            !part.ParseFromArray(row.data(), static_cast<int>(row.size())) ||
            (part.block_hashes().empty() && !part.has_values())) {
          return true;
        }
        const std::shared_ptr<const PartLayout> layout = FindLayout(part.layout_digest());
        if (layout == nullptr) return true;
        rocksdb::WriteBatch batch;
        CKPT_RETURN_IF_ERROR(PutPart(
            batch, index_keys::IdOf<CheckpointUid>(key.substr(0, 16)), part, layout->proto()));
        CKPT_RETURN_IF_ERROR(FromRocks(db_->Write({}, &batch)));
        return true;
      });
}

}  // namespace ckpt
