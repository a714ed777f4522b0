#include "server/rpc/part_manifest.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace ckpt {

absl::StatusOr<v1::PartManifest> ReadPart(Index* index, DataFolder* folder, CheckpointUid uid,
                                          const v1::PartReference& reference) {
  absl::StatusOr<v1::PartManifest> manifest = index->GetPart(uid, reference.rank());
  if (manifest.ok()) return manifest;
  return folder->ReadPartManifest(reference);
}

absl::StatusOr<std::shared_ptr<const PartLayout>> LayoutOf(Index* index,
                                                           const v1::PartManifest& manifest) {
  const auto damaged = [&](absl::string_view what) {
    return absl::DataLossError(
        absl::StrCat("part manifest of rank ", manifest.rank(), " does not hold together: ", what));
  };
  std::shared_ptr<const PartLayout> layout = index->FindLayout(manifest.layout_digest());
  if (layout == nullptr) {
    auto made = PartLayout::FromProto(manifest.layout());
    if (!made.ok()) return damaged(made.status().message());
    layout = *std::move(made);
  }
  if (layout->digest() != manifest.layout_digest()) return damaged("its layout has another digest");
  if (layout->files().size() != static_cast<size_t>(manifest.files_size())) {
    return damaged("its data files are not those of its layout");
  }
  if (layout->block_count() != static_cast<uint64_t>(manifest.block_hashes_size())) {
    return damaged("its block hashes are not those of its layout");
  }
  for (int i = 0; i < manifest.files_size(); ++i) {
    if (manifest.files(i).first_shard() != layout->files()[i].first_shard ||
        manifest.files(i).shard_count() != layout->files()[i].shard_count) {
      return damaged("a data file holds other shards than its layout says");
    }
  }
  return layout;
}

}  // namespace ckpt
