// From format 1, where a part was one row with all of its hashes and values, a leaf was a row, and
// a layout had its bytes in a row beside its reference count: digest 'b' and digest 'r'.
//
//   1. The leaves of each layout are packed from its bytes, whose row goes then.
//   2. Each part's row is split, in a batch that replaces it.
//   3. The caller writes the new format's number, synced: all before it lies in the log before it.
// Cut off by a crash it is done again: what was done has nothing left to do. A layout that cannot
// be read is forgotten, and its parts are served from their manifests' files.
#include <memory>
#include <utility>

#include "common/status_macros.h"
#include "server/index/rocks_index.h"

namespace ckpt {
namespace {

constexpr size_t kOldKeyBytes = 33;  // a digest and a letter

}  // namespace
absl::Status RocksIndex::UpgradeFromFormat1() {
  MutexLock lock(write_mutex_);
  std::vector<std::string> digests;
  CKPT_RETURN_IF_ERROR(
      ForEachRow(kLayouts, "", false, [&](absl::string_view key, absl::string_view) {
        if (key.size() == kOldKeyBytes && key.back() == 'b') {
          digests.emplace_back(key.substr(0, kOldKeyBytes - 1));
        }
        return absl::StatusOr<bool>(true);
      }));
  for (const std::string& digest : digests) {  // 1
    CKPT_ASSIGN_OR_RETURN(std::string bytes, Get(kLayouts, digest + 'b'));
    const absl::StatusOr<std::string> count = Get(kLayouts, digest + 'r');
    rocksdb::WriteBatch old_leaves;
    CKPT_RETURN_IF_ERROR(DeleteLeaves(old_leaves, digest));
    CKPT_RETURN_IF_ERROR(FromRocks(db_->Write({}, &old_leaves)));
    const auto layout = PartLayout::FromBytes(std::move(bytes));
    rocksdb::WriteBatch batch;
    batch.Delete(families_[kLayouts], digest + 'b');
    batch.Delete(families_[kLayouts], digest + 'r');
    if (count.ok() && layout.ok() && (*layout)->digest() == digest) {
      CKPT_RETURN_IF_ERROR(WriteLeaves(**layout, nullptr));
      batch.Put(families_[kLayouts], digest, *count);
    }
    CKPT_RETURN_IF_ERROR(FromRocks(db_->Write({}, &batch)));
  }
  CKPT_RETURN_IF_ERROR(ForEachRow(  // 2
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
        CKPT_RETURN_IF_ERROR(
            PutPart(batch, index_keys::IdOf<CheckpointUid>(key.substr(0, 16)), part, *layout));
        CKPT_RETURN_IF_ERROR(FromRocks(db_->Write({}, &batch)));
        return true;
      }));
  ForgetCachedSince(absl::InfiniteFuture());  // nobody has named one yet
  return absl::OkStatus();
}

}  // namespace ckpt
